"""Batches pad at the right, and their masks say where."""

from __future__ import annotations

import pytest
import torch

from salmonn_lab.batch import ClipFrames, Sample
from salmonn_lab.data.collate import collate, pad_frames


def sample(name: str, length: int, before: int, after: int, target: int) -> Sample:
    ids = [tuple(range(1, count + 1)) for count in (before, after, target)]
    return Sample(
        name, torch.full((length,), 0.5), *ids, prompt=name, task="asr", references=(name,), meta={"n": length}
    )


def test_rows_are_padded_at_the_right_and_masked() -> None:
    samples = [sample("a", 5, 2, 3, 1), sample("b", 3, 1, 4, 6)]
    batch = collate(samples, pad_id=9)
    assert batch.waveforms.tolist() == [[0.5] * 5, [0.5] * 3 + [0.0] * 2]
    assert batch.lengths.tolist() == [5, 3]
    assert batch.before_ids.tolist() == [[1, 2], [1, 9]]
    assert batch.before_mask.tolist() == [[True, True], [True, False]]
    assert batch.after_ids.tolist() == [[1, 2, 3, 9], [1, 2, 3, 4]]
    assert batch.target_ids.tolist() == [[1, 9, 9, 9, 9, 9], [1, 2, 3, 4, 5, 6]]
    assert batch.target_mask.sum(1).tolist() == [1, 6]
    assert (batch.ids, batch.prompts, batch.references) == (["a", "b"], ["a", "b"], [("a",), ("b",)])
    assert batch.meta == [{"n": 5}, {"n": 3}]


def test_without_targets_the_target_is_empty_but_typed() -> None:
    batch = collate([sample("a", 5, 2, 3, 0), sample("b", 3, 1, 4, 0)], pad_id=9)
    assert batch.target_ids.shape == batch.target_mask.shape == (2, 0)
    assert batch.target_ids.dtype == torch.long
    assert batch.target_mask.dtype == torch.bool


def test_no_samples_make_no_batch() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        collate([], pad_id=0)


@pytest.mark.parametrize("repeats", [(1, 1), (3, 3), (3, 1)])
def test_frames_are_a_vector_for_each_frame_and_then_zeros(repeats: tuple[int, int]) -> None:
    short = ClipFrames(torch.tensor([[1.0, 2.0]]), repeats[0], torch.tensor([True]))
    long = ClipFrames(torch.tensor([[3.0, 4.0], [5.0, 6.0]]), repeats[1], torch.tensor([True] * 2 * repeats[1]))
    frames = pad_frames([short, long])
    assert torch.equal(frames[0], torch.tensor([[1.0, 2.0]] + [[0.0, 0.0]] * (2 * repeats[1] - 1)))
    assert torch.equal(frames[1], torch.tensor([[3.0, 4.0]] * repeats[1] + [[5.0, 6.0]] * repeats[1]))
