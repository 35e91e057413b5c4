"""Forms in which texts are compared: the loosest one that keeps the members of a set of answers apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import regex

from salmonn_lab.metrics.normalize import NORMALIZERS, Normalizer, trimmed

LADDER = tuple(NORMALIZERS[name] for name in ("whisper_en_signs", "trimmed", "raw_lower", "exact"))
"""From loose to strict: sets that a normalizer cannot keep apart go on to the next."""
LADDER_LABEL = "ladder@2"
"""Name and version of the ladder and of how a form divides texts into words, for signatures."""
WITH_MARKS = ("raw_lower", "exact")
"""Normalizers that leave punctuation where it stands."""
PIECES = re.compile(r"(?<!\w)[-+]\d[\w.,]*\w|(?<!\w)[-+]\d|\w+(?:['\u2019]\w+)*[#+]*|[^\w\s]")
"""A word with its sign, or a punctuation mark."""
UNSPACED = r"[\u3005-\u3007\u3040-\u30ff\p{Han}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
"""Letters of scripts without spaces between words."""
UNITS = regex.compile(rf"{UNSPACED}\p{{M}}*|(?:(?!{UNSPACED})\S)+")
"""What stands between spaces, and each letter of a script without them."""
REMEMBERED = 4_096
"""Sets of choices whose form is kept: many items offer the same ones."""


@dataclass(frozen=True)
class Form:
    """A normalizer, and what words of a text are once it is normalized."""

    normalizer: Normalizer
    marks: bool = False
    """Whether punctuation marks are words of their own, as they must be where they tell answers apart."""

    def __call__(self, text: str) -> str:
        """Text as it is compared, without white space at the ends."""
        return self.normalizer(text).strip()

    def words(self, normalized: str) -> list[str]:
        """Words of a text that is normalized; letters of scripts without spaces between words are words."""
        if self.marks:
            return PIECES.findall(normalized)
        units: list[str] = normalized.split() if normalized.isascii() else UNITS.findall(normalized)
        return units


def may_stand(part: str, text: str) -> bool:
    """Whether some words may be looked for in a text: one letter of a script without spaces must stand alone in it.

    The Chinese for "yes" is part of the word for "but".

    Args:
        part: normalized.
        text: normalized in the same way.
    """
    return part.isascii() or part in text.split() or not regex.fullmatch(rf"{UNSPACED}\p{{M}}*", part)


def stricter(normalizer: Normalizer) -> list[Form]:
    """Forms from a normalizer on, from loose to strict; the last one changes nothing but white space at the ends."""
    names = [rung.name for rung in LADDER]
    above = LADDER[names.index(normalizer.name) + 1 :] if normalizer.name in names else LADDER
    return [Form(normalizer), *(Form(rung, rung.name in WITH_MARKS) for rung in above)]


@lru_cache(REMEMBERED)
def form_of(texts: frozenset[str], normalizer: Normalizer) -> Form:
    """The loosest form in which all texts are different and none is empty, the normalizer's own where that will do.

    Args:
        texts: the members of a set of choices or labels, without white space at the ends, none of them empty.
        normalizer: what is tried first.
    """
    for form in stricter(normalizer):
        keys = {form(text) for text in texts}
        if len(keys) == len(texts) and "" not in keys:
            return form
    return Form(NORMALIZERS["exact"], marks=True)


def check_choices(choices: Sequence[str]) -> None:
    """Raise ValueError where an item offers the same choice twice, or an empty one."""
    seen = set()
    for choice in choices:
        text = choice.strip()
        if not text:
            raise ValueError(f"one of the choices {list(choices)[:10]} is empty")
        if text in seen:
            raise ValueError(f"the choice {text!r} is offered twice in {list(choices)[:10]}")
        seen.add(text)


def merge_spellings(texts: Iterable[str]) -> set[str]:
    """Texts of a test set's references, one for all that differ in case, spaces and punctuation at the ends alone.

    Annotators write "Dog." and "dog" for one label; choices of one item that differ in this are kept apart.
    """
    return {trimmed(text) for text in texts} - {""}
