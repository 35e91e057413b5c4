"""What the parts of the quickstart corpus share: the splits, and chance that depends on a clip's id alone."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import numpy as np

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def check_plan(split: str, scale: float) -> None:
    """Raise ValueError if there is no such split, or `scale` is not above 0."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got '{split}'")
    if not scale > 0:
        raise ValueError(f"scale must be above 0, got {scale}")


def generator_of(id: str) -> np.random.Generator:
    """Return the random generator of a clip's noise."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(id.encode()).digest()[:8]))
