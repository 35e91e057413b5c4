"""How fast outputs came: against the length of the audio, and item by item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Speed:
    """Totals over all items, and the spread of the seconds that one takes."""

    count: int
    """Items."""
    audio_seconds: float
    seconds: float
    """Of work."""
    rtfx: float
    """Seconds of audio per second of work, all audio over all work, as the Open ASR leaderboard has it; not the mean of
    the items' own factors, in which short clips weigh as much as long ones."""
    median: float
    """Seconds of work of the middle item."""
    p95: float
    """Seconds of work that 95 % of the items stay below."""


def measure_speed(durations: Sequence[float], seconds: Sequence[float]) -> Speed:
    """Return the speed of some items.

    Args:
        durations: seconds of audio of each item.
        seconds: that each item took; of a batch, an equal share for each of its items.

    Raises:
        ValueError: the lengths differ, there are no items, or a number is not positive.
    """
    if len(durations) != len(seconds) or not len(durations):
        raise ValueError(f"speed needs both numbers of each item: got {len(durations)} durations, {len(seconds)} times")
    audio, work = np.asarray(durations, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    if not (audio > 0).all() or not (work > 0).all():
        raise ValueError("durations and times must be positive")
    median, p95 = np.quantile(work, [0.5, 0.95])
    total, spent = float(audio.sum()), float(work.sum())
    return Speed(len(work), total, spent, total / spent, float(median), float(p95))
