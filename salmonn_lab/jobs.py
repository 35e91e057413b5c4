"""Runs of an experiment as processes: the lock, the log and the end of each, and several at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from salmonn_lab.console import console
from salmonn_lab.experiment import Planned, State
from salmonn_lab.files import write_atomically
from salmonn_lab.locks import INHERITED, Lock, is_locked

LAST_LINES = 12
"""Of its log, that a failed run keeps."""
LOG_TAIL = 20_000
"""Bytes of a log that are read for them."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGKILL)
STOPPED = {code for number in SIGNALS for code in (-number, 128 + number)}
"""How a process ends that a person, a scheduler or the kernel put an end to: no failure of the run."""
POLL = 0.5
"""Seconds between two looks at the processes."""
PATIENCE = 30.0
"""Seconds that a process has to end once it was asked to."""
PROMPT = "$ "
"""What stands before the command in a log."""
FULL = "No space left on device"


def state_of(run: Planned) -> State:
    """Return how far a run is: `begun` is one that was stopped, and goes on when it is started again."""
    if is_locked(run.lock):
        return "running"
    if run.failure.is_file():
        return "failed"
    if run.done():
        return "done"
    return "begun" if run.run.config_file.is_file() else "missing"


@dataclass
class Job:
    """A run at work in a process of its own."""

    planned: Planned
    lock: Lock
    process: subprocess.Popen[bytes]
    asked: bool = field(default=False)
    """Whether it was told to stop."""

    def ended(self) -> bool:
        """Tell whether the process is over."""
        return self.process.poll() is not None

    def ask(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """Ask the process, and those that it started, to stop: not as Ctrl-C, which is ignored in the background."""
        self.asked = True
        if not self.ended():
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, sign)

    def stop(self) -> None:
        """Stop the process: by asking, and after a while by force. What it has reached goes on from its checkpoint."""
        self.ask()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.ask(signal.SIGKILL)
            self.process.wait()
        self.lock.release()

    def close(self) -> Literal["done", "failed", "stopped"]:
        """Return how an ended process ended, let go of its lock, and record a failure.

        A run is done when its folder says so: a process that ends with code 0 before that has failed.

        Raises:
            OSError: the disk is full. That is no failure of the run: the same command goes on with it.
        """
        code = self.process.wait()
        try:
            if code in (0, *STOPPED) and self.planned.done():
                return "done"
            if self.asked or code in STOPPED:
                return "stopped"
            error = last_words(self.planned.log)
            if FULL in error:
                folder = str(self.planned.folder)
                raise OSError(errno.ENOSPC, f"{FULL}; make room and start the same command again", folder)
            if code == 0:
                error = f"its process ended with code 0 before the run was done\n{error}".strip()
            record = {"code": code, "error": error or f"its process ended with code {code} and said nothing"}
            write_atomically(self.planned.failure, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            return "failed"
        finally:
            self.lock.release()


def begin(planned: Planned, environment: Mapping[str, str] | None = None, *, retry: bool = False) -> Job | None:
    """Start a run, or go on with it.

    Args:
        planned: the run.
        environment: variables that its process gets beside this one's.
        retry: forget a failure that is recorded.

    Returns:
        None where there is nothing to do: another process is at work on it, or it has been done or has failed.
    """
    lock = Lock(planned.lock)
    if not lock.acquire():
        return None
    job = None
    try:
        if planned.failure.is_file() and retry:
            planned.failure.unlink()
        if not planned.failure.is_file() and not planned.done():
            job = Job(planned, lock, start(planned, lock, environment or {}))
        return job
    finally:
        if job is None:
            lock.release()


def start(planned: Planned, lock: Lock, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the process of a run, which holds the lock too; it prints to the run's log."""
    assert lock.descriptor is not None
    command = [sys.executable, *planned.command(resume=planned.run.config_file.is_file())]
    with planned.log.open("ab") as log:
        log.write(f"{PROMPT}{planned.typed()}\n".encode())
        log.flush()
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, INHERITED: str(lock.descriptor)},
            pass_fds=[lock.descriptor],
            start_new_session=True,  # so that Ctrl-C reaches it by way of the sweep alone
        )


