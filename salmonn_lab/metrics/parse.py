"""Parsers: which of an item's choices an output makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from salmonn_lab.metrics.answer import occurrences
from salmonn_lab.metrics.distinct import Form, form_of, may_stand
from salmonn_lab.metrics.normalize import NORMALIZERS, trim

PARSER = "choice@3"
"""Name and version of `choose` and `parse_choice`, for signatures."""
BASE = NORMALIZERS["whisper_en_signs"]
"""What parsers that read words compare choices by, where it keeps them apart."""
SIGNS = frozenset(("sharp", "flat", "plus", "minus", "plussign", "minussign"))
"""Words that change the note or grade in front of them."""
LOOSE_MINUS = re.compile(r"(?<!\w)[-\u2212\u2013]\s+(?=\d)")
Words = Callable[[str], Sequence[str]]
Rule = Callable[[str, Iterable[str], Words], str | None]
ALONE = re.compile(r"[\s(\[\"'*]*([A-Za-z])[\s)\]\"'*.:,]*")
"""A letter and nothing else; the only place where it may be a small one."""
IN_FRONT = re.compile(r"\s*[(\[*\"']*([A-Z])[\"'*]*[)\].:](?=\s|$)")
"""A letter that a bracket, a full stop or a colon sets off from what follows: `B. Piano`."""
IN_BRACKETS = re.compile(r"[(\[]([A-Z])[)\]]")
ANNOUNCED = re.compile(
    r"\b(?:answer|option|choice)\b(?:\s+is)?\s*:?\s*(?:option\s+|choice\s+)?[(\[\"'*]*([A-Z])(?=[)\]\"'*.,:;!?]|\s*$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Parser:
    """A rule that reads a choice, with the name and version that signatures show."""

    name: str
    version: int
    """Raised whenever any output would be read differently."""
    function: Callable[[str, Sequence[str]], frozenset[int]]
    """Turns an output and an item's choices into the positions of those chosen: equal choices together, none where the
    output is not understood. A position beyond the choices is an answer too, a wrong one."""

    @property
    def label(self) -> str:
        """What stands in a signature, as in `letter@1`."""
        return f"{self.name}@{self.version}"

    def __call__(self, text: str, choices: Sequence[str]) -> frozenset[int]:
        """Return the positions of the choices that a text makes."""
        return self.function(text, choices)


def read_letter(text: str, choices: Sequence[str]) -> frozenset[int]:
    """Read the one letter of a choice that stands alone, is set off, or is announced as the answer.

    `B`, `b`, `(B)`, `B. Piano`, `The answer is B.` are read; `A dog barks`, and two different letters, are not.
    """
    alone = ALONE.fullmatch(text)
    if alone:
        letters = {alone[1].upper()}
    else:
        front = IN_FRONT.match(text)
        found = [match for pattern in (IN_BRACKETS, ANNOUNCED) for match in pattern.findall(text)]
        letters = {letter for letter in (*found, *([front[1]] if front else ())) if letter.isupper()}
    positions = frozenset(ascii_uppercase.index(letter) for letter in letters)
    return positions if len(positions) == 1 and max(positions) < len(choices) else frozenset()


def read_text(text: str, choices: Sequence[str]) -> frozenset[int]:
    """Read the one choice whose words stand in the output; see `choose` and `parse_choice`."""
    return positions_of(text, choices, parse_choice)


def read_letter_or_text(text: str, choices: Sequence[str]) -> frozenset[int]:
    """Read a letter, or else the text of a choice.

    Where a choice is a letter itself, as a note is, an output that may mean either says nothing.
    """
    letter = read_letter(text, choices)
    if letter and any(len(choice.strip()) == 1 for choice in choices):
        named = read_text(text, choices)
        return letter if named in (letter, frozenset()) else frozenset()
    return letter or read_text(text, choices)


def read_first(text: str, choices: Sequence[str]) -> frozenset[int]:
    """Read the choice that is named first, whatever follows: "Yes, there are no others" says yes."""
    return positions_of(text, choices, first_choice)


def positions_of(text: str, choices: Sequence[str], rule: Rule) -> frozenset[int]:
    """Positions of the choice that a rule reads, compared in the loosest form that keeps the choices apart."""
    form = form_of(frozenset(choice.strip() for choice in choices) - {""}, BASE)
    keys = [form(choice) for choice in choices]
    chosen = choose(text, dict(zip(keys, choices, strict=True)), form, rule)
    return frozenset(number for number, key in enumerate(keys) if key == chosen)


def read_mmau(text: str, choices: Sequence[str]) -> frozenset[int]:
    """Apply the official rule of MMAU, which MMAR took over (github.com/Sakshi113/MMAU, evaluation.py).

    A choice is made where all its words are in the output, and no word of another choice that is not its own. So a
    letter alone is nothing, and "not sad" is sad.
    """
    written = word_set(text)
    sets = [word_set(choice) for choice in choices]
    if not written:
        return frozenset()
    chosen = set()
    for number, words in enumerate(sets):
        others = set().union(*(other - words for other in sets))
        if words <= written and not written & others:
            chosen.add(number)
    return frozenset(chosen)


def read_air_bench(text: str, choices: Sequence[str]) -> frozenset[int]:
    """Apply the official rule of AIR-Bench's foundation part (github.com/OFA-Sys/AIR-Bench, score_foundation.py).

    The first character counts if it is A to D, or else the last but one: "A dog barks" is A, "Dogs bark" is D, and
    "The answer is C" without a full stop is nothing.
    """
    plain = text.strip().replace("\n", "")
    if plain == "None":
        return frozenset()
    letter = next((letter for letter in (plain[:1], plain[-2:-1]) if letter and letter in "ABCD"), None)
    return frozenset() if letter is None else frozenset({"ABCD".index(letter)})


PARSERS = {
    parser.name: parser
    for parser in (
        Parser("letter", 1, read_letter),
        Parser("text", 3, read_text),
        Parser("letter_or_text", 3, read_letter_or_text),
        Parser("first", 3, read_first),
        Parser("mmau", 1, read_mmau),
        Parser("air_bench", 1, read_air_bench),
    )
}
OFFICIAL = ("mmau", "air_bench")
"""Rules of others, which are kept to the letter."""


def find(parser: str | Parser) -> Parser:
    """Return a parser by name, or the one that is given.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(parser, Parser):
        return parser
    if parser not in PARSERS:
        raise ValueError(f"no parser '{parser}'; there are {', '.join(PARSERS)}")
    return PARSERS[parser]


