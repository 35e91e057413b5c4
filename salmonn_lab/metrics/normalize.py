"""Normalizers: what two texts may differ in and still count as equal."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer


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


def raw_lower(text: str) -> str:
    """Lower the case and make every run of white space one space."""
    return re.sub(r"\s+", " ", text.lower()).strip()


NORMALIZERS = {
    normalizer.name: normalizer
    for normalizer in (
        Normalizer("whisper_en", 1, whisper_en),
        Normalizer("whisper_basic", 1, whisper_basic),
        Normalizer("raw_lower", 1, raw_lower),
        Normalizer("exact", 1, str.strip),
    )
}


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
