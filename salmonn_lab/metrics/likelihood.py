"""How likely what should have been written is to a model, from log-likelihoods that were noted beside its answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from salmonn_lab.metrics.item import ItemMetric, Statistics, check_items, per_item, ratio


class Perplexity(ItemMetric):
    """The perplexity of the references per token of the model's own tokenizer, and their bits per byte.

    The end symbol is a token of each reference. Perplexities compare between models of one tokenizer alone, bits per
    byte of UTF-8 between all.
    """

    columns = ("nats", "tokens", "bytes")
    keys = ("perplexity", "bits_per_byte")
    higher_is_better = False

    @property
    def signature(self) -> str:
        """Name, what counts, aggregation, version."""
        return "perplexity|end:included|agg:corpus|v1"

    def update(
        self,
        preds: Sequence[str],
        references: Sequence[Sequence[str]],
        ids: Sequence[str],
        log_likelihoods: Sequence[float] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> None:
        """Add items.

        Args:
            preds: ignored.
            references: of each item; the first is what the likelihood is of.
            ids: what tells the items apart.
            log_likelihoods: of each item's first reference, in nats, summed over its tokens.
            lengths: of each item's first reference in tokens.

        Raises:
            ValueError: beside the reasons of every metric, if one of the two is not there or is no number.
        """
        check_items(preds, references, ids)
        values, tokens = per_item("log_likelihoods", log_likelihoods, ids), per_item("lengths", lengths, ids)
        rows = []
        for id, refs, value, length in zip(ids, references, values, tokens, strict=True):
            if value is None or math.isnan(value) or not length:
                raise ValueError(
                    f"item {id!r}: its reference needs a log-likelihood and a length, got {value}, {length}"
                )
            rows.append((-float(value), float(length), float(len(refs[0].encode("utf-8", "surrogatepass")))))
        self.add(ids, rows)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Refuse: an item needs a log-likelihood, which `update` takes."""
        raise ValueError("perplexity is measured from log_likelihoods, which only `update` takes")

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Turn nats into a branching factor per token, and into bits per byte."""
        nats, tokens, size = np.moveaxis(stats, -1, 0)
        with np.errstate(over="ignore"):
            perplexity = np.exp(ratio(nats, tokens))
        return {"perplexity": perplexity, "bits_per_byte": ratio(nats, size) / math.log(2)}
