"""The process that times what a run takes beside its training: `python -m salmonn_lab.probe RUN OUT BENCHMARK ...`.

`estimate.py` starts it on a run that was trained for some seconds. It answers a few items of each benchmark, as
measuring would, and encodes their clips, as filling a feature store would.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from salmonn_lab import benchmarks, runs
from salmonn_lab.assets import resolve
from salmonn_lab.console import run_command
from salmonn_lab.data.manifest import read_manifest, write_manifest
from salmonn_lab.data.modules import Benchmark as Examples
from salmonn_lab.data.modules import SpeechDataModule
from salmonn_lab.encode import clips_of
from salmonn_lab.evaluate import data_module, predict, without_data
from salmonn_lab.files import write_atomically
from salmonn_lab.predictions import Answers
from salmonn_lab.progress import quiet_libraries
from salmonn_lab.salmonn import Salmonn

ITEMS = 24
"""Of a benchmark, evenly spread over its manifest."""


def main() -> None:
    """Time a run's answers and its encoders, and write seconds for all items and all clips as JSON."""
    quiet_libraries()
    folder, out, *names = sys.argv[1:]
    run = runs.find(folder)
    stored = run.config()
    config = runs.localize(replace(stored, evaluation=replace(stored.evaluation, benchmarks=names)))
    model = runs.load_model(run, None, config.model)
    data = data_module(config, model)
    data.setup("predict")
    measuring, encoding, clips = {}, 0.0, 0
    for benchmark in map(benchmarks.find, names):
        if without_data(benchmark) is not None:
            continue
        whole = read_manifest(resolve(benchmark.manifest))
        chosen = [whole[index] for index in sorted({place * len(whole) // ITEMS for place in range(ITEMS)})]
        seconds = seconds_of_answers(model, data, benchmark, chosen, config.trainer)
        measuring[benchmark.name] = seconds * len(whole) / len(chosen)
        encoding += seconds_of_encoding(model, data, Examples(chosen, benchmark.prompt))
        clips += len(chosen)
    rate = encoding / clips if clips else 0.0
    found = {"measuring": measuring, "encoding": rate * len(clips_of(config))}
    write_atomically(Path(out), json.dumps(found, indent=1) + "\n")


def seconds_of_answers(
    model: Salmonn, data: SpeechDataModule, benchmark: benchmarks.Benchmark, chosen: Sequence[Any], options: Any
) -> float:
    """Seconds that the answers to some items take."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "items.jsonl"
        write_manifest(manifest, chosen)
        some = replace(benchmark, manifest=str(manifest))
        start = time.monotonic()
        answers = Answers(Path(folder) / "answers" / f"{benchmark.name}.jsonl", {}, benchmark.name)
        predict(model, data, some, answers, options, heard="clip", again=True)
        return time.monotonic() - start


def seconds_of_encoding(model: Salmonn, data: SpeechDataModule, examples: Examples) -> float:
    """Seconds that the encoders take for the clips of some items, reading included."""
    start = time.monotonic()
    with torch.no_grad():
        for batch in data.predict_loader(examples):
            model.encoders(batch.waveforms.to(model.device), batch.lengths.to(model.device))
    return time.monotonic() - start


if __name__ == "__main__":
    run_command(main)
