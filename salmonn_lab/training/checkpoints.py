"""Checkpoints of a training run, written so that neither a kill nor a full disk loses the last whole one."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from salmonn_lab.files import UNFINISHED, remove_unfinished, writing
from salmonn_lab.plain import read_plain

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
VALIDATION_OWED = "validation_owed"
"""Key in the state of `LastCheckpoint`: whether a validation was still to come when it was saved."""
LOSS = "val_loss"


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target, flushes it to disk and then renames it.

    Lightning stages checkpoints in the system's temporary folder; where that is another file system they are copied
    over the target, and a kill in the copy leaves a torn file in place of a whole one. `last.ckpt` keeps the one before
    it as `previous.ckpt`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written, as on a full disk; the file is named, and what it held is still there.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent)
        with writing(path) as file:
            write(checkpoint, file, path)
            if path.name == LAST and path.is_file():
                keep_previous(path)


def write(checkpoint: Mapping[str, Any], file: Any, path: Path) -> None:
    """Write a checkpoint to an open file; torch's RuntimeError of a failed write becomes an OSError with its cause."""
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        cause = error.__context__ if isinstance(error.__context__, OSError) else None
        number = errno.ENOSPC if cause is None or cause.errno is None else cause.errno
        if cause is None and shutil.disk_usage(path.parent).free > 2**20:
            raise
        raise OSError(number, os.strerror(number), str(path)) from None


def keep_previous(path: Path) -> None:
    """Let `previous.ckpt` be what `last.ckpt` is now, without a moment in which there is neither."""
    staged = path.with_name(f".{PREVIOUS}.{os.getpid()}{UNFINISHED}")
    staged.unlink(missing_ok=True)
    try:
        os.link(path, staged)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, staged)
    staged.replace(path.with_name(PREVIOUS))


def settle(folder: Path) -> tuple[Path | None, str]:
    """Newest whole checkpoint of a run, which is `last.ckpt` afterwards, and a remark where that needed mending.

    A torn `last.ckpt` is kept as `last.ckpt.torn`, and `previous.ckpt` takes its place. None where nothing was saved.

    Raises:
        ValueError: `last.ckpt` is torn, and there is no whole one before it.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if last.is_file():
        problem = damage(last)
        if problem is None:
            return last, ""
        if not previous.is_file() or damage(previous) is not None:
            raise ValueError(
                f"{last} cannot be read as a checkpoint: {problem}; there is no earlier one to resume from"
            )
        last.replace(last.with_name(f"{LAST}.torn"))
        remark = f"{last} cannot be read: {problem}; it is kept as {LAST}.torn"
    elif previous.is_file() and damage(previous) is None:
        remark = f"{last} is missing"
    else:
        return None, ""
    with writing(last) as file:
        file.write(previous.read_bytes())
    return last, f"{remark}. Training resumes from {PREVIOUS}, step {read_plain(last)['global_step']}"


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's file, every byte of which is compared with its checksum; None if nothing is."""
    try:
        read_plain(path)["global_step"]
    except KeyError:
        return "it has no global_step"
    except (ValueError, OSError) as error:
        return str(error).partition(" cannot be read as a checkpoint: ")[2] or str(error)
    return None


class LastCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt` every so many optimizer steps, with a note whether a validation is due at that step."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(
            folder,
            filename=Path(LAST).stem,
            every_n_train_steps=every,
            enable_version_counter=False,
            auto_insert_metric_name=False,
        )
        self.validation_owed = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where a checkpoint is due. Validation, if any, follows this hook: a kill in it must not skip it."""
        loop = trainer.fit_loop
        assert loop._data_fetcher is not None
        self.validation_owed = loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that it was done; nothing is saved for it."""
        if not trainer.sanity_checking:
            self.validation_owed = False

    def state_dict(self) -> dict[str, Any]:
        """State of the callback, for the checkpoint."""
        return {**super().state_dict(), VALIDATION_OWED: self.validation_owed}


def owes_validation(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a validation was due when a `last.ckpt` was saved, so that it has to be run on resuming."""
    return any(bool(state.get(VALIDATION_OWED)) for state in checkpoint.get("callbacks", {}).values())


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the lowest validation loss as `best.ckpt`; that file itself tells what is to be beaten.

    Lightning takes that from the checkpoint it resumes from, which may be older than the best one, and forgets it where
    the folder was moved.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            filename=Path(BEST).stem,
            monitor=LOSS,
            enable_version_counter=False,
            auto_insert_metric_name=False,
        )
        self.path = folder / BEST
        self.best_from(best_loss(self.path))

    def best_from(self, loss: float) -> None:
        """Take a loss as the one to be beaten; inf is none."""
        if math.isfinite(loss):
            score, path = torch.tensor(loss), str(self.path)
            self.best_model_score = self.current_score = self.kth_value = score
            self.best_model_path = self.kth_best_model_path = path
            self.best_k_models = {path: score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: `best.ckpt` says more than the checkpoint that is resumed."""

    def save_validated(self, checkpoint: Mapping[str, Any], loss: float) -> None:
        """Let a loaded checkpoint be the best one if its validation loss, which was taken later, is the lowest."""
        if loss < best_loss(self.path):
            self.best_from(loss)
            states = {**checkpoint["callbacks"], self.state_key: self.state_dict()}
            DurableCheckpointIO().save_checkpoint({**checkpoint, "callbacks": states}, self.path)


def best_loss(path: Path) -> float:
    """Validation loss of a `best.ckpt`, nats per token; inf where there is no such file, or none that reads whole."""
    if not path.is_file() or damage(path) is not None:
        return math.inf
    for state in read_plain(path).get("callbacks", {}).values():
        if state.get("monitor") == LOSS and state.get("best_model_score") is not None:
            return float(state["best_model_score"])
    return math.inf
