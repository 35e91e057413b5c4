"""Checkpoints survive kills, full disks and damage: a run always has a whole one to resume from."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from salmonn_lab.training import checkpoints
from salmonn_lab.training.checkpoints import DurableCheckpointIO, best_loss, damage, settle


def state(step: int, size: int = 4) -> dict[str, Any]:
    return {"global_step": step, "state_dict": {"weight": torch.full((size,), float(step))}, "callbacks": {}}


def save(folder: Path, step: int) -> Path:
    DurableCheckpointIO().save_checkpoint(state(step), folder / "last.ckpt")
    return folder / "last.ckpt"


def flip_a_byte_of(weight: bytes, path: Path) -> None:
    content = path.read_bytes()
    place = content.index(weight)
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


def step_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def in_a_fork(work: Callable[[], None]) -> int:
    """Exit status of a forked process that does some work; a fork needs no import of torch."""
    process = os.fork()
    if process == 0:
        with contextlib.suppress(BaseException):
            work()
        os._exit(0)
    return os.waitpid(process, 0)[1]


def test_a_kill_before_the_rename_leaves_the_old_checkpoint_and_the_next_save_removes_the_stray_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def killed_while_saving() -> None:
        monkeypatch.setattr(checkpoints, "keep_previous", lambda path: os.kill(os.getpid(), signal.SIGKILL))
        save(tmp_path, 2)

    assert in_a_fork(killed_while_saving) == signal.SIGKILL
    assert step_of(tmp_path / "last.ckpt") == 1
    assert len(list(tmp_path.glob(".last.ckpt.*"))) == 1
    save(tmp_path, 3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert (step_of(tmp_path / "last.ckpt"), step_of(tmp_path / "previous.ckpt")) == (3, 1)


def test_the_temporary_folder_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    assert step_of(save(tmp_path / "run", 1)) == 1


def test_a_file_that_cannot_grow_is_named_and_the_old_checkpoint_stays(tmp_path: Path) -> None:
    path, said = save(tmp_path / "run", 1), tmp_path / "said"

    def save_more_than_there_is_room_for() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            DurableCheckpointIO().save_checkpoint(state(2, 1_000_000), path)
        except OSError as error:
            said.write_text(f"{error.errno} {error.filename}")

    in_a_fork(save_more_than_there_is_room_for)
    assert said.read_text() == f"{errno.EFBIG} {path}"
    assert step_of(path) == 1
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("kind", ["truncated", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(tmp_path: Path, kind: str) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    content = path.read_bytes()
    if kind == "flipped":
        flip_a_byte_of(torch.full((4,), 2.0).numpy().tobytes(), path)
    else:
        path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "foreign": b"hello"}[kind])
    settled, remark = settle(tmp_path)
    assert settled == path
    assert step_of(path) == 1
    assert (tmp_path / "last.ckpt.torn").is_file()
    assert str(path) in remark
    assert "resumes from previous.ckpt, step 1" in remark
    assert settle(tmp_path) == (path, "")


def test_without_an_earlier_one_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    flip_a_byte_of(torch.full((4,), 1.0).numpy().tobytes(), path)
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read as a checkpoint: the file is damaged"):
        settle(tmp_path)


def test_a_run_without_checkpoints_has_none_to_settle(tmp_path: Path) -> None:
    assert settle(tmp_path) == (None, "")


def test_a_kill_between_two_renames_leaves_the_previous_checkpoint_to_resume_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2).unlink()  # as on a file system without hard links
    settled, remark = settle(tmp_path)
    assert settled is not None
    assert step_of(settled) == 1
    assert "last.ckpt is missing" in remark


def test_where_hard_links_do_not_exist_the_previous_checkpoint_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(checkpoints.os, "link", refuse)
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert (step_of(tmp_path / "last.ckpt"), step_of(tmp_path / "previous.ckpt")) == (2, 1)


def test_the_best_loss_is_read_from_its_own_file_wherever_the_run_was_moved(tmp_path: Path) -> None:
    best = checkpoints.BestCheckpoint(tmp_path)
    assert best_loss(tmp_path / "best.ckpt") == float("inf")
    best.save_validated(state(5), 2.5)
    best.save_validated(state(6), 2.75)
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert best_loss(moved / "best.ckpt") == 2.5
    assert step_of(moved / "best.ckpt") == 5
    again = checkpoints.BestCheckpoint(moved)
    assert float(again.best_model_score) == 2.5
    assert again.best_k_models == {str(moved / "best.ckpt"): torch.tensor(2.5)}


def test_damage_reads_every_byte(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    assert damage(path) is None
    os.truncate(path, path.stat().st_size - 1)
    assert damage(path) is not None
