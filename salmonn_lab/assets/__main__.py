"""The command that lists the pinned parts, or fetches those it is given."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from salmonn_lab.assets.cache import cache_root, fetch, find, size_on_disk
from salmonn_lab.assets.table import ASSETS, Asset
from salmonn_lab.assets.wheels import MEGABYTE
from salmonn_lab.console import console, table


def megabytes(size: int) -> str:
    """Return a size for reading: `71 MB`."""
    return f"{max(round(size / MEGABYTE), 1)} MB"


def describe(asset: Asset) -> tuple[str, ...]:
    """Return one row of the list."""
    size = size_on_disk(asset)
    state = "not fetched" if size is None else f"ready, {megabytes(size)}"
    return asset.name, asset.what, asset.licence, megabytes(asset.download), state


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m salmonn_lab.assets",
        description="List the pinned parts, or fetch and convert those named.",
        epilog=f"They are kept in {cache_root()}; the environment variable SALMONN_LAB_CACHE names another folder. "
        "A configuration refers to one as asset:NAME or asset:NAME/sub/path.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(ASSETS)}")
    names = parser.parse_args(arguments).names
    try:
        if not names:
            columns = ("name", "what", "licence", "download", "state")
            Console().print(table(f"Pinned parts, kept in {cache_root()}", columns, map(describe, ASSETS.values())))
        for name in names:
            find(name)
        for name in names:
            print(fetch(name))
    except (ValueError, OSError) as error:
        console.print(f"error: {error}", markup=False, soft_wrap=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
