"""Perplexity and bits per byte, from log-likelihoods that a model noted."""

import math

import pytest

from salmonn_lab.metrics.likelihood import Perplexity


def test_a_model_that_guesses_among_eight_has_a_perplexity_of_eight() -> None:
    metric = Perplexity()
    references = [["ab"], ["é", "ignored"], [""]]
    lengths = [3, 2, 1]
    metric.update(["x"] * 3, references, ["1", "2", "3"], [-count * math.log(8) for count in lengths], lengths)
    scores = metric.compute()
    assert float(scores["perplexity"]) == pytest.approx(8)
    assert float(scores["bits_per_byte"]) == pytest.approx(6 * 3 / 4)  # é takes two bytes


def test_tokens_weigh_alike_and_not_items() -> None:
    metric = Perplexity()
    metric.update(["", ""], [["a"], ["b"]], ["1", "2"], [-1.0, -9.0], [1, 3])
    assert float(metric.compute()["perplexity"]) == pytest.approx(math.exp(10 / 4))


@pytest.mark.parametrize(
    ("values", "lengths"), [(None, [1]), ([-1.0], None), ([math.nan], [1]), ([-1.0], [0]), ([-1.0, -2.0], [1])]
)
def test_an_item_needs_a_number_and_a_length(values: list[float] | None, lengths: list[int] | None) -> None:
    with pytest.raises(ValueError, match=r"likelihood|lengths"):
        Perplexity().update(["x"], [["a"]], ["1"], values, lengths)
    with pytest.raises(ValueError, match="only `update` takes"):
        Perplexity().measure("a", ["a"])
