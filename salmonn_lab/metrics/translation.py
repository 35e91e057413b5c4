"""Scores of translations: BLEU and chrF, counted and named by sacrebleu."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from salmonn_lab.metrics.item import ItemMetric, Statistics
from salmonn_lab.metrics.normalize import encodable

Tokenizer = Literal["13a", "intl", "zh", "char", "ja-mecab", "none"]
TOKENIZERS: tuple[Tokenizer, ...] = ("13a", "intl", "zh", "char", "ja-mecab", "none")
"""Those of sacrebleu that need no download."""
ORDER = 4
"""Longest n-gram of BLEU."""


class TranslationMetric(ItemMetric):
    """What BLEU and chrF have in common: sacrebleu's counts of each item, and its formula over their sums.

    Scores are shares, as all of this kit: 0.344 is what papers write as 34.4.
    """

    higher_is_better = True

    def __init__(self, metric: BLEU | CHRF, references_per_item: int | None, **options: Any) -> None:
        super().__init__(**options)
        if references_per_item is not None and references_per_item < 1:
            raise ValueError(f"references_per_item must be at least 1, got {references_per_item}")
        self.references_per_item = references_per_item
        # sacrebleu would take it from the texts, of which there are none yet.
        metric.num_refs = -1 if references_per_item is None else references_per_item
        self.library_signature = str(metric.get_signature())
        """What sacrebleu prints beside its own score of the same texts."""

    @property
    def signature(self) -> str:
        """Name, and sacrebleu's own signature."""
        return f"{self.keys[0]}|{self.library_signature}|agg:corpus|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count n-grams, those that the references have too, and lengths."""
        if self.references_per_item not in (None, len(references)):
            raise ValueError(
                f"the signature says {self.references_per_item} references per item, got {len(references)}; "
                "give references_per_item=None where it varies"
            )
        return self.count(encodable(prediction), [encodable(reference) for reference in references])

    @abstractmethod
    def count(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Return sacrebleu's counts."""

    @abstractmethod
    def score_sum(self, sums: Statistics) -> float:
        """Return sacrebleu's score of summed counts [columns], 0 to 100."""

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Apply sacrebleu's formula to each sum."""
        scores = [self.score_sum(sums) for sums in stats.reshape(-1, len(self.columns))]
        return {self.keys[0]: np.array(scores, dtype=np.float64).reshape(stats.shape[:-1]) / 100}


class Bleu(TranslationMetric):
    """Corpus BLEU of up to four words, smoothed as sacrebleu does by default ("exp").

    The tokenizer decides the score: `13a` for languages with spaces, `zh` for Chinese, `ja-mecab` for Japanese.
    """

    columns = (
        *(f"matches_{order}" for order in range(1, ORDER + 1)),
        *(f"totals_{order}" for order in range(1, ORDER + 1)),
        "output_length",
        "reference_length",
    )
    keys = ("bleu",)

    def __init__(
        self,
        tokenize: Tokenizer = "13a",
        lowercase: bool = False,
        references_per_item: int | None = 1,
        **options: Any,
    ) -> None:
        """Build the metric.

        Args:
            tokenize: one of `TOKENIZERS`.
            lowercase: whether case does not matter.
            references_per_item: how many each item has, which the signature says; None where it varies.
            options: of torchmetrics.

        Raises:
            ValueError: there is no such tokenizer.
            ImportError: the Japanese tokenizer is not installed.
        """
        if tokenize not in TOKENIZERS:
            raise ValueError(f"tokenize must be one of {', '.join(TOKENIZERS)}, got {tokenize!r}")
        if tokenize == "ja-mecab" and not (find_spec("MeCab") and find_spec("ipadic")):
            raise ImportError(
                "BLEU of Japanese needs MeCab with the IPA dictionary: pip install 'salmonn-lab[japanese]' "
                "(mecab-python3 and ipadic); no other tokenizer gives comparable numbers"
            )
        self.bleu = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
        super().__init__(self.bleu, references_per_item, **options)

    def count(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Return matches and totals of each order, and both lengths."""
        result = self.bleu.corpus_score([prediction], [[reference] for reference in references])
        return (*result.counts, *result.totals, result.sys_len, result.ref_len)

    def score_sum(self, sums: Statistics) -> float:
        """Return BLEU of summed counts."""
        counts = [int(value) for value in sums]
        matches, totals, (written, wanted) = counts[:ORDER], counts[ORDER : 2 * ORDER], counts[2 * ORDER :]
        return float(BLEU.compute_bleu(matches, totals, written, wanted, smooth_method="exp").score)


class Chrf(TranslationMetric):
    """Corpus chrF of up to six characters; with `word_order=2`, chrF++."""

    def __init__(
        self, word_order: int = 0, lowercase: bool = False, references_per_item: int | None = 1, **options: Any
    ) -> None:
        """Build the metric.

        Args:
            word_order: longest n-gram of words that counts beside those of characters.
            lowercase: whether case does not matter.
            references_per_item: how many each item has, which the signature says; None where it varies.
            options: of torchmetrics.
        """
        if word_order < 0:
            raise ValueError(f"word_order must be at least 0, got {word_order}")
        self.chrf = CHRF(word_order=word_order, lowercase=lowercase)
        self.columns = tuple(
            f"{kind}_{order}" for order in range(1, self.chrf.order + 1) for kind in ("output", "reference", "matches")
        )
        super().__init__(self.chrf, references_per_item, **options)

    @property
    def keys(self) -> tuple[str, ...]:
        """`chrf`, and as many plus signs as words in the longest n-gram."""
        return ("chrf" + "+" * self.chrf.word_order,)

    def count(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Return n-grams of the output, of its best reference, and of both, by order."""
        # The only door to the counts; the pinned range of versions and the golden scores guard it.
        counts: list[float] = self.chrf._extract_corpus_statistics(
            [prediction], [[reference] for reference in references]
        )[0]
        return counts

    def score_sum(self, sums: Statistics) -> float:
        """Return chrF of summed counts."""
        return float(self.chrf._compute_score_from_stats(sums.tolist()).score)
