"""The warm-up of the bridge: each objective against its definition, and against the other end of the scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from salmonn_lab.batch import AudioTokens
from salmonn_lab.model.alignment import SHARPNESS, Objective, alignment_losses

PIECES, DIM, BLANK = 40, 64, 2


@pytest.fixture
def table() -> Tensor:
    return torch.randn(PIECES, DIM)


def heard(table: Tensor, pieces: list[int], padding: int = 0) -> AudioTokens:
    """Return tokens that are embeddings of word pieces, then padding."""
    mask = torch.arange(len(pieces) + padding) < len(pieces)
    return AudioTokens(torch.cat([table[pieces], torch.randn(padding, DIM)])[None], mask[None])


def loss(table: Tensor, tokens: AudioTokens, target: list[int], kind: Objective, pieces: Tensor | None = None) -> float:
    return float(alignment_losses(tokens, [target], [kind], table, BLANK, pieces))


def test_ctc_is_that_of_torch_and_minds_the_order(table: Tensor) -> None:
    tokens = heard(table, [7, BLANK, 9, 11])
    cosines = functional.normalize(tokens.embeds, dim=-1) @ functional.normalize(table, dim=-1).T
    reference = functional.ctc_loss(
        (SHARPNESS * cosines).log_softmax(-1).transpose(0, 1),
        torch.tensor([[7, 9, 11]]),
        torch.tensor([4]),
        torch.tensor([3]),
        blank=BLANK,
        reduction="sum",
    )
    assert loss(table, tokens, [7, 9, 11], "ctc") == pytest.approx(float(reference), rel=1e-5)
    assert loss(table, tokens, [7, 9, 11], "ctc") < 0.1 < loss(table, tokens, [7, 11, 9], "ctc")


def test_a_bag_does_not_mind_the_order_but_every_piece_must_be_there(table: Tensor) -> None:
    target = [7, 9]
    there = loss(table, heard(table, [7, 9, 9, 7]), target, "bag")
    assert there == pytest.approx(2 * math.log(2), abs=0.05), "each piece has half of the mean distribution"
    assert loss(table, heard(table, [9, 7, 7, 9]), target, "bag") == pytest.approx(there, abs=1e-4)
    assert loss(table, heard(table, [7, 7, 7, 7]), target, "bag") > there + 5


@pytest.mark.parametrize("kind", ["ctc", "bag"])
def test_padding_and_batch_mates_change_nothing(table: Tensor, kind: Objective) -> None:
    alone = loss(table, heard(table, [7, BLANK, 9]), [7, 9], kind)
    padded = heard(table, [7, BLANK, 9], padding=3)
    assert loss(table, padded, [7, 9], kind) == pytest.approx(alone, rel=1e-5)
    other = heard(table, [1, 3, 5, 6, 8, 9])
    both = AudioTokens(torch.cat([padded.embeds, other.embeds]), torch.cat([padded.mask, other.mask]))
    for kinds in ([kind, "ctc"], [kind, "bag"]):
        losses = alignment_losses(both, [[7, 9], [3, 5]], kinds, table, BLANK)  # type: ignore[arg-type]
        assert float(losses[0]) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("kind", ["ctc", "bag"])
def test_a_vocabulary_only_leaves_out_competitors(table: Tensor, kind: Objective) -> None:
    tokens, few = heard(table, [7, BLANK, 9]), torch.tensor([BLANK, 7, 9, 30])
    renumbered = alignment_losses(tokens, [[1, 2]], [kind], table[few], blank=0)
    assert loss(table, tokens, [7, 9], kind, few) == pytest.approx(float(renumbered), rel=1e-5)


def test_a_clip_too_short_for_ctc_gives_zero_and_no_gradient(table: Tensor) -> None:
    tokens = heard(table, [7])
    tokens.embeds.requires_grad_()
    losses = alignment_losses(tokens, [[7, 9]], ["ctc"], table, BLANK)
    losses.sum().backward()
    assert float(losses.detach()) == 0
    assert tokens.embeds.grad is not None
    assert not tokens.embeds.grad.any()
