"""The command that makes manifests of corpora: `python -m salmonn_lab.prepare librispeech --root DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.markup import escape
from rich.padding import Padding

from salmonn_lab.console import console, run_command
from salmonn_lab.data.corpora.readers import CORPORA, Prepared, prepare


def describe(prepared: Prepared) -> str:
    """Return one line about a manifest: how many examples, how many were published, what was left out or mended."""
    of = "" if prepared.published in (None, prepared.count) else f" of {prepared.published:,} published"
    changes = [f"{len(names):,} left out: {reason}" for reason, names in prepared.left_out.items()]
    changes += [f"{len(names):,} mended: {change}" for change, names in prepared.mended.items()]
    return "; ".join([f"{prepared.manifest}: {prepared.count:,} examples{of}", *changes])


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m salmonn_lab.prepare",
        description="Turn a corpus, in the folders it was published in, into manifests; without a name, list corpora.",
        epilog="Example: python -m salmonn_lab.prepare librispeech --root /data/LibriSpeech --split test-clean",
    )
    parser.add_argument("corpus", nargs="?", help=f"one of {', '.join(CORPORA)}")
    parser.add_argument("--root", type=Path, help="the corpus's folder")
    parser.add_argument("--out", type=Path, default=Path("data"), help="where the manifests go (default: data)")
    parser.add_argument("--split", action="append", default=[], help="repeat for several; default: all that are there")
    options = parser.parse_args(sys.argv[1:])
    if options.corpus is None:
        for name, corpus in CORPORA.items():
            console.print(f"[bold]{name}[/]  {', '.join(corpus.splits)}")
            for line in (f"--root: {corpus.folder}", f"from: {corpus.how_to_get}", f"licence: {corpus.licence}"):
                console.print(Padding(escape(line), (0, 0, 0, 4)))
        return
    if options.root is None:
        raise ValueError(f"--root names the folder of {options.corpus}; `{parser.prog}` alone lists what it must be")
    options.out.mkdir(parents=True, exist_ok=True)
    for prepared in prepare(options.corpus, options.root, options.out, options.split).values():
        console.print(describe(prepared), soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
