"""Open-ended outputs, which no reference can grade: how varied they are, and whether they do what was asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from salmonn_lab.metrics.answer import split_list
from salmonn_lab.metrics.item import ItemMetric, Statistics, ratio

WORDS = re.compile(r"[a-z']+")
"""Words of an English text in lower case."""
STORY_SENTENCES, STORY_WORDS = 3, 30
"""What a story has at least."""
KEYWORDS = 3
"""How many keywords the original's prompt asks for."""


class Diversity(ItemMetric):
    """How many different words stories have, and which share of their words and pairs of words are different.

    `mean_unique_words` is taken for the "diversity" of SALMONN's storytelling, whose tokenizer is not published; it
    grows with length, which `mean_words` shows. `distinct_1` and `distinct_2` count types within each story, not over
    all of them, so that they do not fall as stories are added.
    """

    columns = ("unique_words", "words", "unique_pairs", "pairs", "items")
    keys = ("mean_unique_words", "mean_words", "distinct_1", "distinct_2")
    higher_is_better = True

    @property
    def signature(self) -> str:
        """Name, what a word is, where types are counted, version."""
        return f"diversity|words:{WORDS.pattern}|types:item|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Count words and pairs; references say nothing here."""
        words = WORDS.findall(prediction.lower())
        pairs = list(pairwise(words))
        return (len(set(words)), len(words), len(set(pairs)), len(pairs), 1)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items, or over words and pairs, where there are any."""
        unique, words, unique_pairs, pairs, items = (stats[..., index] for index in range(5))
        return {
            "mean_unique_words": ratio(unique, items),
            "mean_words": ratio(words, items),
            "distinct_1": unique / words.clip(min=1),
            "distinct_2": unique_pairs / pairs.clip(min=1),
        }


@dataclass(frozen=True)
class FollowingRule:
    """A rule that tells whether an output has the form that was asked for."""

    name: str
    version: int
    """Raised whenever any output would be judged differently."""
    function: Callable[[str], bool]

    @property
    def label(self) -> str:
        """What stands in a signature, as in `story@1`."""
        return f"{self.name}@{self.version}"


def is_story(text: str) -> bool:
    """Tell whether a text has a story's length: some sentences and some dozens of words."""
    sentences = [part for part in re.split(r"[.!?\u3002\uff01\uff1f]+", text) if re.search(r"\w", part)]
    return len(sentences) >= STORY_SENTENCES and len(re.findall(r"\w+", text)) >= STORY_WORDS


def is_keyword_list(text: str) -> bool:
    """Tell whether a text lists as many keywords as were asked for, none longer than a phrase."""
    entries = [entry.split() for entry in split_list(text) if entry.strip()]
    return len(entries) == KEYWORDS and all(len(entry) <= 5 for entry in entries)


def is_yes_or_no(text: str) -> bool:
    """Tell whether a text begins with yes or no."""
    return re.match(r"\W*(yes|no)\b", text, re.IGNORECASE) is not None


def is_answer(text: str) -> bool:
    """Tell whether anything that can be read was written."""
    return re.search(r"\w", text) is not None


RULES = {
    rule.name: rule
    for rule in (
        FollowingRule("story", 1, is_story),
        FollowingRule("keywords", 1, is_keyword_list),
        FollowingRule("yes_no", 1, is_yes_or_no),
        FollowingRule("answer", 1, is_answer),
    )
}
"""This kit's own: those behind SALMONN's published following rates are not known."""


class FollowingRate(ItemMetric):
    """The share of outputs that have the form that was asked for, whatever they say."""

    columns = ("followed", "items")
    keys = ("following_rate",)
    higher_is_better = True

    def __init__(self, rule: str | FollowingRule, **options: Any) -> None:
        super().__init__(**options)
        if isinstance(rule, str) and rule not in RULES:
            raise ValueError(f"no rule '{rule}' of following; there are {', '.join(RULES)}")
        self.rule = RULES[rule] if isinstance(rule, str) else rule

    @property
    def signature(self) -> str:
        """Name, rule, aggregation, version."""
        return f"following_rate|rule:{self.rule.label}|agg:mean|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Apply the rule; references say nothing here."""
        return (float(self.rule.function(prediction)), 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Divide by items."""
        return {"following_rate": ratio(stats[..., 0], stats[..., 1])}
