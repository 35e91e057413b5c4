"""What a shorter type in the feature store does to a trained run's losses: `python benchmarks/feature_types.py`.

The run answers validation clips that it was not trained on, from audio and from a store of each type.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from salmonn_lab import runs
from salmonn_lab.config import RunConfig
from salmonn_lab.console import console, table
from salmonn_lab.data.features import Storage, size
from salmonn_lab.data.modules import SourceConfig
from salmonn_lab.encode import clips_of, fill
from salmonn_lab.evaluate import data_module
from salmonn_lab.progress import quiet_libraries
from salmonn_lab.salmonn import Salmonn

MANIFESTS = [f"asset:quickstart/{kind}_validation.jsonl" for kind in ("speech", "sounds", "questions")]


@torch.no_grad()
def clip_losses(model: Salmonn, config: RunConfig) -> tuple[Tensor, float]:
    """Return the loss of each clip, in nats a token, and the MiB of the store; without one, 0."""
    data, megabytes = data_module(config, model), 0.0
    if config.features is not None:
        data.features = fill(config, model.encoders, clips_of(config))
        megabytes = size(Path(config.features)) / 2**20
    data.setup("validate")
    means = []
    for batch in data.val_dataloader():
        losses = model.token_losses(batch)
        means += [part.mean() for part in losses.split(batch.target_mask.sum(1).tolist())]
    return torch.stack(means).double(), megabytes


def main() -> None:
    """Measure each type and print a table."""
    parser = argparse.ArgumentParser(description="Compares a run's losses from features of each type of storage.")
    parser.add_argument("--run", default="runs/quickstart", help="a run's folder (default: runs/quickstart)")
    quiet_libraries()
    run = runs.find(parser.parse_args().run)
    model = runs.load_model(run)
    config = run.config()
    config.evaluation.benchmarks, config.evaluation.before, config.data.sources = [], [], []
    config.data.validation = [SourceConfig(manifest) for manifest in MANIFESTS]
    config = runs.localize(config)
    wanted, _ = clip_losses(model, dataclasses.replace(config, features=None))
    rows = [["audio", f"{wanted.mean():.6f}", "", "", ""]]
    for storage in get_args(Storage):
        with tempfile.TemporaryDirectory() as folder:
            stored = dataclasses.replace(config, features=folder, features_dtype=storage)
            losses, megabytes = clip_losses(model, stored)
        apart = (losses - wanted).abs()
        shift = f"{losses.mean() - wanted.mean():+.1e}"
        rows.append([storage, f"{losses.mean():.6f}", shift, f"{apart.max():.1e}", f"{megabytes:.1f}"])
    columns = ["frames from", "mean loss", "change", "largest change of a clip's", "MiB"]
    console.print(table(f"{len(wanted)} clips of {run.folder.name}, losses in nats a token", columns, rows))


if __name__ == "__main__":
    main()
