"""The command that measures trained runs under other settings than they were trained with: no training, one report.

`python -m salmonn_lab.vary --run RUN`: LoRA at other scales (the paper's study of activation), and silence, noise,
another clip or one encoder fewer in place of what is heard. A score that stays as it is without the audio does not come
from the audio.
"""

from __future__ import annotations

from salmonn_lab import command_line

if __name__ == "__main__":
    command_line.check(command_line.check_vary)

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from salmonn_lab import report, runs
from salmonn_lab.command_line import full_keys
from salmonn_lab.config import RunConfig
from salmonn_lab.console import console, run_command
from salmonn_lab.data.config import Heard
from salmonn_lab.evaluate import DEAF, destination, joined, measure, read_results, ready, stored_results
from salmonn_lab.model.config import ModelConfig
from salmonn_lab.progress import quiet_libraries
from salmonn_lab.study import Variant, study_of_variants

SHARES = (0.0, 0.25, 0.5, 0.75, 1.25)
"""Of alpha / rank, the scale that LoRA was trained at: where else it is measured unless scales are given."""
SCALE, HEARD = "model.lora.scale", "evaluation.audio"
QUESTION = "How do scores go with the scale of LoRA, and how much of them does the audio carry?"
AS_TRAINED = "as trained"


@dataclass(frozen=True)
class Change:
    """One way to measure a run otherwise than it was trained; of nothing, the run as it is."""

    scale: float | None = None
    """Of LoRA; None is as trained."""
    heard: Heard = "clip"

    @property
    def overrides(self) -> list[str]:
        """What `python -m salmonn_lab.evaluate` is given for it."""
        scale = [] if self.scale is None else [f"{SCALE}={self.scale:g}"]
        return [*scale, *([] if self.heard == "clip" else [f"{HEARD}={self.heard}"])]

    @property
    def name(self) -> str:
        """How it is told in tables."""
        return ", ".join(self.overrides).replace("model.", "").replace("evaluation.", "") or AS_TRAINED


def default_scales(model: ModelConfig) -> list[float]:
    """Return the scales of LoRA that a model is measured at, none where it has no LoRA."""
    lora = model.lora
    return [] if lora is None else [round(share * lora.alpha / lora.rank, 6) for share in SHARES]


def default_heard(model: ModelConfig) -> list[Heard]:
    """Return what a model is made to hear: everything that makes sense for its encoders.

    With one encoder alone, to turn it off is to hear nothing at all, which silence shows already.
    """
    both = model.whisper is not None and model.audio_encoder is not None
    return [heard for heard in get_args(Heard) if heard != "clip" and (both or heard not in DEAF)]


def measure_run(
    run: runs.Run, changes: Sequence[Change], overrides: Sequence[str], *, wait: bool = False
) -> dict[Change, Path]:
    """Measure one run under every change, the model being loaded once, and return the folders of its results.

    What is answered already is kept, so a call that was stopped goes on.
    """
    config = run.config(["evaluation.likelihood=true", *overrides])
    lora = config.model.lora
    if lora is None and any(change.scale is not None for change in changes):
        raise ValueError(f"{run.folder} was trained without LoRA: there is no scale to change")
    folders = {change: destination(run, None, [*overrides, *change.overrides]) for change in changes}
    for folder in folders.values():
        read_results(folder / runs.SCORES)  # a torn one is better known now than after the measuring
    stored = stored_changes(run, config, folders)
    if stored is None:
        model, data = ready(run, None, config)
        trained = None if lora is None else lora.alpha / lora.rank
    for change, folder in folders.items():
        console.print(f"[bold]{run.folder}: {change.name}")
        with runs.locked(folder, wait=wait):
            if stored is None:
                if model.config.lora is not None and trained is not None:
                    model.config.lora.scale = change.scale
                    model.llm.set_lora_scale(trained if change.scale is None else change.scale)
                names, predictions = config.evaluation.benchmarks, folder / runs.PREDICTIONS
                results = measure(model, data, names, predictions, config.trainer, heard=change.heard)
            else:
                results = stored[change]
            if runs.first_process():
                report.write_scores(folder / runs.SCORES, joined(folder / runs.SCORES, results))
    return folders


def stored_changes(
    run: runs.Run, config: RunConfig, folders: Mapping[Change, Path]
) -> dict[Change, list[report.BenchmarkResult]] | None:
    """Results of every change, where all is answered already and no model needs to be built; None else."""
    found = {}
    for change, folder in folders.items():
        lora = config.model.lora
        model = replace(config.model, lora=None if lora is None else replace(lora, scale=change.scale))
        varied = replace(config, model=model)
        results = stored_results(run, None, varied, folder / runs.PREDICTIONS, heard=change.heard)
        if results is None:
            return None
        found[change] = results
    return found


def vary(
    places: Sequence[Path],
    overrides: Sequence[str],
    out: Path,
    scales: Sequence[float] | None = None,
    heard: Sequence[Heard] | None = None,
    *,
    wait: bool = False,
) -> Path:
    """Measure runs under every change, and write a report that compares each with the runs as they were trained.

    Args:
        places: folders of runs that differ in their seed, or one.
        overrides: `evaluation.benchmarks=[...]` and other keys.
        out: where the report goes.
        scales: of LoRA; None is `default_scales` of the first run.
        heard: None is `default_heard` of the first run.
        wait: for another process that is at work on one of them, instead of raising.

    Returns:
        the page for browsers.
    """
    found = [runs.find(place) for place in places]
    model = found[0].config().model
    changes = [
        Change(),
        *(Change(scale=scale) for scale in (default_scales(model) if scales is None else scales)),
        *(Change(heard=one) for one in (default_heard(model) if heard is None else heard)),
    ]
    folders = {run.folder.name: measure_run(run, changes, overrides, wait=wait) for run in found}
    lora = model.lora
    as_trained = {} if lora is None else {"lora.scale": f"{lora.alpha / lora.rank:g}"}
    variants = [
        Variant(
            change.name,
            {**(as_trained if change.scale is None else {"lora.scale": f"{change.scale:g}"}), "audio": change.heard},
            {name: places[change] / runs.PREDICTIONS for name, places in folders.items()},
        )
        for change in changes
    ]
    names = found[0].config(overrides).evaluation.benchmarks
    out.mkdir(parents=True, exist_ok=True)
    study = study_of_variants(", ".join(folders), QUESTION, names, variants)
    return report.write_study_pages(out, study)


def main() -> None:
    """Run the command."""
    quiet_libraries()
    options = command_line.check_vary(sys.argv[1:])
    out = options.out or runs.find(options.run[0]).folder / "variants"
    page = vary(options.run, full_keys(options.overrides), out, options.scales, options.audio, wait=options.wait)
    if runs.first_process():
        console.print(f"report: {page}", soft_wrap=True)


if __name__ == "__main__":
    run_command(main, "the same command goes on from there")
