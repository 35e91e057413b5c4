"""Every metric of the package by name, and items that each of them can measure."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fake_tools import fake_meteor, fake_spice
from tiny_encoder import tiny_detector, tiny_encoder

from salmonn_lab.metrics.answer import ContainsAnswer, ExactMatch, KeywordMatch, TokenF1
from salmonn_lab.metrics.caption import CaptionBleu, CaptionOverlap, RougeL
from salmonn_lab.metrics.choice import Accuracy, ItemAccuracy, LabelAccuracy, MultipleChoice, OptionLikelihood
from salmonn_lab.metrics.cider import CiderD
from salmonn_lab.metrics.item import ItemMetric
from salmonn_lab.metrics.java import Meteor, Spice, Spider
from salmonn_lab.metrics.judge import JudgeRating
from salmonn_lab.metrics.likelihood import Perplexity
from salmonn_lab.metrics.open_ended import Diversity, FollowingRate
from salmonn_lab.metrics.similarity import Fense, FluencyDetector, SentenceEncoder, SentenceSimilarity
from salmonn_lab.metrics.slots import SluF1
from salmonn_lab.metrics.translation import Bleu, Chrf
from salmonn_lab.metrics.verification import EqualErrorRate
from salmonn_lab.metrics.wer import ErrorRate, MatchRate, PermutedErrorRate

TEXTS = [
    "the red dog",
    "a cat sat on the mat",
    "今天 天气 很好",
    "broken \ud800 escape",
    "café; date: tomorrow",
    "rain falls on a tin roof\nand a man speaks",
    "уно дос 🙂",
]
COUNT = 23
IDS = [f"clip/{index}·é" for index in range(COUNT)]
PREDS = [TEXTS[index * 3 % len(TEXTS)] + " dog" * (index % 2) for index in range(COUNT)]
PREDS[3] = ""
REFERENCES = [[TEXTS[index % len(TEXTS)], "a dog"] for index in range(COUNT)]
BY_ID = dict(zip(IDS, REFERENCES, strict=True))
CHOICES = [[*refs, "something else"] for refs in REFERENCES]
KEPT = tempfile.TemporaryDirectory(prefix="every_metric")
FOLDER = Path(KEPT.name)


@cache
def encoder() -> SentenceEncoder:
    return SentenceEncoder(tiny_encoder(FOLDER / "encoder"))


@cache
def detector() -> FluencyDetector:
    return FluencyDetector(tiny_detector(FOLDER / "encoder"))


def judge(prompt: str) -> str:
    """Rate by length, and now and then say nothing that can be read."""
    return f"Rating: {len(prompt) % 5 + 1}" if len(prompt) % 7 else "I would rather not."


def rating() -> JudgeRating:
    file = Path(tempfile.mkdtemp(dir=FOLDER)) / "answers.jsonl"
    return JudgeRating(judge, "by-length", "{question} {references} {output}", file, "one_to_five")


METRICS: dict[str, Callable[[], ItemMetric]] = {
    "wer": ErrorRate,
    "cer": lambda: ErrorRate("character", "exact"),
    "cer_cjk": lambda: ErrorRate("character", "cjk"),
    "per": lambda: ErrorRate("phone"),
    "match_rate": MatchRate,
    "cpwer": PermutedErrorRate,
    "bleu": lambda: Bleu(references_per_item=2),
    "bleu_zh": lambda: Bleu("zh", references_per_item=2),
    "chrf": lambda: Chrf(references_per_item=2),
    "exact_match": ExactMatch,
    "token_f1": TokenF1,
    "contains_answer": ContainsAnswer,
    "keywords": KeywordMatch,
    "accuracy": lambda: Accuracy([text for refs in REFERENCES for text in refs]),
    "item_accuracy": ItemAccuracy,
    "label_accuracy": lambda: LabelAccuracy([text for refs in REFERENCES for text in refs]),
    "multiple_choice": MultipleChoice,
    "multiple_choice_mmau": lambda: MultipleChoice("mmau"),
    "multiple_choice_air_bench": lambda: MultipleChoice("air_bench"),
    "option_likelihood": OptionLikelihood,
    "perplexity": Perplexity,
    "caption_overlap": CaptionOverlap,
    "rouge_l_coco_ptb": RougeL,
    "rouge_l_google": lambda: RougeL("google"),
    "caption_bleu": CaptionBleu,
    "cider_d": lambda: CiderD(BY_ID),
    "meteor": lambda: Meteor(*fake_meteor(FOLDER)),
    "spice": lambda: Spice(*fake_spice(FOLDER)),
    "spider": lambda: Spider(CiderD(BY_ID), *fake_spice(FOLDER)),
    "sbert_sim": lambda: SentenceSimilarity(encoder()),
    "fense": lambda: Fense(encoder(), detector()),
    "slu_f1": SluF1,
    "eer": EqualErrorRate,
    "diversity": Diversity,
    "following_rate": lambda: FollowingRate("answer"),
    "judge": rating,
}


def fresh(kind: str) -> ItemMetric:
    return METRICS[kind]()


def add(metric: ItemMetric, indices: Iterable[int], preds: list[str] = PREDS) -> None:
    """Add items with what each kind of metric needs beside texts."""
    chosen = list(indices)
    texts = [preds[i] for i in chosen]
    references = [REFERENCES[i] for i in chosen]
    ids = [IDS[i] for i in chosen]
    more: dict[str, Any] = {}
    if isinstance(metric, MultipleChoice | OptionLikelihood):
        more["choices"] = [CHOICES[i] for i in chosen]
    if isinstance(metric, OptionLikelihood):
        more["log_likelihoods"] = [np.random.default_rng(i).normal(size=3).tolist() for i in chosen]
        more["lengths"] = [[1, 2, 3]] * len(chosen)
    if isinstance(metric, Perplexity):
        more["log_likelihoods"] = [-float(np.random.default_rng(i).exponential()) for i in chosen]
        more["lengths"] = [1 + i % 5 for i in chosen]
    if isinstance(metric, EqualErrorRate):
        references = [["yes" if i % 2 else "no"] for i in chosen]
        more["scores"] = [float(np.random.default_rng(i).normal() + i % 2) for i in chosen]
    metric.update(texts, references, ids, **more)