def choose(text: str, choices: Mapping[str, str], form: Form, rule: Rule | None = None) -> str | None:
    """The choice that an output makes, as a key; None where it makes none, more than one, or it cannot be told which.

    A minus sign may stand apart from its number, or be a dash: what the two readings give must not differ. A mark at
    the end of a choice may end a sentence: it tells two choices apart only where the output is one of them to the
    letter.

    Args:
        text: an output.
        choices: as they are written, by what they are in this form.
        form: in which they are compared.
        rule: reads a normalized text; None is `parse_choice`.
    """
    verbatim = [key for key, choice in choices.items() if choice.strip() == text.strip() != ""]
    if len(verbatim) == 1:
        return verbatim[0]
    read = rule or parse_choice
    chosen = read(form(text), choices, form.words)
    if chosen is None:
        return None
    joined = LOOSE_MINUS.sub("-", text)
    if joined != text and read(form(joined), choices, form.words) not in (chosen, None):
        return None
    if form.marks and chosen != form(text) and any(adds_marks(form, chosen, other) for other in choices):
        return None
    return chosen


def adds_marks(form: Form, choice: str, other: str) -> bool:
    """Tell whether a choice is another one with marks around it."""
    long, short = form.words(choice), form.words(other)
    return len(long) > len(short) and " ".join(map(trim, long)).strip() == " ".join(map(trim, short)).strip()


def parse_choice(text: str, choices: Iterable[str], words: Words = str.split) -> str | None:
    """Return the one choice that a text makes; None where it makes none, or more than one.

    That is the choice it equals, else the only one whose words stand in it side by side. A choice that stands there
    only as part of a longer one does not count: "not sad" chooses "not sad", though "sad" is a choice too.

    Args:
        text: normalized.
        choices: normalized in the same way.
        words: divides both.
    """
    allowed = {choice for choice in choices if choice}
    if text in allowed:
        return text
    named = named_choices(text, allowed, words)
    found = {choice for span, choice in named if not any(contains(other, span) for other, _ in named)}
    return found.pop() if len(found) == 1 else None


def first_choice(text: str, choices: Iterable[str], words: Words = str.split) -> str | None:
    """The choice that a text equals or names first, of several that start there the longest; None where there is none.

    The arguments are those of `parse_choice`.
    """
    allowed = {choice for choice in choices if choice}
    if text in allowed:
        return text
    places = [((span.start, -len(span)), choice) for span, choice in named_choices(text, allowed, words)]
    first = min(places, default=None)
    same = {choice for place, choice in places if first and place == first[0]}
    return same.pop() if len(same) == 1 else None


def named_choices(text: str, choices: Iterable[str], words: Words) -> list[tuple[range, str]]:
    """Where the words of each choice stand side by side in a text, but for a note or grade whose sign is cut off."""
    tokens = words(text)
    return [
        (span, choice)
        for choice in choices
        if may_stand(choice, text)
        for span in occurrences(words(choice), tokens)
        if len(span) and not cuts_sign(tokens, span)
    ]


def cuts_sign(tokens: Sequence[str], span: range) -> bool:
    """Tell whether a stretch lacks a sign next to it: `C` in "C sharp", `3` in "±3" and "plus 3"."""
    if span.start and (tokens[span.start - 1] == "plusminus" or is_signed(tokens[span.start - 1], tokens[span.start])):
        return True
    following = tokens[span.stop] if span.stop < len(tokens) else ""
    last = tokens[span.stop - 1]
    return len(last) == 1 and last.isalpha() and following in SIGNS


def is_signed(sign: str, word: str) -> bool:
    """Tell whether a word in front of a number is its sign: "minus 3"."""
    return sign in ("minus", "plus", "negative", "positive") and word.lstrip("$\u00a3\u20ac")[:1].isdigit()


def contains(outer: range, inner: range) -> bool:
    """Tell whether a stretch lies within a longer one."""
    return outer.start <= inner.start and inner.stop <= outer.stop and len(outer) > len(inner)


def word_set(text: str) -> set[str]:
    """Return the different words of a text in lower case."""
    return set(re.findall(r"\b\w+\b", text.lower()))
