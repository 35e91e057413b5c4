"""Times five parts of the model against the plain way to do the same: `python benchmarks/model_parts.py`.

Both ways take turns in one process; printed are medians and their quotient, and how far the results lie apart.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torchaudio.compliance import kaldi

from salmonn_lab.batch import Frames
from salmonn_lab.console import console, table
from salmonn_lab.model import beats
from salmonn_lab.model.beats import MEAN, STD, Beats, BeatsConfig
from salmonn_lab.model.bridge import Bridge, BridgeConfig
from salmonn_lab.model.published import BEATS_CPT2
from salmonn_lab.model.yamnet import Yamnet

Way = Callable[[], Tensor]


def plain_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Do what `scaled_dot_product_attention` does in steps that keep every score in memory."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1) @ value


def fbank_ways(model: Beats, clips: int, seconds: float, dtype: torch.dtype) -> tuple[Way, Way]:
    """Return the filter bank of a whole batch, and torchaudio's of one clip after the other.

    The original runs the loop in float64, which is what soundfile gives it.
    """
    waves = 0.1 * torch.randn(clips, round(seconds * 16_000))
    given = waves.to(dtype)

    def one_by_one() -> Tensor:
        banks = [kaldi.fbank(wave[None] * 2**15, num_mel_bins=128, sample_frequency=16_000.0) for wave in given]
        return ((torch.stack(banks) - MEAN) / (2 * STD)).float()

    return lambda: model.fbank(waves), one_by_one


def beats_ways(model: Beats, clips: int, seconds: float) -> tuple[Way, Way]:
    """Return BEATs of the released size with PyTorch's fused attention, and with plain steps."""
    lengths = torch.linspace(0.5, 1.0, clips).mul(seconds * 16_000).long()
    waves = 0.1 * torch.randn(clips, int(lengths.max()))
    fused = functional.scaled_dot_product_attention

    def run(attention: Callable[..., Tensor]) -> Tensor:
        beats.functional.scaled_dot_product_attention = attention  # type: ignore[assignment]
        try:
            with torch.no_grad():
                return model(waves, lengths).features
        finally:
            beats.functional.scaled_dot_product_attention = fused

    return lambda: run(fused), lambda: run(plain_attention)


def yamnet_ways(model: Yamnet, clips: int) -> tuple[Way, Way]:
    """Return YAMNet's convolutions over a batch of short clips, and the same layers as PyTorch runs them."""
    patches = torch.randn(2 * clips, 1, 96, 64)

    def layer_by_layer() -> Tensor:
        x = patches
        for module in model.convolutions:
            convolution = cast(nn.Conv2d, module)
            x = functional.pad(x, (0, 1, 0, 1)) if convolution.stride == (2, 2) else x
            x = convolution(x).relu()
        return x.mean(dim=3).transpose(1, 2)

    no_gradient = torch.no_grad()
    return no_gradient(lambda: model._convolve(patches)), no_gradient(layer_by_layer)


def bridge_ways(clips: int) -> tuple[Way, Way]:
    """Return a training step of the published bridge over 30 s with all windows at once, and one window at a time."""
    bridge = Bridge(BridgeConfig(dropout=0.0), [1280, 768], 4096, 1.0)
    mask = torch.ones(clips, 1500, dtype=torch.bool)
    streams = [Frames(torch.randn(clips, 1500, dim), mask) for dim in (1280, 768)]

    def step(tokens: Tensor) -> Tensor:
        bridge.zero_grad()
        tokens.square().mean().backward()
        return tokens.detach()

    def window_by_window() -> Tensor:
        projected, whole = bridge.project(streams)
        starts = range(0, 1500 - 16, 17)
        return torch.cat([bridge.read(projected[:, i : i + 17], whole[:, i : i + 17]) for i in starts], dim=1)

    return lambda: step(bridge(streams).embeds), lambda: step(window_by_window())


def optimizer_ways() -> tuple[Way, Way]:
    """Return a step of AdamW over a bridge of the quickstart's size in one fused pass, and by PyTorch's default."""

    def way(fused: bool) -> Way:
        torch.manual_seed(0)
        weights = list(Bridge(BridgeConfig(hidden_dim=384, num_heads=6), [384, 1024], 576, 1.0).parameters())
        for weight in weights:
            weight.grad = 1e-3 * torch.randn_like(weight)
        optimizer = AdamW(weights, lr=1e-4, fused=fused)

        def step() -> Tensor:
            optimizer.step()
            return weights[0].detach()

        return step

    return way(True), way(False)


def compare(name: str, ours: Way, plain: Way, rounds: int) -> list[str]:
    """Return a row: both medians, the quotient, and the largest difference of the results."""
    seconds: dict[Way, list[float]] = {ours: [], plain: []}
    results = {}
    for turn in range(rounds + 1):
        for way, times in seconds.items():
            start = time.perf_counter()
            results[way] = way()
            if turn:  # the first warms up
                times.append(time.perf_counter() - start)
    mine, theirs = (statistics.median(seconds[way]) for way in (ours, plain))
    difference = float((results[ours] - results[plain]).abs().max())
    return [name, f"{mine:.3f} s", f"{theirs:.3f} s", f"{theirs / mine:.2f}", f"{difference:.0e}"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio a clip")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = Beats(BeatsConfig.read(BEATS_CPT2)).eval()
    rows = [
        *(
            compare(f"filter bank, 16 clips, {name}", *fbank_ways(model, 16, options.seconds, dtype), options.rounds)
            for name, dtype in (("float32 loop", torch.float32), ("float64 loop", torch.float64))
        ),
        compare("BEATs forward, 4 clips", *beats_ways(model, 4, options.seconds), options.rounds),
        compare("YAMNet, 6 clips of 2 s", *yamnet_ways(Yamnet().eval(), 6), options.rounds),
        compare("bridge step, 4 clips of 30 s", *bridge_ways(4), options.rounds),
        compare("AdamW, a bridge of 6 million weights", *optimizer_ways(), options.rounds),
    ]
    columns = ("part", "ours", "plain", "times as fast", "difference")
    console.print(table(f"{torch.get_num_threads()} threads, clips of {options.seconds:g} s", columns, rows))


if __name__ == "__main__":
    main()
