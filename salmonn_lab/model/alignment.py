"""A warm-up of the bridge: its tokens are drawn to the LLM's embeddings of what is heard. Ours, not the paper's.

The LLM is not run, so a step costs little. A token's logit for a word piece is the cosine of the two, sharpened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from salmonn_lab.batch import AudioTokens
from salmonn_lab.optim import Objective

SHARPNESS = 32.0
"""Turns cosines in [-1, 1] into logits that can single out one of 50,000 word pieces. Measured on the quickstart's
validation speech after about 11,000 clips of alignment: word error rates by CTC of 36 % at 10, 13 at 20, 7 at 32."""


def alignment_losses(
    audio: AudioTokens,
    targets: Sequence[Sequence[int]],
    objectives: Sequence[Objective],
    embeddings: Float[Tensor, "all_pieces dim"],
    blank: int,
    vocabulary: Int[Tensor, " pieces"] | None = None,
) -> Float[Tensor, " batch"]:
    """Loss of each clip's audio tokens against its target, in nats, summed over the target; shape (clips,), float32.

    It is computed in float32 whatever the trainer's precision: CTC knows no bfloat16.

    Args:
        audio: the bridge's tokens.
        targets: word pieces of each clip, without an end symbol.
        objectives: how each clip is judged.
        embeddings: the LLM's table.
        blank: the word piece that stands for nothing, in CTC.
        vocabulary: the word pieces that compete, sorted, the blank and all targets among them; None is all, which on a
            CPU costs most of a step. A clip of fewer tokens than CTC needs gives zero.
    """
    device = embeddings.device
    if vocabulary is None:
        vocabulary = torch.arange(len(embeddings), device=device)
    with torch.autocast(device.type, enabled=False):
        table = functional.normalize(embeddings[vocabulary].float(), dim=-1)
        log_probs = (SHARPNESS * functional.normalize(audio.embeds.float(), dim=-1) @ table.T).log_softmax(-1)

    def places(ids: Sequence[int]) -> Tensor:
        return torch.searchsorted(vocabulary, torch.tensor(ids, dtype=torch.long, device=device))

    losses = log_probs.new_zeros(len(targets))
    ordered = [row for row, objective in enumerate(objectives) if objective == "ctc"]
    if ordered:
        losses[ordered] = functional.ctc_loss(
            log_probs[ordered].transpose(0, 1),
            places([piece for row in ordered for piece in targets[row]]),
            audio.mask[ordered].sum(1),
            torch.tensor([len(targets[row]) for row in ordered], device=device),
            blank=int(places([blank])),
            reduction="none",
            zero_infinity=True,
        )
    for row in set(range(len(targets))).difference(ordered):
        losses[row] = bag_loss(log_probs[row], audio.mask[row], places(targets[row]))
    return losses


def bag_loss(
    log_probs: Float[Tensor, "tokens pieces"], mask: Bool[Tensor, " tokens"], target: Int[Tensor, " target"]
) -> Float[Tensor, ""]:
    """Return how surprising the target's pieces are to the mean of the tokens' distributions."""
    mean = torch.logsumexp(log_probs[mask], dim=0) - math.log(int(mask.sum()))
    return -mean[target].sum()
