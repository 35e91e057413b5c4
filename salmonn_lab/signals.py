"""Signals that ask a command to stop: Ctrl-C, a scheduler's or a person's SIGTERM, a closed terminal."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
"""The signals, and the word that a command ends with."""
REPEATED_SECONDS = 5.0
"""After so long a second signal ends a process at once. Until then it is ignored: it would cut the ending short."""


class Stopped(KeyboardInterrupt):
    """One of the signals has arrived; whatever treats Ctrl-C well treats it well."""


class StopSignals:
    """Raises `Stopped` in the main thread where a signal asks to stop, and remembers which one did.

    A signal that the process was started to ignore, as by `nohup` or in the background of a shell, stays ignored.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._process = -1
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        self.received, self._process, self._before = None, os.getpid(), {}
        if threading.current_thread() is threading.main_thread():  # the only one that may set handlers
            self._before = {
                number: handler
                for number in ENDINGS
                if (handler := signal.getsignal(number)) is not signal.SIG_IGN and handler is not None
            }
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Set the handlers again, where a library has put its own in their place; nothing outside a `with` block."""
        for number in self._before:
            signal.signal(number, self._handle)

    def check(self) -> None:
        """Raise `Stopped` where a signal has arrived and what it raised went unheard, as it does in a destructor."""
        if self.received is not None:
            raise Stopped(self.received.name)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked process, such as a loader's worker, ends in its own way
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self.received is None:
            self.received, self._since = signal.Signals(number), time.monotonic()
            raise Stopped(self.received.name)
        if time.monotonic() - self._since > REPEATED_SECONDS:
            os._exit(128 + number)


def end_at_once() -> None:
    """Let each of the signals end the process with one line and its exit code: nothing is under way yet."""

    def end(number: int, frame: FrameType | None) -> None:
        os.write(2, f"{ENDINGS[signal.Signals(number)]}\n".encode())
        os._exit(128 + number)

    for number in ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


stops = StopSignals()
"""Those of the command that this process runs."""
