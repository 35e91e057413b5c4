"""Times a sweep with and without the feature store, and a step from it: `python benchmarks/features.py`.

Trains the quickstart's model on a few of its clips: steps of alignment, which run no LLM, and then steps of the LLM.
Runs from audio and runs from the store take turns in one process, so that both meet the machine in the same state;
every run of the sweep has its own order of clips. Counted are the steps with their reading and, once, the encoding; not
what starts a run, which both ways have in common. Printed are

- what a step waits for the store, as a part of a step on the same batches in memory (at most 5 % is wanted), and
- how many times as fast the sweep is, beside what arithmetic predicts: the encoders' share of a step is saved in all
  runs and paid once for every clip.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path

import torch

from salmonn_lab import runs
from salmonn_lab.batch import Batch, Frames
from salmonn_lab.config import RunConfig, load_config
from salmonn_lab.console import console, table
from salmonn_lab.data.features import FeatureStore
from salmonn_lab.data.manifest import read_manifest, write_manifest
from salmonn_lab.data.modules import SourceConfig
from salmonn_lab.encode import clips_of, fill
from salmonn_lab.evaluate import data_module
from salmonn_lab.progress import quiet_libraries
from salmonn_lab.salmonn import Salmonn

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
PAIRINGS = {
    "light": ["model.whisper.checkpoint=asset:whisper-tiny.en", "model.bridge.span=clip"],
    "heavy": ["model.whisper.checkpoint=asset:whisper-base", "model.bridge.span=thirty_seconds"],
}
"""Encoders beside YAMNet, and what they hear; the LLM is SmolLM2-135M."""
WAITING_STEPS = {"LLM": 8, "alignment": 40}
"""How many steps of each kind are waited for; alignment's are short, and clips come back in them."""


