"""How the outputs of each kind of task are judged: the metrics by name, and those of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from salmonn_lab.metrics.answer import ContainsAnswer, ExactMatch, KeywordMatch, TokenF1
from salmonn_lab.metrics.caption import CaptionBleu, CaptionOverlap, RougeL
from salmonn_lab.metrics.choice import Accuracy, LabelAccuracy, MultipleChoice
from salmonn_lab.metrics.cider import CiderD
from salmonn_lab.metrics.item import ItemMetric
from salmonn_lab.metrics.java import Meteor, Spice, Spider
from salmonn_lab.metrics.open_ended import Diversity, FollowingRate
from salmonn_lab.metrics.similarity import Fense, SentenceSimilarity
from salmonn_lab.metrics.slots import SluF1
from salmonn_lab.metrics.translation import Bleu, Chrf
from salmonn_lab.metrics.wer import ErrorRate, MatchRate, PermutedErrorRate

References = Mapping[str, Sequence[str]]
"""The references of every item of a test set, by id."""

METRICS: dict[str, Callable[[References], ItemMetric]] = {
    "wer": lambda references: ErrorRate("word"),
    "wer_basic": lambda references: ErrorRate("word", "whisper_basic"),
    "wer_gigaspeech": lambda references: ErrorRate("word", "gigaspeech"),
    "wer_lower": lambda references: ErrorRate("word", "lower_punct"),
    "match_rate": lambda references: MatchRate("word"),
    "cer": lambda references: ErrorRate("character", "whisper_basic"),
    "cer_cjk": lambda references: ErrorRate("character", "cjk"),
    "per": lambda references: ErrorRate("phone"),
    "cpwer": lambda references: PermutedErrorRate(),
    "bleu": lambda references: Bleu("13a", references_per_item=references_per_item(references)),
    "bleu_zh": lambda references: Bleu("zh", references_per_item=references_per_item(references)),
    "bleu_ja": lambda references: Bleu("ja-mecab", references_per_item=references_per_item(references)),
    "chrf": lambda references: Chrf(references_per_item=references_per_item(references)),
    "exact_match": lambda references: ExactMatch(),
    "token_f1": lambda references: TokenF1(),
    "contains_answer": lambda references: ContainsAnswer(),
    "accuracy": lambda references: Accuracy(labels_of(references)),
    "label_accuracy": lambda references: LabelAccuracy(labels_of(references)),
    "multiple_choice": lambda references: MultipleChoice("letter_or_text"),
    "multiple_choice_letter": lambda references: MultipleChoice("letter"),
    "multiple_choice_text": lambda references: MultipleChoice("text"),
    "multiple_choice_first": lambda references: MultipleChoice("first"),
    "multiple_choice_mmau": lambda references: MultipleChoice("mmau"),
    "multiple_choice_air_bench": lambda references: MultipleChoice("air_bench"),
    "caption_overlap": lambda references: CaptionOverlap(),
    "rouge_l_coco": lambda references: RougeL("coco"),
    "rouge_l_google": lambda references: RougeL("google"),
    "caption_bleu": lambda references: CaptionBleu(),
    "cider_d": CiderD,
    "meteor": lambda references: Meteor(),
    "spice": lambda references: Spice(),
    "spider": lambda references: Spider(CiderD(references)),
    "sbert_sim": lambda references: SentenceSimilarity(),
    "fense": lambda references: Fense(),
    "keywords": lambda references: KeywordMatch(),
    "slu_f1": lambda references: SluF1(),
    "diversity": lambda references: Diversity(),
    "following_story": lambda references: FollowingRate("story"),
    "following_answer": lambda references: FollowingRate("answer"),
    "following_keywords": lambda references: FollowingRate("keywords"),
}
"""Makes each metric, given the references of the test set.

What needs more than texts is built where that is at hand: perplexity, option likelihoods and the equal error rate by
`likelihood_metrics`, ratings (a judge) in scripts.
"""


NUMBERS = frozenset(
    (
        *("cider_d", "spice", "spider", "judge_rating", "mean_unique_words", "mean_words", "keywords_given"),
        *("perplexity", "bits_per_byte"),
    )
)
"""Scores that are no shares, and are not shown as percentages."""


def labels_of(references: References) -> set[str]:
    """Return the answers that are allowed where an item brings no choices of its own: all the references."""
    return {text for texts in references.values() for text in texts}


def references_per_item(references: References) -> int | None:
    """Return how many references every item has, None where that varies, 1 where there are no items."""
    counts = {len(texts) for texts in references.values()} or {1}
    return counts.pop() if len(counts) == 1 else None


@dataclass(frozen=True)
class Measure:
    """How the outputs of a kind of task are judged."""

    metrics: tuple[str, ...]
    """Names in `METRICS`."""
    headline: str
    """The key of the score that is shown first."""
    higher_is_better: bool


TRANSCRIPT = Measure(("wer",), "wer", higher_is_better=False)
ANSWER = Measure(("accuracy", "exact_match"), "accuracy", higher_is_better=True)
OVERLAP = Measure(("caption_overlap",), "rouge_l_coco", higher_is_better=True)
CAPTION = Measure(("caption_overlap", "cider_d", "caption_bleu"), "rouge_l_coco", higher_is_better=True)
FREE_ANSWER = Measure(("contains_answer", "token_f1", "exact_match"), "contains_answer", higher_is_better=True)
"""SALMONN had another model judge these; holding a reference is the strictest rule that needs none."""

TASKS: dict[str, Measure] = {
    "asr": TRANSCRIPT,
    "lyrics_recognition": TRANSCRIPT,
    "asr_de": Measure(("wer_basic",), "wer", higher_is_better=False),
    "asr_zh": Measure(("cer",), "cer", higher_is_better=False),
    "phone_recognition": Measure(("per",), "per", higher_is_better=False),
    "speech_separation": Measure(("cpwer",), "cpwer", higher_is_better=False),
    "translation_ec": Measure(("bleu_zh", "chrf"), "bleu", higher_is_better=True),
    "translation_en2de": Measure(("bleu", "chrf"), "bleu", higher_is_better=True),
    "translation_en2ja": Measure(("bleu_ja", "chrf"), "bleu", higher_is_better=True),
    **dict.fromkeys(("sound_label", "emotion_recognition", "gender_recognition", "speaker_verification"), ANSWER),
    **dict.fromkeys(("QA", "audio_QA", "spoken_QA", "inference_QA", "gender_QA"), ANSWER),
    **dict.fromkeys(("audiocaption", "audiocaption_v2", "music_description", "audio_speech_description"), CAPTION),
    "keywords": Measure(("keywords", "following_keywords"), "keyword_precision", higher_is_better=True),
    **dict.fromkeys(("slot_filling", "speech_query", "speech_audio_coreasoning"), FREE_ANSWER),
    "audio_story_telling": Measure(("diversity", "following_story"), "mean_unique_words", higher_is_better=True),
}
"""How the tasks are judged; a task that is not here has no metric yet."""
