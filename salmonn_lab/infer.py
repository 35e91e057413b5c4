"""The command that asks a run about audio files: `python -m salmonn_lab.infer --run RUN clip.wav "What is said?"`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from salmonn_lab import runs
from salmonn_lab.batch import Example, Prediction, Segment
from salmonn_lab.console import run_command
from salmonn_lab.data.modules import Benchmark
from salmonn_lab.evaluate import data_module
from salmonn_lab.files import write_atomically
from salmonn_lab.model.llm import DecodingConfig
from salmonn_lab.progress import quiet_libraries

LONGEST_SECONDS = 3600.0
"""Of a file that is heard whole, where the run hears the clip's own length; else 30 s are heard."""


def answer(run: runs.Run, files: Sequence[str], question: str, decoding: DecodingConfig) -> Iterator[Prediction]:
    """Yield the answer about each file, in order of length.

    A question without `<SpeechHere>` is put as the run's prompts put questions.
    """
    config = runs.localize(run.config())
    model = runs.load_model(run)
    model.decoding = decoding
    if config.model.bridge.span == "clip":
        config.data.max_seconds = LONGEST_SECONDS
    data = data_module(config, model)
    prompt = data.prompts.around(question)
    examples = [Example(file, (Segment(file),), task="question", target="") for file in files]
    for index, batch in enumerate(data.predict_loader(Benchmark(examples, prompt))):
        yield from model.predict_step(batch, index)


def main() -> None:
    """Run the command."""
    quiet_libraries()
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
    options = parser.parse_args()
    decoding = DecodingConfig(max_new_tokens=options.max_new_tokens, num_beams=options.num_beams)
    run, lines = runs.find(options.run), []
    for prediction in answer(run, options.files, options.question, decoding):
        record = {"audio": prediction.id, "prompt": prediction.prompt, "text": prediction.text}
        lines.append(json.dumps(record, ensure_ascii=False))
        if options.out is None:
            print(prediction.text if len(options.files) == 1 else lines[-1])
            sys.stdout.flush()
    if options.out is not None:
        write_atomically(options.out, "".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    run_command(main)
