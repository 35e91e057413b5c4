"""The command that asks a run about audio files: `python -m salmonn_lab.infer --run RUN clip.wav "What is said?"`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from salmonn_lab.console import run_command
from salmonn_lab.data.decoding import read_header, shown
from salmonn_lab.files import write_atomically

if TYPE_CHECKING:  # imported where they are used: a file that is not there is said before PyTorch is loaded
    from salmonn_lab.batch import Prediction
    from salmonn_lab.model.config import DecodingConfig
    from salmonn_lab.runs import Run


def answer(
    run: Run, files: Sequence[str], question: str, decoding: DecodingConfig, max_seconds: float | None = None
) -> Iterator[Prediction]:
    """Yield the answer about each file, in the order given.

    Clips are read as the run's evaluation reads them; one that is cut is named in a warning.

    Args:
        run: answers.
        files: of audio.
        question: put about each; one without `<SpeechHere>` is put as the run's prompts put questions.
        decoding: how answers are generated.
        max_seconds: in place of the run's `data.max_seconds`.

    Raises:
        AudioError: a file cannot be read.
    """
    from salmonn_lab import runs
    from salmonn_lab.batch import Example, Segment
    from salmonn_lab.data.audio import audio_seconds, warn_if_cut
    from salmonn_lab.data.config import reading
    from salmonn_lab.data.modules import Benchmark
    from salmonn_lab.evaluate import data_module

    stored = run.config()
    if max_seconds is not None:
        stored = dataclasses.replace(stored, data=dataclasses.replace(stored.data, max_seconds=max_seconds))
    seconds = [audio_seconds([Segment(file)]) for file in files]
    for file, length in zip(files, seconds, strict=True):
        warn_if_cut(file, length, reading(stored.data))
    model = runs.load_model(run)
    model.decoding = decoding
    data = data_module(runs.localize(stored), model)
    prompt = data.prompts.around(question)
    examples = [
        Example(str(number), (Segment(file),), task="question", target="", duration=length)
        for number, (file, length) in enumerate(zip(files, seconds, strict=True))
    ]
    given: dict[int, Prediction] = {}
    following = 0
    for index, batch in enumerate(data.predict_loader(Benchmark(examples, prompt))):  # the longest first
        given.update((int(prediction.id), prediction) for prediction in model.predict_step(batch, index))
        while following in given:
            yield dataclasses.replace(given.pop(following), id=files[following])
            following += 1


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m salmonn_lab.infer",
        description="Ask a run about audio files; prints the answer, or a JSON line per file if there are several.",
        epilog='Example: python -m salmonn_lab.infer --run runs/quickstart clip.wav "What is said?"',
    )
    parser.add_argument("--run", required=True, help="the run's folder")
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files of any sample rate")
    parser.add_argument("question", help="what to ask about each file")
    parser.add_argument("--out", type=Path, help="write the JSON lines here instead")
    parser.add_argument("--max-new-tokens", type=int, default=60)
    parser.add_argument("--num-beams", type=int, default=1, help="1 is greedy")
    parser.add_argument(
        "--max-seconds", type=float, help="how much of a file is heard (default: the run's data.max_seconds)"
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Run the command."""
    options = parse(sys.argv[1:])
    if not (Path(options.run) / "config.yaml").is_file():
        raise FileNotFoundError(f"{options.run} is not a run: it has no config.yaml")
    for file in options.files:
        read_header(file)

    from salmonn_lab import runs
    from salmonn_lab.model.config import DecodingConfig
    from salmonn_lab.progress import quiet_libraries

    quiet_libraries()
    decoding = DecodingConfig(max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
    run, lines = runs.find(options.run), []
    for prediction in answer(run, options.files, options.question, decoding, options.max_seconds):
        record = {"audio": shown(prediction.id), "prompt": prediction.prompt, "text": prediction.text}
        lines.append(json.dumps(record, ensure_ascii=False))
        if options.out is None:
            print(prediction.text if len(options.files) == 1 else lines[-1])
            sys.stdout.flush()
    if options.out is not None:
        write_atomically(options.out, "".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    run_command(main)
