"""Hashes of weights: a sample of the frozen ones, every bit of the trainable ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

WRAPPED = "base_layer."
"""What PEFT puts into the name of a layer's weight when it wraps the layer."""


def fingerprint(part: nn.Module) -> str:
    """Return a hash of a part's frozen weights: names, shapes and a thousand values of every tensor.

    A linear layer counts by its own name where PEFT has put LoRA around it.
    """
    digest = hashlib.sha256()
    for name, weight in part.named_parameters():
        if not weight.requires_grad:
            values = weight.detach().flatten()
            sample = values[:: max(1, values.numel() // 1000)].float().cpu().numpy()
            digest.update(f"{name.replace(WRAPPED, '')} {tuple(weight.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()[:16]


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of every bit of some weights and of their names, types and shapes."""
    digest = hashlib.sha256()
    for name, weight in sorted(state.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
