"""Locks on files: one process at a time holds one, and the next is told which."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

INHERITED = "SALMONN_LAB_LOCK"
"""The environment variable with the descriptor of a lock that a process was started with."""
UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""How a file system says that it has no locks."""

log = logging.getLogger(__name__)
_descriptors: set[int] = set()


def _close_in_child() -> None:
    """Let a forked process, such as a loader's worker, not hold on to what its parent holds."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_in_child)


class Lock:
    """A file that one process at a time holds, and those that it starts with `descriptor`.

    The operating system lets go of it when the last of them has died, however that came about: a run goes on, and is
    left alone by others, though the sweep that started it was killed. (`filelock` would let go in the parent alone.)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False where another process has it. Where the file system has no locks, a warning says so."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not try_lock(descriptor, self.path):
            os.close(descriptor)
            return False
        self._hold(descriptor)
        return True

    def inherit(self) -> bool:
        """Take over the lock that this process was started with; False where it was started without."""
        text = os.environ.get(INHERITED, "")
        if not text.isdecimal():
            return False
        try:
            given, wanted = os.fstat(int(text)), self.path.stat()
        except OSError:
            return False
        if not os.path.samestat(given, wanted) or not try_lock(int(text), self.path):
            return False
        os.set_inheritable(int(text), False)
        self._hold(int(text))
        return True

    def release(self) -> None:
        """Close this process's hold on it; another process may still have its own."""
        if self.descriptor is not None:
            _descriptors.discard(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = None

    def holder(self) -> str:
        """Who holds the lock: command, host, process and since when, as far as the file tells."""
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            who = f"{record['command']} (host {record['host']}, process {record['pid']}, since {record['since']})"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it is written after the lock is taken
            return "another process"
        return who

    def _hold(self, descriptor: int) -> None:
        self.descriptor = descriptor
        _descriptors.add(descriptor)
        record = {
            "command": Path(sys.argv[0]).stem or "python",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with suppress(OSError):  # on a full disk the lock is held without a name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(record) + "\n").encode(), 0)


def try_lock(descriptor: int, path: Path) -> bool:
    """Lock an open file without waiting; False where another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        log.warning("%s: this file system has no locks: nothing keeps a second process away", path)
    return True


def is_locked(path: Path) -> bool:
    """Tell whether a process is at work behind a lock, without leaving a trace."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two that look see nobody
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
    return False
