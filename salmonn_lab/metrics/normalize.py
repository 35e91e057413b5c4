"""Normalizers: what two texts may differ in and still count as equal."""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

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
APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u201b\u02bc\u02bb\u02b9\u2032\u00b4\u0060\uff07", "'"))
"""What is written for the straight apostrophe: curly, modifier letters, prime, accents, full width."""
IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]+"
)
"""Characters that Unicode calls default ignorable (zero-width spaces and joiners, variation selectors), and the Arabic
tatweel, which only stretches a word."""
MINUS = re.compile(r"(?<!\w)[-\u2212\u2013\ufe63\uff0d](?=[$\u00a3\u20ac]?\.?\d)")
"""A minus sign: in front of a number, and not between two."""
SIGNS_IN_WORDS = (
    (re.compile(r"(?<![^\W_])([A-Ga-g])\s?[#\u266f]"), r"\1 sharp "),
    (re.compile(r"(?<![^\W_])([A-Ga-g])\s?\u266d"), r"\1 flat "),
    (re.compile(r"(?<![^\W_])([A-G])b(?=m?(?![^\W_]))"), r"\1 flat "),
    (re.compile(r"(?:<=|\u2264)\s*(?=[-$\u00a3\u20ac.]?\d)"), " at most "),
    (re.compile(r"(?:>=|\u2265)\s*(?=[-$\u00a3\u20ac.]?\d)"), " at least "),
    (re.compile(r"[<\uff1c]\s*(?=[-$\u00a3\u20ac.]?\d)"), " less than "),
    (re.compile(r"[>\uff1e]\s*(?=[-$\u00a3\u20ac.]?\d)"), " more than "),
    (re.compile(r"[&\uff06]"), " and "),
    (re.compile(r"\u00b1|\+/?[-\u2212]"), " plusminus "),
    (MINUS, " minus "),
    (re.compile(r"(?<![\w.])\.(?=\d)"), "0."),
    # Grades, and C++; Whisper's normalizer takes "plus" and "minus" for signs of numbers wherever one may follow.
    (re.compile(r"(?<=\b[A-Za-z])[-\u2212](?![\w-])|(?<=\b[A-Za-z])\s+minus\b(?!\s*\d)", re.IGNORECASE), " minussign "),
    (re.compile(r"(?<=[\w+])\+"), " plussign "),
    (re.compile(r"(?<=\b[A-Za-z])\s+plus\s+plus\b", re.IGNORECASE), " plussign plussign "),
    (re.compile(r"(?<=\b[A-Za-z])\s+plus\b(?!\s*\d)", re.IGNORECASE), " plussign "),
)
"""Signs that change what a short answer says, and the words for them."""
DECIMAL = re.compile(r"\.\d")
"""How a decimal fraction without its zero begins."""
KEPT_MARKS = frozenset("#%&@-/\\")
"""Punctuation by Unicode's categories that belongs to the word it stands at."""
REMEMBERED = 65_536
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
    """Text after Whisper's normalizer for English: spelling, numbers, contractions, no punctuation, no fillers.

    Curly apostrophes count as straight ones, which Whisper's own code does not know: it reads "don\u2019t" as "don t".
    """
    # It multiplies numbers out: a model that loops on a digit or on "million" would run into Python's limit of 4,300.
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return str(_english()(text.translate(APOSTROPHES)))
    finally:
        sys.set_int_max_str_digits(limit)


@lru_cache(REMEMBERED)
def whisper_en_signs(text: str) -> str:
    """Apply Whisper's normalizer for English, but keep what tells short answers apart and it deletes.

    Signs become words or stay at their numbers (`C#` is "c sharp", `Bb` "b flat", `<3` "less than 3", `-3` is "-3",
    `R&B` "r and b"), and brackets alone are dropped, not
    what is in them. Text whose letters carry vowel signs or other marks and are not Latin is left to `multilingual`.
    """
    for sign, words in SIGNS_IN_WORDS:
        text = sign.sub(words, text)
    text = re.sub(r"[()\[\]]", " ", text)
    if has_marked_letters(text):
        return multilingual(text)
    return re.sub(r"(?<!\S)\+(?=\d)", "", whisper_en(text)).strip()


def has_marked_letters(text: str) -> bool:
    """Whether a letter that is not Latin carries a mark, which Whisper's normalizer deletes: Hindi, kana, Cyrillic."""
    if text.isascii():
        return False
    plain = unicodedata.normalize("NFKD", text)
    return any(
        unicodedata.category(mark) in ("Mn", "Mc") and letter.isalpha() and "LATIN" not in unicodedata.name(letter, "")
        for letter, mark in pairwise(plain)
    )


