"""Normalizers: what two texts may differ in and still count as equal."""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from salmonn_lab.metrics.treebank import tokenize_caption

GIGASPEECH_DROPPED = re.compile(
    "UH|UHH|UM|EH|MM|HM|AH|HUH|HA|ER|OOF|HEE|ACH|EEE|EW"
    "|<(UNK|COMMA|PERIOD|QUESTIONMARK|EXCLAMATIONPOINT|SIL|NOISE|MUSIC|OTHER)>"
)
"""Fillers and tags that the official scoring of GigaSpeech leaves out."""
SILENCES = frozenset(("SIL", "SP", "SPN", "<EPS>"))
"""What lexicons and aligners write between phones."""
REMEMBERED = 32_768
"""Texts whose normalized form is kept: a report reads each output and reference of a test set several times."""


@dataclass(frozen=True)
class Normalizer:
    """A function of a text, with the name and version that signatures show."""

    name: str
    version: int
    """Raised whenever any text would come out differently."""
    function: Callable[[str], str]

    @property
    def label(self) -> str:
        """What stands in a signature, as in `whisper_en@1`."""
        return f"{self.name}@{self.version}"

    def __call__(self, text: str) -> str:
        """Return the normalized text."""
        return self.function(text)


@cache
def _english() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


@lru_cache(REMEMBERED)
def whisper_en(text: str) -> str:
    """Apply Whisper's normalizer for English: spelling, numbers, contractions, no punctuation, no fillers."""
    # It multiplies numbers out: a model that loops on a digit or on "million" would run into Python's limit of 4,300.
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return str(_english()(text))
    finally:
        sys.set_int_max_str_digits(limit)


def whisper_basic(text: str) -> str:
    """Apply Whisper's normalizer for other languages: lower case, no brackets, no punctuation."""
    return str(BasicTextNormalizer()(text))


def gigaspeech(text: str) -> str:
    """Apply the post-processing of GigaSpeech's official scoring: capitals, no hyphens, no fillers, no tags."""
    words = text.upper().replace("-", " ").split()
    return " ".join(word for word in words if not GIGASPEECH_DROPPED.fullmatch(word))


def raw_lower(text: str) -> str:
    """Lower the case and make every run of white space one space."""
    return re.sub(r"\s+", " ", text.lower()).strip()


def lower_punct(text: str) -> str:
    """Lower the case and make all punctuation white space, but for apostrophes within words."""
    plain = "".join(
        character if character == "'" or not unicodedata.category(character).startswith("P") else " "
        for character in text.lower().replace("\u2019", "'")
    )
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", plain).split())


def cjk(text: str) -> str:
    """Keep the characters alone, for error rates of Chinese and Japanese: no white space, punctuation or symbols.

    Full-width letters and half-width kana become the usual ones (NFKC), capitals small ones. Numbers stay as they are
    written, and neither simplified nor traditional characters are converted.
    """
    plain = unicodedata.normalize("NFKC", text).lower()
    return "".join(c for c in plain if unicodedata.category(c)[0] not in "ZPS" and unicodedata.category(c) != "Cc")


def phones(text: str) -> str:
    """Return ARPAbet phones in capitals, without stress digits, silences and what stands between phones."""
    found = (re.sub(r"[012]$", "", phone) for phone in re.split(r"[\s,./|]+", text.upper()) if phone)
    return " ".join(phone for phone in found if phone and phone not in SILENCES)


def squad(text: str) -> str:
    """Lower the case, drop ASCII punctuation and articles, as the evaluation of SQuAD does."""
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def rouge(text: str) -> str:
    """Keep ASCII letters in lower case and digits, as Google's `rouge_score` does: other scripts vanish."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


NORMALIZERS = {
    normalizer.name: normalizer
    for normalizer in (
        Normalizer("whisper_en", 1, whisper_en),
        Normalizer("whisper_basic", 1, whisper_basic),
        Normalizer("gigaspeech", 1, gigaspeech),
        Normalizer("raw_lower", 1, raw_lower),
        Normalizer("lower_punct", 1, lower_punct),
        Normalizer("cjk", 1, cjk),
        Normalizer("phones", 1, phones),
        Normalizer("squad", 1, squad),
        Normalizer("rouge", 1, rouge),
        Normalizer("ptb_py", 1, tokenize_caption),
        Normalizer("exact", 1, str.strip),
    )
}
"""All of them by name; `exact` changes nothing but white space at the ends, `ptb_py` is the captions' tokenizer."""


def find(normalizer: str | Normalizer) -> Normalizer:
    """Return a normalizer by name, or the one that is given.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(normalizer, Normalizer):
        return normalizer
    if normalizer not in NORMALIZERS:
        raise ValueError(f"no normalizer '{normalizer}'; there are {', '.join(NORMALIZERS)}")
    return NORMALIZERS[normalizer]


def encodable(text: str) -> str:
    """Return a text that UTF-8 can hold, as tools outside Python need: lone surrogates become U+FFFD."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
