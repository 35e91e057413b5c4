"""How the outputs of each kind of task are judged: the metrics by name, and those of each task."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from salmonn_lab.metrics.answer import ContainsAnswer, ExactMatch, KeywordMatch, TokenF1
from salmonn_lab.metrics.caption import CaptionBleu, CaptionOverlap, RougeL
from salmonn_lab.metrics.choice import Accuracy, ItemAccuracy, LabelAccuracy, MultipleChoice
from salmonn_lab.metrics.cider import CiderD
from salmonn_lab.metrics.distinct import merge_spellings
from salmonn_lab.metrics.item import ItemMetric
from salmonn_lab.metrics.java import Meteor, Spice, Spider
from salmonn_lab.metrics.open_ended import Diversity, FollowingRate
from salmonn_lab.metrics.similarity import Fense, SentenceSimilarity
from salmonn_lab.metrics.slots import SluF1
from salmonn_lab.metrics.translation import Bleu, Chrf
from salmonn_lab.metrics.wer import ErrorRate, MatchRate, PermutedErrorRate

Writing = Literal["english", "words", "characters"]
"""What error rates of a language count: words as Whisper normalizes English, words of other languages, characters."""
UNSPACED = frozenset(
    (
        *("zh", "zho", "chi", "cmn", "yue", "wuu", "gan", "hak", "hsn", "nan", "lzh", "ja", "jpn", "th", "tha"),
        *("lo", "lao", "km", "khm", "my", "mya", "bur", "bo", "bod", "tib", "dz", "dzo"),
    )
)
"""ISO 639 codes of languages that write no spaces between words."""
UNNAMED = frozenset(("", "und", "mul", "mis", "zxx"))
"""What says that a text's language is not known, or several, of ISO 639."""
LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8})*")
"""The form of a language's code (BCP 47), in lower case."""
UNSPACED_LETTER = re.compile(
    "[\u0e01-\u0e30\u0e40-\u0e46\u0e81-\u0eb0\u0ec0-\u0ec6\u0edc-\u0edf\u0f40-\u0f6c\u1000-\u102a\u103f\u1050-\u1055"
    "\u1780-\u17b3\u3005-\u3007\u3031-\u3035\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U000323af]"
)
"""Letters of Thai, Lao, Tibetan, Burmese and Khmer, kana and Han characters."""
MIXED = 0.1
"""Fraction of a manifest's items beyond which a second way of writing is no chance."""
References = Mapping[str, Sequence[str]]
"""The references of every item of a test set, by id."""

