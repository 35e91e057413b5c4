"""A short hash of frozen weights."""

from __future__ import annotations

import hashlib

from torch import nn


def fingerprint(part: nn.Module) -> str:
    """Return a hash of a part's frozen weights: names, shapes and a thousand values of every tensor."""
    digest = hashlib.sha256()
    for name, weight in part.named_parameters():
        if not weight.requires_grad:
            values = weight.detach().flatten()
            sample = values[:: max(1, values.numel() // 1000)].float().cpu().numpy()
            digest.update(f"{name} {tuple(weight.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()[:16]
