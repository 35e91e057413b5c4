"""Times BEATs' attention: PyTorch's fused kernel, the gated position bias as its mask, against plain steps.

    python benchmarks/beats_attention.py [seconds of audio] [clips]

Both run in turns in one process on the network of the released size with random weights; the median of five is shown.
"""

from __future__ import annotations

import math
import statistics
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional

from salmonn_lab.model import beats
from salmonn_lab.model.beats import Beats, BeatsConfig
from salmonn_lab.model.published import BEATS_CPT2


def plain_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Return what `scaled_dot_product_attention` does, in steps that keep every score in memory."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1) @ value


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    clips = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    torch.manual_seed(0)
    model = Beats(BeatsConfig.read(BEATS_CPT2)).eval()
    lengths = torch.linspace(0.5, 1.0, clips).mul(seconds * 16_000).long()
    waveforms = torch.randn(clips, int(lengths.max())) / 10
    kernels = {"fused": functional.scaled_dot_product_attention, "plain": plain_attention}
    times: dict[str, list[float]] = {name: [] for name in kernels}
    outputs = {}
    with torch.no_grad():
        for turn in range(6):
            for name, kernel in kernels.items():
                beats.functional.scaled_dot_product_attention = kernel  # type: ignore[assignment]
                start = time.perf_counter()
                outputs[name] = model(waveforms, lengths).features
                if turn:
                    times[name].append(time.perf_counter() - start)
    difference = float((outputs["fused"] - outputs["plain"]).abs().max())
    medians = {name: statistics.median(values) for name, values in times.items()}
    shown = ", ".join(f"{name} {value:.2f} s" for name, value in medians.items())
    print(
        f"{clips} clips of up to {seconds:g} s on {torch.get_num_threads()} threads: {shown}; "
        f"plain / fused = {medians['plain'] / medians['fused']:.2f}; largest difference {difference:.1e}"
    )


if __name__ == "__main__":
    main()
