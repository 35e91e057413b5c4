"""Small real audio, and batches of it, that tests of several packages share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from salmonn_lab.batch import GENERATION, Batch, Prediction, Sample
from salmonn_lab.data.collate import collate
from salmonn_lab.predictions import read_predictions
from salmonn_lab.salmonn import Salmonn

WORDS = ["one two", "three", "four five six", "seven", "eight nine"]
SHORT = {"max_new_tokens": 6, "num_beams": 1}
"""How a benchmark is decoded where a test does not look at the answers."""


def few_fast(cases: Iterable[Any], count: int) -> list[Any]:
    """Cases of a parametrization, all but the first few of them for the slow suite."""
    cases = list(cases)
    return [*cases[:count], *(slow_case(case) for case in cases[count:])]


def slow_case(case: Any) -> Any:
    """Case of a parametrization that is left to the slow suite."""
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)


def waveform(seconds: float, seed: int) -> np.ndarray:
    """Return a tone in noise, different for every seed."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    tone = np.sin(2 * np.pi * generator.uniform(100, 2000) * time)
    return (0.3 * tone + 0.01 * generator.standard_normal(len(time))).astype(np.float32)


def make_samples(model: Salmonn) -> list[Sample]:
    """Return five samples of different audio, prompt and answer lengths."""
    tokenizer = model.llm.tokenizer

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    return [
        Sample(
            id=f"clip-{index}",
            waveform=torch.from_numpy(waveform(0.3 + 0.4 * index, index)),
            before_ids=(tokenizer.bos_token_id, *ids("USER: " * (1 + index % 2))),
            after_ids=ids(" please" * (1 + index % 3) + "\nASSISTANT:"),
            target_ids=(*ids(text), tokenizer.eos_token_id),
            prompt="USER: <SpeechHere>\nASSISTANT:",
            task="asr",
            references=(text,),
        )
        for index, text in enumerate(WORDS)
    ]


def make_batch(model: Salmonn, order: list[int] | None = None) -> Batch:
    """Return some of the five samples as one batch."""
    samples = make_samples(model)
    return collate(
        [samples[index] for index in (order if order is not None else range(len(samples)))], model.llm.pad_id
    )


def without_times(path: Path) -> list[Prediction]:
    """Return predictions without how long each took to generate, which no two runs share."""

    def untimed(prediction: Prediction) -> Prediction:
        generation: dict[str, Any] = dict(prediction.meta[GENERATION])
        assert generation.pop("seconds") > 0
        return replace(prediction, meta={**prediction.meta, GENERATION: generation})

    return [untimed(prediction) for prediction in read_predictions(path)]


def tiny_experiment(folder: Path, settings: Path, corpus: Path, runs: str, steps: int = 6) -> Path:
    """Write an experiment whose runs train the miniature model and answer the five clips; return its folder."""
    values = yaml.safe_load(settings.read_text())
    del values["out_dir"]
    values["trainer"]["max_steps"] = steps
    values["evaluation"] = {"benchmarks": [str(corpus)], "before": []}
    values["loggers"] = {"tensorboard": None}
    folder.mkdir(parents=True)
    (folder / "base.yaml").write_text(yaml.safe_dump(values))
    (folder / "sweep.py").write_text(
        '"""How many queries?"""\nfrom salmonn_lab.experiment import Sweep, grid\n'
        f"SWEEP = Sweep(base={str(folder / 'base.yaml')!r}, baseline={{'model.bridge.num_queries': 1}}, runs={runs})\n"
    )
    return folder
