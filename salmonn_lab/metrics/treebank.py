"""The tokenizer of caption evaluation: that of the Penn Treebank, as the COCO tools run it."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import zip_longest

DROPPED = frozenset(("''", '"', "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""Tokens that the COCO tools leave out. Their list has `-LRB-` too, but tokens are lower-cased, so brackets stay."""
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
SPLIT_WORDS = {
    "cannot": "can not",
    "gonna": "gon na",
    "gotta": "got ta",
    "wanna": "wan na",
    "lemme": "lem me",
    "gimme": "gim me",
    "'tis": "'t is",
    "'twas": "'t was",
    "y'all": "y' all",
}
ABBREVIATION = re.compile(
    r"mr|mrs|ms|dr|prof|st|jr|sr|gen|col|capt|sgt|lt|rev|hon|inc|co|ltd|corp|vs|etc|e\.g|i\.e|a\.m|p\.m|u\.s(\.a)?|u\.k"
    r"|ph\.d|al|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec"
)
"""What keeps the full stop behind it."""
FRACTIONS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4"}
QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", **FRACTIONS})
TOKEN = re.compile(
    r"""
      https?://\S+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+              # addresses
    | <[a-z/][^<>\s]*>                                         # tags
    | n't\b | '(?:s|m|d|re|ve|ll)\b                            # what is left of contractions
    | o'clock\b | '?n'$ | '(?:em|cause|til|tis|twas)\b   # words with an apostrophe of their own
    | \d+(?:st|nd|rd|th)\b                                     # ordinals
    | '\d\ds\b                                                 # decades
    | [+-]?\d++(?:[.,:/]\d++)++(?!-\w)                         # times, fractions
    | [+-]?\d++(?=[ap]m\b|[^\w-]|-\W|-?$)                       # numbers
    | (?:[^\W\d_]\.){2,}                                       # a.m., u.s.a.
    | @?\w+(?:[-/.&]\w+|'(?!s\b|m\b|d\b|re\b|ve\b|ll\b|t\b)[^\W\d_]+)*  # words, hyphens and slashes within
    | \.{2,} | -{2,} | [?!]+ | ``|'' | [^\w\s]
    """,
    re.VERBOSE,
)
CONTRACTION = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))(?![\w])")


def tokenize_caption(text: str) -> str:
    """Return the tokens of a caption in lower case with a space between, punctuation left out.

    The rules are those of CoreNLP 3.4.1's `PTBTokenizer -lowerCase -preserveLines`, as far as captions need them:
    contractions are split, words with hyphens are not, brackets are named.
    """
    pieces = text.translate(QUOTES).lower().split()
    tokens: list[str] = []
    for piece, following in zip_longest(pieces, pieces[1:], fillvalue=""):
        # The one abbreviation that is a word too: it depends on what follows.
        tokens += (piece,) if piece == "no." and following[:1].isdigit() else tokenize_piece(piece)
    return " ".join(tokens)


# Most of the words of captions are few.
@lru_cache(maxsize=1 << 16)
def tokenize_piece(piece: str) -> tuple[str, ...]:
    """Return the tokens of what stands between spaces, in lower case."""
    plain = CONTRACTION.sub(r" \1", CONTRACTION.sub(r" \1", piece))
    tokens: list[str] = []
    for match in TOKEN.finditer(plain):
        token = match.group()
        if ABBREVIATION.fullmatch(token) and plain.startswith(".", match.end()):
            token += "."
        token = BRACKETS.get(token, SPLIT_WORDS.get(token, token))
        if token not in DROPPED and not re.fullmatch(r"\.{2,}|-{2,}", token):
            tokens.append(token)
    return tuple(tokens)