def work(
    pending: Sequence[Planned],
    places: int = 1,
    *,
    retry: bool = False,
    environment: Mapping[str, str] | None = None,
    needed: float = 0.0,
) -> None:
    """Do runs, several at a time, until each is done or has failed, here or in another process that is at it.

    One that fails does not stop the others. Whatever ends this function early stops its processes first; the same
    call goes on from there.

    Args:
        pending: the runs.
        places: how many at a time.
        retry: try those again that have failed before.
        environment: variables for every process.
        needed: bytes of free disk without which none is started.

    Raises:
        OSError: the disk is full.
    """
    waiting = deque(pending)
    jobs: list[Job | None] = [None] * places
    elsewhere: set[str] = set()
    try:
        while waiting or any(jobs):
            for place, job in enumerate(jobs):
                if job is not None and job.ended():
                    jobs[place] = None
                    told(job, job.close())
                if jobs[place] is None:
                    jobs[place] = next_job(
                        waiting, {**share_of_machine(place, places), **(environment or {})}, retry, needed, elsewhere
                    )
            time.sleep(POLL)
    finally:
        for job in filter(None, jobs):
            job.ask()
        for job in filter(None, jobs):
            job.stop()


def next_job(
    waiting: deque[Planned], environment: Mapping[str, str], retry: bool, needed: float, elsewhere: set[str]
) -> Job | None:
    """Start the first run that can be; those that others are at work on stay in the queue, at its end."""
    for _ in range(len(waiting)):
        planned = waiting.popleft()
        check_room(planned.folder.parent, needed)
        job = begin(planned, environment, retry=retry)
        if job is not None:
            console.print(f"{planned.name}: started; it prints to {planned.log}", soft_wrap=True)
            return job
        state = state_of(planned)
        if state not in ("done", "failed"):
            waiting.append(planned)
            if state == "running" and planned.name not in elsewhere:
                elsewhere.add(planned.name)
                console.print(f"{planned.name}: another process is at work on it", soft_wrap=True)
    return None


def told(job: Job, end: Literal["done", "failed", "stopped"]) -> None:
    """Say how a run ended."""
    planned = job.planned
    if end == "failed":
        console.print(f"{planned.name}: failed: {planned.error().splitlines()[0]}", soft_wrap=True, markup=False)
    elif end == "stopped":
        killed = job.process.returncode == -signal.SIGKILL
        how = "killed, as the kernel does where memory runs out" if killed else "stopped"
        console.print(f"{planned.name}: {how}; the same command goes on with it", soft_wrap=True)
    else:
        seconds = sum(planned.run.provenance()["seconds"].values())
        console.print(f"{planned.name}: done, {seconds:.0f} s in all", soft_wrap=True)


def share_of_machine(place: int, jobs: int) -> dict[str, str]:
    """Return the environment in which the run in one of several places works: threads and GPUs are divided.

    Processes that each use every core slow one another down many times over.
    """
    if jobs == 1:
        return {}
    found = {}
    if "OMP_NUM_THREADS" not in os.environ:
        found["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    if len(gpus) > 1:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[place % len(gpus) :: jobs])
    return found


def last_words(log: Path) -> str:
    """Return the last lines of a log: from the kit's own error where it has one."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL))
        lines = [line.rstrip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    starts = [index for index, line in enumerate(lines) if line.startswith(PROMPT)]
    lines = lines[starts[-1] + 1 :] if starts else lines
    errors = [index for index, line in enumerate(lines) if line.startswith("error:")]
    return "\n".join(lines[errors[-1] :] if errors else lines[-LAST_LINES:])


def check_room(folder: Path, needed: float) -> None:
    """Refuse to start a run that the disk has no room for.

    Raises:
        OSError: tells how many bytes are free and needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC, f"{FULL}: {free / 2**30:.2f} GiB free, a run needs {needed / 2**30:.2f} GiB", str(folder)
        )