METRICS: dict[str, Callable[[References], ItemMetric]] = {
    "wer": lambda references: ErrorRate("word"),
    "wer_basic": lambda references: ErrorRate("word", "whisper_basic"),
    "wer_multilingual": lambda references: ErrorRate("word", "multilingual"),
    "wer_gigaspeech": lambda references: ErrorRate("word", "gigaspeech"),
    "wer_gigaspeech_punct": lambda references: ErrorRate("word", "gigaspeech_punct"),
    "wer_lower": lambda references: ErrorRate("word", "lower_punct"),
    "match_rate": lambda references: MatchRate("word"),
    "cer": lambda references: ErrorRate("character", "whisper_basic"),
    "cer_cjk": lambda references: ErrorRate("character", "cjk"),
    "per": lambda references: ErrorRate("phone"),
    "cpwer": lambda references: PermutedErrorRate(),
    "cpwer_multilingual": lambda references: PermutedErrorRate("multilingual"),
    "cpcer": lambda references: PermutedErrorRate("cjk", unit="character"),
    "bleu": lambda references: Bleu("13a", references_per_item=references_per_item(references)),
    "bleu_zh": lambda references: Bleu("zh", references_per_item=references_per_item(references)),
    "bleu_ja": lambda references: Bleu("ja-mecab", references_per_item=references_per_item(references)),
    "chrf": lambda references: Chrf(references_per_item=references_per_item(references)),
    "exact_match": lambda references: ExactMatch(),
    "token_f1": lambda references: TokenF1(),
    "contains_answer": lambda references: ContainsAnswer(),
    "accuracy": lambda references: Accuracy(labels_of(references)),
    "item_accuracy": lambda references: ItemAccuracy(),
    "label_accuracy": lambda references: LabelAccuracy(labels_of(references)),
    "multiple_choice": lambda references: MultipleChoice("letter_or_text"),
    "multiple_choice_letter": lambda references: MultipleChoice("letter"),
    "multiple_choice_text": lambda references: MultipleChoice("text"),
    "multiple_choice_first": lambda references: MultipleChoice("first"),
    "multiple_choice_mmau": lambda references: MultipleChoice("mmau"),
    "multiple_choice_air_bench": lambda references: MultipleChoice("air_bench"),
    "caption_overlap": lambda references: CaptionOverlap(),
    "rouge_l_coco_ptb": lambda references: RougeL("coco"),
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
    """Answers that are allowed where an item brings no choices of its own: all the references, each in one spelling."""
    return merge_spellings(text for texts in references.values() for text in texts)


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
OTHER_WORDS = Measure(("wer_multilingual",), "wer", higher_is_better=False)
CHARACTERS = Measure(("cer_cjk",), "cer", higher_is_better=False)
SPEAKERS = Measure(("cpwer",), "cpwer", higher_is_better=False)
ANSWER = Measure(("accuracy", "exact_match"), "accuracy", higher_is_better=True)
ITEM_ANSWER = Measure(("item_accuracy", "exact_match"), "accuracy", higher_is_better=True)
"""For questions whose answers are no closed set: what an item allows depends on that item alone."""
OVERLAP = Measure(("caption_overlap",), "rouge_l_coco", higher_is_better=True)
CAPTION = Measure(("caption_overlap", "cider_d", "caption_bleu"), "rouge_l_coco", higher_is_better=True)
FREE_ANSWER = Measure(("contains_answer", "token_f1", "exact_match"), "contains_answer", higher_is_better=True)
"""SALMONN had another model judge these; holding a reference is the strictest rule that needs none."""

TASKS: dict[str, Measure] = {
    "asr": TRANSCRIPT,
    "lyrics_recognition": TRANSCRIPT,
    "asr_de": OTHER_WORDS,
    "asr_zh": CHARACTERS,
    "phone_recognition": Measure(("per",), "per", higher_is_better=False),
    "speech_separation": SPEAKERS,
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
"""How the tasks are judged, of transcripts those in English; a task that is not here has no metric yet."""

SPOKEN: Mapping[Writing, Measure] = {"english": TRANSCRIPT, "words": OTHER_WORDS, "characters": CHARACTERS}
BY_WRITING: dict[str, Mapping[Writing, Measure]] = {
    **dict.fromkeys(("asr", "asr_de", "asr_zh", "lyrics_recognition"), SPOKEN),
    "speech_separation": {
        "english": SPEAKERS,
        "words": Measure(("cpwer_multilingual",), "cpwer", higher_is_better=False),
        "characters": Measure(("cpcer",), "cpcer", higher_is_better=False),
    },
}
"""How the transcripts of each task are judged, by how their language is written."""
LANGUAGE_OF_TASK = {"asr_de": "de", "asr_zh": "zh"}
"""The language that the name of a task says."""


def measure_of(task: str, writing: Writing = "english") -> Measure:
    """How the outputs of a task are judged, where its transcripts are written like this."""
    return BY_WRITING[task][writing] if task in BY_WRITING else TASKS[task]


def writing_of_language(language: object) -> Writing:
    """What error rates of a language count.

    Args:
        language: a code such as `en`, `zh-CN`, `yue` or `de`; Korean counts words, pinyin (`zh-Latn`) too.

    Raises:
        ValueError: it is no such code.
    """
    code = language.lower().replace("_", "-") if isinstance(language, str) else ""
    if not LANGUAGE.fullmatch(code):
        raise ValueError(f"must be a language code such as en, zh-CN, th or de, got {language!r}")
    name, *subtags = code.split("-")
    if name in ("en", "eng"):
        return "english"
    return "characters" if name in UNSPACED and "latn" not in subtags else "words"


def writing_of_texts(texts: Iterable[str]) -> Writing:
    """What error rates of texts in an unnamed language count, by their scripts; Latin letters are taken as English.

    Raises:
        ValueError: some texts are written one way and some another.
    """
    counts: Counter[Writing] = Counter(filter(None, map(_writing_of_text, texts)))
    ranked = counts.most_common()
    if len(ranked) > 1 and ranked[1][1] > MIXED * counts.total():
        (first, most), (second, more) = ranked[:2]
        raise ValueError(f"{most} references look like {first} and {more} like {second}")
    return ranked[0][0] if ranked else "english"


def is_unspaced(texts: Iterable[str]) -> bool:
    """Whether most texts are in scripts without spaces between words."""
    found = [not text.isascii() and _writing_of_text(text) == "characters" for text in texts]
    return 2 * sum(found) > len(found)


def _writing_of_text(text: str) -> Writing | None:
    """What a text's letters show: one of a script without spaces stands for a word; None without letters."""
    unspaced = len(UNSPACED_LETTER.findall(text))
    words = [word for word in UNSPACED_LETTER.sub(" ", text).split() if any(map(str.isalpha, word))]
    if not unspaced and not words:
        return None
    if unspaced > len(words):
        return "characters"
    latin = sum(
        word.isascii() or all("LATIN" in unicodedata.name(c, "") for c in word if c.isalpha()) for word in words
    )
    return "english" if 2 * latin >= len(words) else "words"
