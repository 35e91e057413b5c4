"""The command that lists the commands: `python -m salmonn_lab`."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from salmonn_lab.command_line import COMMANDS
from salmonn_lab.console import run_command


def main() -> None:
    """Print every command and what it does."""
    listing = Table("command", "what it does", title="python -m salmonn_lab.COMMAND --help", title_justify="left")
    for name, does in COMMANDS.items():
        listing.add_row(f"python -m salmonn_lab.{name}", does)
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(listing)
    if wrong := [word for word in sys.argv[1:] if word not in ("-h", "--help")]:
        raise ValueError(f"there is no command here, got {' '.join(wrong)}: type python -m salmonn_lab.COMMAND")


if __name__ == "__main__":
    run_command(main)
