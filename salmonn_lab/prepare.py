"""The command that makes manifests of corpora: `python -m salmonn_lab.prepare librispeech --root DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.padding import Padding

from salmonn_lab.assets import data_root
from salmonn_lab.console import console, run_command
from salmonn_lab.known import CORPORA
from salmonn_lab.typed_yaml import suggest

if TYPE_CHECKING:  # readers are imported where they are used: what is wrong with a command line is said before
    from salmonn_lab.data.corpora.readers import Prepared

HUB = """\
Turn any audio dataset of the Hugging Face hub, or parquet files made like one, into a manifest. A YAML file says which
column is what; the manifest is named as the file, and measured as its task is:

  source: PolyAI/minds14       # a dataset of the hub, a parquet file, or a folder of them
  config: en-US                # of a dataset of the hub, as are the next two
  split: train                 # test, if left out
  revision: 75900a7            # a commit; without one, the next reading may give something else
  answers: number              # where numbers could be choices too: text, letter, number (from 0), number_from_1
  task: asr                    # how outputs are judged: asr, audiocaption, sound_label, audio_QA, ...
  columns:
    audio: audio               # 'audio', if left out; decoded by this kit, not by the dataset
    target: transcription      # the right answer, or one of them; of choices also the letter, or the number from 0
    references: answers        # all right answers: a text, or a list of texts
    question: question         # what is asked, where each row asks something else
    choices: options           # a list of texts; the question then shows them with letters
    id: path                   # rows are numbered, if left out
    meta: [lang_id]            # kept, and what a report is sliced by

Only source, task, columns and columns.target must be there.
"""


def describe(prepared: Prepared) -> str:
    """Return one line about a manifest: how many examples, how many were published, what was left out or mended."""
    of = "" if prepared.published in (None, prepared.count) else f" of {prepared.published:,} published"
    changes = [f"{len(names):,} left out: {reason}" for reason, names in prepared.left_out.items()]
    changes += [f"{len(names):,} mended: {change}" for change, names in prepared.mended.items()]
    return "; ".join([f"{prepared.manifest}: {prepared.count:,} examples{of}", *changes])


def list_corpora() -> None:
    """Print what can be read."""
    from salmonn_lab.data.corpora import readers

    for name, corpus in readers.CORPORA.items():
        console.print(f"[bold]{name}[/]  {', '.join(corpus.splits)}")
        for line in (f"--root: {corpus.folder}", f"from: {corpus.how_to_get}", f"licence: {corpus.licence}"):
            console.print(Padding(escape(line), (0, 0, 0, 4)))
    console.print("[bold]hub[/]  any audio dataset of the Hugging Face hub, or parquet files: prepare hub --help")


def prepare_corpus(arguments: list[str]) -> None:
    """Make the manifests of a corpus, or list the corpora."""
    parser = argparse.ArgumentParser(
        prog="python -m salmonn_lab.prepare",
        description="Turn a corpus, in the folders it was published in, into manifests; without a name, list corpora.",
        epilog="Example: python -m salmonn_lab.prepare librispeech --root /data/LibriSpeech --split test-clean. "
        "Benchmarks then find it by name; SALMONN_LAB_DATA names another folder of manifests than data/.",
    )
    parser.add_argument("corpus", nargs="?", help=f"one of {', '.join(CORPORA)}; or hub, which has its own --help")
    parser.add_argument("--root", type=Path, help="the corpus's folder")
    add_out(parser)
    parser.add_argument("--split", action="append", default=[], help="repeat for several; default: all that are there")
    options = parser.parse_args(arguments)
    if options.corpus is None:
        list_corpora()
        return
    if options.corpus not in CORPORA:
        hint = suggest(options.corpus, CORPORA)
        raise ValueError(f"there is no corpus '{options.corpus}'; there are {', '.join(CORPORA)}.{hint}")
    if options.root is None:
        raise ValueError(f"--root names the folder of {options.corpus}; `{parser.prog}` alone lists what it must be")
    if not options.root.is_dir():
        raise FileNotFoundError(f"--root: {options.root} is not a folder")
    from salmonn_lab.data.corpora.readers import prepare

    options.out.mkdir(parents=True, exist_ok=True)
    for prepared in prepare(options.corpus, options.root, options.out, options.split).values():
        console.print(escape(describe(prepared)), soft_wrap=True)


def prepare_hub(arguments: list[str]) -> None:
    """Make the manifest of a dataset that a file describes."""
    parser = argparse.ArgumentParser(
        prog="python -m salmonn_lab.prepare hub",
        description=HUB,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example: python -m salmonn_lab.prepare hub minds14.yaml, and then\n"
        "python -m salmonn_lab.evaluate --run RUN 'benchmarks=[data/minds14.jsonl]'",
    )
    parser.add_argument("description", type=Path, metavar="NAME.yaml", help="the file, as above")
    add_out(parser)
    options = parser.parse_args(arguments)
    if not options.description.is_file():
        raise FileNotFoundError(f"there is no {options.description}")
    from salmonn_lab.data.corpora import hub
    from salmonn_lab.data.corpora.readers import Prepared
    from salmonn_lab.data.manifest import write_manifest

    found, name = hub.read_source(options.description), options.description.stem
    reading = hub.read(
        found.source,
        found.task,
        found.columns,
        options.out / f"{name}_audio",
        config=found.config,
        split=found.split,
        revision=found.revision,
        answers=found.answers,
    )
    manifest = options.out / f"{name}.jsonl"
    write_manifest(manifest, reading)
    prepared = Prepared(manifest, len(reading), None, reading.left_out, reading.mended)
    console.print(escape(describe(prepared)), soft_wrap=True)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Let a parser take the folder of manifests."""
    folder = data_root()
    parser.add_argument("--out", type=Path, default=folder, help=f"where the manifests go (default: {folder})")


def main() -> None:
    """Run the command."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["hub"]:
        prepare_hub(arguments[1:])
    else:
        prepare_corpus(arguments)


if __name__ == "__main__":
    run_command(main)
