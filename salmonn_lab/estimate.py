"""What the runs of an experiment take: known from those that are finished, else guessed from a short probe.

The probe trains the baseline for a few seconds, as a run of its own in `runs/.probe/`, and times the answers to some
items of each benchmark and the encoding of their clips (probe.py). What it says of the other settings is scaled by the
floating point operations of a training step (model/cost.py). It trains without a feature store, so its steps are
longer where runs have one; and a model trained for seconds seldom ends an answer, so its measuring is longer too.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal, TypeVar, cast

import torch

from salmonn_lab import runs
from salmonn_lab.config import RunConfig, load_config
from salmonn_lab.experiment import Experiment, Planned, assignments, read_stored
from salmonn_lab.files import read_json_object, write_atomically
from salmonn_lab.jobs import work
from salmonn_lab.model.bridge import Bridge
from salmonn_lab.model.cost import Clip, audio_tokens, part_costs
from salmonn_lab.model.encoders import Encoders
from salmonn_lab.model.llm import LanguageModel
from salmonn_lab.plain import read_plain

PROBE_SECONDS = 15
"""Of training, for each phase of it."""
CLIP = Clip(seconds=10.0, text_tokens=40, target_tokens=20)
"""The clip whose operations stand for a training step's."""
NO_STORE: dict[str, object] = {"features": None}
"""Keys that would have every clip encoded before the first step."""
Source = Literal["finished runs", "probe"]
Part = TypeVar("Part")


@dataclass(frozen=True)
class Work:
    """What one clip of 10 s costs a setting, by part of the model; with backward passes where training needs them."""

    flops: Mapping[str, int]
    tokens: int
    """Of audio, that the LLM reads."""
    weight_gib: float
    """Of weights, gradients and optimizer: what a run holds in memory at least."""
    trainable: int
    """Weights that learn."""

    @property
    def total(self) -> int:
        """Operations of all parts."""
        return sum(self.flops.values())


@dataclass(frozen=True)
class Estimate:
    """What a run takes."""

    seconds: float
    memory_gib: float
    disk_bytes: float
    source: Source
    measuring: float = 0.0
    """Seconds of those for benchmarks, before training and after, where a probe told them apart."""
    encoding: float = 0.0
    """Seconds for the feature store, which runs share: once for all, and not among `seconds`."""


@dataclass(frozen=True)
class Pace:
    """What a probe measured: seconds per step of alignment, where there is any, and of training."""

    align_seconds: float
    step_seconds: float
    start_seconds: float
    memory_gib: float
    checkpoint_bytes: int
    measuring: Mapping[str, float] = field(default_factory=dict)
    """Seconds for all items of each benchmark."""
    encoding: float = 0.0
    """Seconds for every clip that a run plays."""


def work_of(config: RunConfig) -> Work:
    """Return what a clip costs a model, no weight of which is loaded."""
    model = runs.localize(config.model)
    whole = model.bridge.span == "thirty_seconds"
    with torch.device("meta"):  # as Salmonn.skeleton, but of settings that share encoders or LLM these are made once
        encoders = kept(
            f"{model.whisper} {model.audio_encoder} {whole}",
            lambda: Encoders(model.whisper, model.audio_encoder, thirty_seconds=whole, load=False),
        )
        llm = kept(f"{model.llm} {model.lora}", lambda: LanguageModel(model.llm, model.lora, load=False))
        bridge = Bridge(model.bridge, encoders.dims, llm.dim, 1.0)
    parts = part_costs(encoders, bridge, llm, model.llm.quantization, CLIP)
    return Work(
        {part.name: part.flops + part.backward for part in parts},
        audio_tokens(CLIP.seconds, bridge),
        sum(part.weight_bytes + part.optimizer_bytes for part in parts) / 2**30,
        sum(part.trainable for part in parts),
    )


SKELETONS: dict[str, Any] = {}
"""Networks of shapes without values that were made, by their configurations; they take no memory to speak of."""


def kept(key: str, make: Callable[[], Part]) -> Part:
    """The network of a configuration, made where it is not there yet."""
    if key not in SKELETONS:
        SKELETONS[key] = make()
    return cast(Part, SKELETONS[key])


def estimates(experiment: Experiment, works: Mapping[str, Work], pace: Pace | None) -> dict[str, Estimate]:
    """Return what a run of each setting takes: as its finished ones, else as those of other settings, else as probed.

    Args:
        experiment: its finished runs are read.
        works: by setting, of each that could be reckoned.
        pace: of the baseline; None where there was no probe.

    Returns:
        nothing of a setting that nothing is known of.
    """
    known = {
        setting: finished
        for setting, planned in experiment.settings.items()
        if (finished := [cost_of(run) for run in planned if run.done()])
    }
    found = {}
    for setting, planned in experiment.settings.items():
        if setting in known:
            found[setting] = average(known[setting], 1.0)
        elif setting in works and any(other in works for other in known):
            scaled = [
                average(costs, works[setting].total / works[other].total)
                for other, costs in known.items()
                if other in works
            ]
            found[setting] = average(scaled, 1.0)
        elif pace is not None and setting in works and experiment.baseline in works:
            found[setting] = probed(planned[0].config, pace, works[setting].total / works[experiment.baseline].total)
    return found