def configure(pairing: str, options: argparse.Namespace, folder: Path) -> RunConfig:
    """Return the quickstart with a pairing's encoders and a few clips, in equal parts from each of its sources.

    Its epochs are as long as a run, so that the first epoch of another seed is another run.
    """
    overrides = [*PAIRINGS[pairing], f"features={folder / 'store'}", f"data.max_batch_size={options.batch_size}"]
    overrides += ["data.batch_budget=1000000", "data.validation=[]", "evaluation.benchmarks=[]", "evaluation.before=[]"]
    overrides += [f"data.epoch_size={options.steps * options.batch_size}", f"optim.align_steps={options.align_steps}"]
    config = runs.localize(load_config([QUICKSTART], overrides))
    chosen = {
        example.audio: example
        for source in config.data.sources
        for example in islice(read_manifest(source.manifest), options.clips // len(config.data.sources))
    }
    examples = [dataclasses.replace(example, id=str(index)) for index, example in enumerate(chosen.values())]
    write_manifest(folder / "clips.jsonl", examples)
    config.data.sources = [SourceConfig(str(folder / "clips.jsonl"))]
    return config


def batches(config: RunConfig, model: Salmonn, seed: int, store: FeatureStore | None) -> Iterator[Batch]:
    """Return a run's batches, epoch after epoch; what comes before the first is done when this returns."""
    data = data_module(dataclasses.replace(config, seed=seed), model)
    data.features = store
    data.setup("fit")
    model.align_vocabulary = torch.tensor(data.target_pieces())
    loader = data.train_dataloader()
    return chain.from_iterable(repeat(loader))


def train(model: Salmonn, optimizer: torch.optim.Optimizer, some: Iterable[Batch], align_steps: int) -> float:
    """Take a step on each batch, the first ones of alignment; return the seconds, reading included."""
    start = time.perf_counter()
    for step, batch in enumerate(some):
        aligning = step < align_steps
        loss = model.align(model.hear(batch), batch) if aligning else model.token_losses(batch).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


def measure_waiting(
    model: Salmonn, optimizer: torch.optim.Optimizer, config: RunConfig, store: FeatureStore, kind: str
) -> list[str]:
    """Return cells: medians of a step on a batch in memory and of reading a batch, and what part reading is."""
    steps = WAITING_STEPS[kind]
    align_steps = steps if kind == "alignment" else 0
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, align_steps=align_steps))
    source, reading, stepping = batches(config, model, 0, store), [], []
    for _ in range(steps):
        start = time.perf_counter()
        batch = next(source)
        reading.append(time.perf_counter() - start)
        stepping.append(train(model, optimizer, [batch], align_steps))
    step, wait = (statistics.median(seconds[steps // 4 :]) for seconds in (stepping, reading))  # the first ones warm up
    return [f"{step:.3f} s", f"{1000 * wait:.1f} ms", f"{100 * wait / step:.2f} %"]


def measure_sweep(
    model: Salmonn,
    optimizer: torch.optim.Optimizer,
    config: RunConfig,
    store: FeatureStore,
    options: argparse.Namespace,
) -> tuple[float, float, float]:
    """Return the seconds of all runs from audio, those of them that the encoders took, and all from the store."""
    encode, encoders = model.encode, 0.0

    def timed(batch: Batch) -> tuple[Frames, ...]:
        nonlocal encoders
        start = time.perf_counter()
        outputs = encode(batch)
        if not batch.features:
            encoders += time.perf_counter() - start
        return outputs

    model.encode = timed  # type: ignore[method-assign]
    seconds = {None: 0.0, store: 0.0}
    for run in range(options.runs):
        for source in seconds:
            steps = islice(batches(config, model, run, source), options.steps)
            seconds[source] += train(model, optimizer, steps, options.align_steps)
    return seconds[None], encoders, seconds[store]


def compare(pairing: str, options: argparse.Namespace) -> tuple[list[list[str]], list[str]]:
    """Return a pairing's rows about waiting, one for each kind of step, and its row about the sweep."""
    with tempfile.TemporaryDirectory() as folder:
        config = configure(pairing, options, Path(folder))
        model = Salmonn(config.model, config.optim, total_steps=1000)
        optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-5)
        clips = clips_of(config)
        first, *_, last = islice(batches(config, model, 0, None), options.steps)
        train(model, optimizer, [first, last], min(1, options.align_steps))  # warms up
        start = time.perf_counter()
        store = fill(config, model.encoders, clips)
        encoding = time.perf_counter() - start
        waiting = [[pairing, kind, *measure_waiting(model, optimizer, config, store, kind)] for kind in WAITING_STEPS]
        audio, encoders, stored = measure_sweep(model, optimizer, config, store, options)
    share = encoders / audio
    once = encoders * len(clips) / (options.runs * options.steps * options.batch_size)
    predicted = audio / (audio - encoders + once)
    factor = audio / (stored + encoding)
    sweep = [f"{audio:.0f} s", f"{stored:.0f} + {encoding:.0f} s", f"{100 * share:.0f} %"]
    sweep += [f"{factor:.2f}", f"{predicted:.2f}", f"{factor / predicted:.2f}"]
    return waiting, [pairing, *sweep]


def main() -> None:
    """Measure and print."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairing", choices=PAIRINGS, help="one of the pairings (default: all)")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=9, help="of a run")
    parser.add_argument(
        "--align-steps",
        type=int,
        default=8,
        help="how many of those are of alignment (quickstart: 2,400 of 2,670)",
    )
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    torch.manual_seed(0)
    pairs = [compare(name, options) for name in ([options.pairing] if options.pairing else PAIRINGS)]
    title = f"{torch.get_num_threads()} threads, {options.clips} clips, batches of {options.batch_size}"
    columns = ("pairing", "step", "in memory", "waiting for the store", "part of a step")
    console.print(table(title, columns, [row for rows, _ in pairs for row in rows]))
    columns = ("pairing", "from audio", "from the store", "encoders' share", "times as fast", "predicted", "quotient")
    title = f"{options.runs} runs of {options.steps} steps, {options.align_steps} of them of alignment"
    console.print(table(title, columns, [sweep for _, sweep in pairs]))


if __name__ == "__main__":
    main()