def trimmed(text: str) -> str:
    """Lower the case and drop the punctuation at the ends of words, but no sign: `-3`, `.5`, `c#`, `c++` and `a-` stay.

    Where nothing else is there, the punctuation stays.
    """
    words = MINUS.sub("-", unicodedata.normalize("NFC", text.translate(APOSTROPHES))).lower().split()
    return " ".join(filter(None, map(trim, words))) or " ".join(words)


def trim(word: str) -> str:
    """Return a word without the punctuation at its ends."""
    start, end = 0, len(word)
    while start < end and is_mark(word[start]) and not DECIMAL.match(word, start):
        start += 1
    while start < end and is_mark(word[end - 1]):
        end -= 1
    return word[start:end]


def is_mark(character: str) -> bool:
    """Tell whether a character is punctuation, and no sign that changes the word it stands at."""
    return character not in KEPT_MARKS and (unicodedata.category(character).startswith("P") or character == "`")


def whisper_basic(text: str) -> str:
    """Apply Whisper's normalizer for other languages: lower case, no brackets, no punctuation."""
    return str(BasicTextNormalizer()(text))


def multilingual(text: str) -> str:
    """Lower-case words of any language that writes spaces: no punctuation and no symbols, compatibility forms (NFKC).

    Combining vowel signs and accents stay (Hindi, Arabic, Hebrew), and so do apostrophes within words, curly ones as
    straight ones. Numbers stay as they are written; no text is dropped for standing in brackets.
    """
    plain = IGNORED.sub("", unicodedata.normalize("NFKC", text.translate(APOSTROPHES)).lower())
    # Lower case takes the Turkish capital apart into a letter and a dot that no small letter has.
    plain = plain.replace("i\u0307", "i")
    spaced = "".join(c if c == "'" or _is_written(c) else " " for c in plain)
    return " ".join(filter(None, (word.strip("'") for word in spaced.split())))


def _is_written(character: str) -> bool:
    """Whether a character is part of a word: no white space, punctuation, symbol, control or enclosing character."""
    category = unicodedata.category(character)
    return category[0] not in "ZPS" and category not in ("Cc", "Me")


def gigaspeech(text: str) -> str:
    """Apply the post-processing of GigaSpeech's official scoring: capitals, no hyphens, no fillers, no tags."""
    words = text.upper().replace("-", " ").split()
    return " ".join(word for word in words if not GIGASPEECH_DROPPED.fullmatch(word))


def gigaspeech_punct(text: str) -> str:
    """Drop punctuation, which the references write as tags, then apply GigaSpeech's official post-processing."""
    return gigaspeech(lower_punct(text))


def raw_lower(text: str) -> str:
    """Lower the case and make every run of white space one space."""
    return re.sub(r"\s+", " ", text.lower()).strip()


@lru_cache(REMEMBERED)
def lower_punct(text: str) -> str:
    """Lower the case and make all punctuation white space, but for apostrophes within words."""
    plain = "".join(
        character if character == "'" or not unicodedata.category(character).startswith("P") else " "
        for character in text.lower().translate(APOSTROPHES)
    )
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", plain).split())


def cjk(text: str) -> str:
    """Characters alone, for error rates of languages without spaces between words: Chinese, Japanese, Thai, Khmer ...

    No white space, punctuation, symbols or zero-width characters; combining vowel signs stay. Full-width letters and
    half-width kana become the usual ones (NFKC), capitals small ones. Numbers stay as they are written, and neither
    simplified nor traditional characters are converted.
    """
    plain = IGNORED.sub("", unicodedata.normalize("NFKC", text.translate(APOSTROPHES)).lower())
    return "".join(filter(_is_written, plain))


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
        Normalizer("whisper_en", 2, whisper_en),
        Normalizer("whisper_en_signs", 2, whisper_en_signs),
        Normalizer("whisper_basic", 1, whisper_basic),
        Normalizer("gigaspeech", 1, gigaspeech),
        Normalizer("gigaspeech_punct", 1, gigaspeech_punct),
        Normalizer("trimmed", 2, trimmed),
        Normalizer("raw_lower", 1, raw_lower),
        Normalizer("lower_punct", 2, lower_punct),
        Normalizer("cjk", 2, cjk),
        Normalizer("multilingual", 1, multilingual),
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
