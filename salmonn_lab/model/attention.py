"""What the bridge's queries attend to, to look at: no part of training or answering."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from salmonn_lab.batch import Frames
from salmonn_lab.model.bridge import Bridge


class Attention(NamedTuple):
    """Where each audio token of a clip looks, and which encoder it takes from."""

    weights: Float[Tensor, "layers heads tokens frames"]
    """Of cross-attention; each token's sum to 1 over the frames of 20 ms of the whole clip, 0 outside its window."""
    shares: Float[Tensor, "layers tokens encoders"]
    """How much of what a token takes up comes from each encoder; they sum to 1."""


@torch.no_grad()
def attention(bridge: Bridge, streams: Sequence[Frames]) -> Attention:
    """Return what the queries attend to in one clip.

    The keys and values of a frame are the sums of each encoder's part. What a token takes up from an encoder is its
    attention times that encoder's values; shares are of the lengths of these vectors, biases left out.

    Args:
        bridge: in evaluation mode, or dropout would show.
        streams: the encoders' frames of one clip, as `Salmonn.encode` returns them.

    Raises:
        ValueError: there is more than one clip.
    """
    if len(streams[0].features) != 1:
        raise ValueError(f"look at one clip at a time, got {len(streams[0].features)}")
    with caught(bridge) as layers:
        tokens = int(bridge(streams).mask.sum())
    parts = list(bridge.project_each(streams))
    count = parts[0].shape[1]
    whole, shares = [], []
    for layer, weights in enumerate(layers):
        placed = place(bridge, weights, count)[:, :tokens]
        whole.append(placed)
        heads, width = len(placed), bridge.config.hidden_dim
        start = (2 * layer + 1) * width  # each layer's values stand behind its keys
        lengths = []
        for part in parts:
            values = part[0, :, start : start + width].view(count, heads, -1).transpose(0, 1)
            lengths.append((placed @ values).transpose(0, 1).flatten(1).norm(dim=1))
        found = torch.stack(lengths, dim=1)
        shares.append(found / found.sum(1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny))
    return Attention(torch.stack(whole), torch.stack(shares))


@contextmanager
def caught(bridge: Bridge) -> Iterator[list[Tensor]]:
    """Have the Q-Former keep its attention weights, which fused attention does not have, and collect them by layer."""
    config, found = bridge.qformer.config, list[Tensor]()
    implementation = config._attn_implementation

    def keep(module: Any, inputs: Any, outputs: tuple[Tensor, Tensor]) -> None:
        found.append(outputs[1])

    modules = dict.fromkeys(module for module, _ in bridge.projections())
    hooks = [module.register_forward_hook(keep) for module in modules]
    config._attn_implementation = "eager"
    try:
        yield found
    finally:
        config._attn_implementation = implementation
        for hook in hooks:
            hook.remove()


def place(
    bridge: Bridge, weights: Float[Tensor, "windows heads queries kernel"], count: int
) -> Float[Tensor, "heads tokens count"]:
    """Return the weights of all windows of a clip over its frames; those beyond its last frame are left out."""
    windows, heads, queries, kernel = weights.shape
    step = 0 if bridge.config.level == "sequence" else bridge.config.stride
    placed = weights.new_zeros(heads, windows, queries, max(count, (windows - 1) * step + kernel))
    for window in range(windows):
        placed[:, window, :, window * step : window * step + kernel] = weights[window]
    return placed.flatten(1, 2)[..., :count]
