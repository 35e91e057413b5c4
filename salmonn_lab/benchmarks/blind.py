"""The best score without the audio: that of a model which knows a test set's answers and choices, but no clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from salmonn_lab.benchmarks.measures import METRICS
from salmonn_lab.metrics.answer import DEFAULT, constant_baseline
from salmonn_lab.metrics.choice import MultipleChoice, place_answers
from salmonn_lab.metrics.distinct import form_of, merge_spellings
from salmonn_lab.metrics.item import ChoiceMetric, ItemMetric
from salmonn_lab.metrics.normalize import NORMALIZERS, find, trimmed

SHARES = ("accuracy", "weighted_accuracy", "exact_match")
"""Scores that are the share of right items, each item alone."""
TEXTS = ("contains_answer", "token_f1", "rouge_l_coco")
"""Scores of free texts, for which the commonest references are tried on every item."""
MEASUREMENTS = 10_000
"""Items that are measured to try texts: fewer texts are tried on larger test sets, at least one."""
MOST_TEXTS = 8


class Blind(NamedTuple):
    """A rule that needs no audio, in words, and what it scores."""

    policy: str
    value: float


class Item(NamedTuple):
    """What a question shows, and what is right."""

    references: Sequence[str]
    choices: Sequence[str] | None


def best_blind(names: Sequence[str], headline: str, items: Sequence[Item]) -> Blind | None:
    """The rule without audio that scores best on the headline; None where that says nothing, as for transcripts.

    Answers are the same to every item, or where items bring choices the k-th of them, the longest or the shortest.

    Args:
        names: of the benchmark's metrics.
        headline: the score.
        items: of the test set, each once.
    """
    if not items:
        return None
    metrics = {name: METRICS[name]({}) for name in names}
    name, metric = next((name, metric) for name, metric in metrics.items() if headline in metric.keys)
    if headline in SHARES and isinstance(metric, ChoiceMetric):
        return max([constant_rule(items), *choice_rules(metric, items)], key=lambda blind: blind.value)
    if headline in TEXTS:
        return best_text(METRICS[name], headline, [item.references for item in items])
    return None


def constant_rule(items: Sequence[Item]) -> Blind:
    """The same answer to every item."""
    constant = constant_baseline([item.references for item in items])
    texts = sorted(text for item in items for text in item.references)
    form = form_of(frozenset(merge_spellings(texts)), find(DEFAULT))
    spelled = next((text.strip() for text in texts if form(trimmed(text)) == constant.answer), constant.answer)
    return Blind(f"always '{spelled}'", constant.accuracy)


def choice_rules(metric: ChoiceMetric, items: Sequence[Item]) -> list[Blind]:
    """Rules that choose by place or length; items without choices are given the best constant answer."""
    offered = [item for item in items if item.choices is not None]
    if not offered:
        return []
    others = [item for item in items if item.choices is None]
    constant = constant_rule(others).value * len(others) if others else 0.0
    texts = [item.choices or () for item in offered]
    right = [right_positions(metric, item) for item in offered]
    most = max(map(len, texts))
    rules: dict[str, Callable[[Sequence[str]], int]] = {
        **{f"always choice {place + 1}": lambda _, place=place: place for place in range(most)},  # type: ignore[misc]
        "always the last choice": lambda choices: len(choices) - 1,
        "always the longest choice": lambda choices: int(np.argmax([len(choice) for choice in choices])),
        "always the shortest choice": lambda choices: int(np.argmin([len(choice) for choice in choices])),
    }
    return [
        Blind(
            policy, (sum(rule(shown) in good for shown, good in zip(texts, right, strict=True)) + constant) / len(items)
        )
        for policy, rule in rules.items()
    ]


def right_positions(metric: ChoiceMetric, item: Item) -> frozenset[int]:
    """Places of an item's right choices."""
    choices = item.choices or ()
    if isinstance(metric, MultipleChoice):
        return place_answers(item.references, choices, twice=True)[1]
    form = form_of(frozenset(choice.strip() for choice in choices), NORMALIZERS["whisper_en_signs"])
    wanted = {form(reference) for reference in item.references}
    return frozenset(place for place, choice in enumerate(choices) if form(choice) in wanted)


def best_text(
    make: Callable[[Mapping[str, Sequence[str]]], ItemMetric], headline: str, references: Sequence[Sequence[str]]
) -> Blind:
    """The reference that scores best when it is the answer to every item, of the commonest ones."""
    ids = [str(number) for number in range(len(references))]
    by_id = dict(zip(ids, references, strict=True))
    scored = []
    for text in common_texts(references, max(1, min(MOST_TEXTS, MEASUREMENTS // len(references)))):
        metric = make(by_id)
        metric.distributed_available_fn = lambda: False
        metric.update([text] * len(ids), references, ids)
        scored.append(Blind(f"always '{text}'", float(metric.compute()[headline])))
    return max(scored, key=lambda blind: blind.value)


def common_texts(references: Sequence[Sequence[str]], count: int) -> list[str]:
    """The references of most items, and of those equally common the ones whose words are in most items."""
    spelled = {trimmed(text): text for refs in references for text in refs}
    items = Counter(text for refs in references for text in merge_spellings(refs))
    spread = Counter(word for refs in references for word in {word for text in refs for word in trimmed(text).split()})

    def rank(text: str) -> tuple[float, float, str]:
        words = text.split()
        return (-items[text], -sum(spread[word] for word in set(words)) / (len(words) + 3), text)

    return [spelled[text] for text in sorted(spelled, key=rank)[:count]]
