"""The command that lists the pinned parts, or fetches those it is given: `python -m salmonn_lab.assets [NAME ...]`."""

from __future__ import annotations

import argparse

from rich.console import Console

from salmonn_lab.assets.cache import cache_root, fetch_all, find, location, size_on_disk
from salmonn_lab.assets.table import ASSETS, Asset
from salmonn_lab.assets.wheels import megabytes
from salmonn_lab.console import run_command, table


def describe(asset: Asset) -> tuple[str, ...]:
    """Return one row of the list."""
    size = size_on_disk(asset)
    state = "not fetched" if size is None else f"ready, {megabytes(size)}"
    return asset.name, asset.what, asset.licence, megabytes(asset.download), state


def show() -> None:
    """Print the list to standard output."""
    columns = ("name", "what", "licence", "download", "state")
    listing = table(f"Pinned parts, kept in {cache_root()}", columns, map(describe, ASSETS.values()))
    for column in listing.columns:
        # A name is there to be copied: only the descriptions may wrap on a narrow terminal.
        column.no_wrap = column.header not in ("what", "licence")
    listing.columns[1].justify = "left"
    Console().print(listing)


def main() -> None:
    """List the pinned parts, or fetch and convert those named."""
    parser = argparse.ArgumentParser(
        prog="python -m salmonn_lab.assets",
        description=main.__doc__,
        epilog=f"They are kept in {cache_root()}; the environment variable SALMONN_LAB_CACHE names another folder. "
        "A configuration refers to one as asset:NAME or asset:NAME/sub/path.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(ASSETS)}")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="hash every file again of those named, or of all that are there, and make again what is damaged",
    )
    options = parser.parse_args()
    names = options.names
    present = [name for name, asset in ASSETS.items() if location(asset).exists()]
    fetch_all(present if options.verify and not names else names, verify=options.verify)
    for name in names:
        print(location(find(name)))
    if not names:
        show()


if __name__ == "__main__":
    run_command(main, "the same command fetches what is missing")