def cost_of(run: Planned) -> Estimate:
    """Return what a finished run took."""
    record = run.run.provenance()
    size = sum(file.stat().st_size for file in run.folder.rglob("*") if file.is_file())
    return Estimate(sum(record["seconds"].values()), record.get("peak_memory_gib", 0.0), size, "finished runs")


def average(costs: list[Estimate], factor: float) -> Estimate:
    """Return the mean of what runs take, their time multiplied."""
    return Estimate(
        factor * mean(cost.seconds for cost in costs),
        max(cost.memory_gib for cost in costs),
        max(cost.disk_bytes for cost in costs),
        costs[0].source,
    )


def probed(config: RunConfig, pace: Pace, factor: float) -> Estimate:
    """Return what a run takes whose steps last so many times as long as the probe's."""
    steps = max(int(config.trainer.get("max_steps", 0)), 0)
    aligned = min(config.optim.align_steps, steps)
    training = aligned * pace.align_seconds + (steps - aligned) * pace.step_seconds
    kept = 2 if config.data.validation else 1  # last.ckpt, and best.ckpt
    measured = [Path(name).stem for name in (*config.evaluation.benchmarks, *config.evaluation.compared)]
    measuring = factor * sum(pace.measuring.get(name, 0.0) for name in measured)
    seconds = pace.start_seconds + factor * training + measuring
    encoding = 0.0 if config.features is None else pace.encoding
    return Estimate(seconds, pace.memory_gib, kept * pace.checkpoint_bytes, "probe", measuring, encoding)


def probe(experiment: Experiment) -> Pace:
    """Train the baseline for a few seconds, or read what an earlier call found of the same configuration.

    Raises:
        ValueError: the probe failed, as where the data or the weights are not here; the last words of its log say why.
    """
    planned = experiment.settings[experiment.baseline][0]
    folder = experiment.runs_folder / ".probe"
    seconds, steps, size = run_probe(planned, folder / "training", {"optim.align_steps": 0})
    step = align = seconds / steps
    if planned.config.optim.align_steps:
        seconds, steps, _ = run_probe(planned, folder / "alignment", {})
        align = seconds / steps
    record = runs.Run(folder / "training").provenance()
    names = planned.config.evaluation.benchmarks
    beside: dict[str, Any] = {"measuring": {}, "encoding": 0.0}
    if names:
        beside = time_beside(folder / "training", names)
    start = float(record["seconds"]["preparation"])
    return Pace(align, step, start, float(record["peak_memory_gib"]), size, beside["measuring"], beside["encoding"])


def time_beside(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Seconds of measuring each benchmark and of encoding every clip, timed once for each set of benchmarks.

    Raises:
        ValueError: the timing failed.
    """
    out, asked = folder / "beside.json", {"benchmarks": list(names)}
    if out.is_file() and (known := read_json_object(out)).get("asked") == asked:
        return known
    command = [sys.executable, "-m", "salmonn_lab.probe", str(folder), str(out), *names]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"code {ended.returncode}"]
        raise ValueError(f"measuring: {said[-1]}")
    found = read_json_object(out) | {"asked": asked}
    write_atomically(out, json.dumps(found, indent=1) + "\n")
    return found


def run_probe(planned: Planned, folder: Path, changes: Mapping[str, object]) -> tuple[float, int, int]:
    """Train for a few seconds into a folder, once for each configuration.

    Returns:
        seconds of training, steps in them, and bytes of a checkpoint.
    """
    short: dict[str, object] = {
        "trainer.max_time": {"seconds": PROBE_SECONDS},
        "evaluation.benchmarks": [],
        "evaluation.before": [],
        "data.validation": [],
        "checkpoint_every": 1_000_000,
        **{key: value for key, value in NO_STORE.items() if key in asdict(planned.config)},
        **changes,
    }
    overrides = {**planned.overrides, **short}
    config = load_config(planned.files, assignments(overrides))
    probing = replace(planned, name=f"probe of {folder.name}", overrides=overrides, config=config, folder=folder)
    if probing.run.config_file.is_file():
        stored = read_stored(folder)
        if stored is None or runs.changes(stored, config):
            shutil.rmtree(folder)
    work([probing], retry=True)
    if probing.failure.is_file():
        raise ValueError(probing.error().splitlines()[-1])
    seconds = float(probing.run.provenance()["seconds"]["training"])
    steps = int(read_plain(probing.run.checkpoint)["global_step"])
    return seconds, steps, probing.run.checkpoint.stat().st_size
