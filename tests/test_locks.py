"""Locks: one process at a time, told by name to the next, and let go of however it ends."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from salmonn_lab import runs
from salmonn_lab.locks import INHERITED, Lock, is_locked

HOLDER = """
import os, sys, time
from pathlib import Path
from salmonn_lab.locks import Lock
lock = Lock(Path(sys.argv[1]))
assert lock.acquire()
if sys.argv[2:] == ["fork"]:
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(begun, b"x")
        time.sleep(60)
    os.read(ready, 1)
    print(child, flush=True)
print("held", flush=True)
time.sleep(60)
"""
INHERITOR = """
import sys
from pathlib import Path
from salmonn_lab.locks import Lock
lock = Lock(Path(sys.argv[1]) / ".lock")
assert lock.inherit()
print("held", flush=True)
sys.stdin.readline()
"""


def holder(path: Path, *arguments: str) -> tuple[subprocess.Popen[str], list[str]]:
    """Start another process that holds a lock; return it and what it said before."""
    words = [sys.executable, "-c", HOLDER, str(path), *arguments]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = []
    while (line := process.stdout.readline()) != "held\n":
        assert line, "it ended without the lock"
        said.append(line)
    return process, said


def test_the_second_is_told_who_holds_a_lock_and_a_dead_process_holds_none(tmp_path: Path) -> None:
    process, _ = holder(tmp_path / ".lock")
    with pytest.raises(BlockingIOError) as caught, runs.locked(tmp_path):
        pass
    time_of_day = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
    who = rf"-c \(host {re.escape(socket.gethostname())}, process {process.pid}, since {time_of_day}\)"
    wanted = rf"{re.escape(str(tmp_path))}: {who} is at work on it; wait for its end with --wait, or stop it"
    assert re.fullmatch(wanted, str(caught.value))
    process.send_signal(signal.SIGKILL)
    process.wait()
    with runs.locked(tmp_path):
        assert is_locked(tmp_path / ".lock")
    assert not is_locked(tmp_path / ".lock")


def test_waiting_ends_with_the_other_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process, _ = holder(tmp_path / ".lock")
    start = time.monotonic()
    killer = subprocess.Popen(["sh", "-c", f"sleep 1; kill {process.pid}"])
    with runs.locked(tmp_path, wait=True):
        assert time.monotonic() - start > 0.9
    killer.wait()
    process.wait()
    assert f"process {process.pid}, since" in " ".join(capsys.readouterr().err.split())


def test_a_forked_worker_does_not_hold_what_its_dead_parent_held(tmp_path: Path) -> None:
    process, (child,) = holder(tmp_path / ".lock", "fork")
    process.kill()
    process.wait()
    try:
        assert not is_locked(tmp_path / ".lock")
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_process_takes_over_the_lock_that_it_was_started_with(tmp_path: Path) -> None:
    lock = Lock(tmp_path / ".lock")
    assert lock.acquire()
    assert lock.descriptor is not None
    words = [sys.executable, "-c", INHERITOR, str(tmp_path)]
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[lock.descriptor],
        env={**os.environ, INHERITED: str(lock.descriptor)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    lock.release()
    assert f"process {process.pid}," in lock.holder()
    assert not Lock(tmp_path / ".lock").acquire(), "the one that was started holds it alone"
    process.communicate("\n")
    assert process.returncode == 0
    assert not is_locked(tmp_path / ".lock")


@pytest.mark.parametrize("given", ["", "x", "99999", "0"])
def test_a_descriptor_that_is_not_the_locks_is_not_taken_for_it(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INHERITED, given)
    lock = Lock(tmp_path / ".lock")
    assert not lock.inherit()
    assert lock.acquire()
    assert not Lock(tmp_path / ".lock").inherit()
    lock.release()


def test_a_glance_at_a_lock_does_not_turn_a_process_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lock").touch()
    with (tmp_path / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not is_locked(tmp_path / ".lock"), "two that look do not take one another for a holder"
        monkeypatch.setattr(runs.time, "sleep", lambda seconds: fcntl.flock(file, fcntl.LOCK_UN))
        with runs.locked(tmp_path):
            pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\ud800".encode("utf-8", "surrogatepass")])
def test_a_holder_that_has_not_said_its_name_yet_is_another_process(text: str | bytes, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(text.encode() if isinstance(text, str) else text)
    assert Lock(tmp_path / ".lock").holder() == "another process"


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with caplog.at_level(logging.WARNING), runs.locked(tmp_path):
        assert not is_locked(tmp_path / ".lock")
    assert caplog.messages == [
        f"{tmp_path / '.lock'}: this file system has no locks: nothing keeps a second process away"
    ]
