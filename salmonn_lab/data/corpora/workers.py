"""The processes that make the clips of a corpus."""

from __future__ import annotations

import torch
from loky import ProcessPoolExecutor, cpu_count

MOST = 8
"""Each holds a few hundred megabytes of imports, which on a machine of many cores take longer than the clips."""


def clip_makers() -> ProcessPoolExecutor:
    """Return a process a core, at most `MOST`, of one thread: two of two threads rendered at a third of the speed.

    Those of `multiprocessing` would each import the command that runs, and with it every library of training.
    """
    return ProcessPoolExecutor(min(cpu_count(), MOST), initializer=torch.set_num_threads, initargs=(1,))
