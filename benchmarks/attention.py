"""Forward and backward of the quickstart's LLM under each attention kernel: `python benchmarks/attention.py`.

Prints the median seconds of a step of sixteen rows of 36 tokens, kernels taking turns in one process.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from salmonn_lab.assets import resolve
from salmonn_lab.console import console, table
from salmonn_lab.model.llm import LanguageModel, LLMConfig, LoraConfig

KERNELS = ("sdpa", "eager")


def step(llm: LanguageModel, embeds: torch.Tensor, mask: torch.Tensor) -> float:
    """Return the seconds of one forward and backward pass."""
    start = time.perf_counter()
    hidden = llm.base.get_decoder()(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state
    hidden.float().square().mean().backward()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    llm = LanguageModel(
        LLMConfig(resolve("asset:smollm2-135m-instruct"), dtype=options.dtype), LoraConfig(dropout=0.0)
    ).train()
    embeds = (0.1 * torch.randn(16, 36, llm.dim, dtype=llm.embedding.weight.dtype)).requires_grad_()
    mask = torch.ones(16, 36, dtype=torch.long)
    mask[::2, 30:] = 0  # padding, so that neither kernel can leave out its mask
    seconds: dict[str, list[float]] = {kernel: [] for kernel in KERNELS}
    for round_number in range(options.rounds + 1):
        for kernel in KERNELS:
            llm.base.set_attn_implementation(kernel)
            taken = step(llm, embeds, mask)
            if round_number:  # the first warms up
                seconds[kernel].append(taken)
    medians = {kernel: statistics.median(times) for kernel, times in seconds.items()}
    rows = [[kernel, f"{value:.2f} s", f"{medians['sdpa'] / value:.2f}"] for kernel, value in medians.items()]
    console.print(table(f"LLM step, {options.dtype}", ["attention", "median", "times as fast as sdpa"], rows))


if __name__ == "__main__":
    main()
