"""Named normalizers give the strings that their version stands for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from salmonn_lab.metrics.normalize import NORMALIZERS, Normalizer, find

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_normalizers.json").read_text(encoding="utf-8"))
CASES = [(name, text) for name in ("whisper_en", "whisper_basic") for text in GOLDEN[name]]


@pytest.mark.parametrize(("name", "text"), CASES)
def test_whisper_normalizers_give_the_golden_strings(name: str, text: str) -> None:
    assert NORMALIZERS[name](text) == GOLDEN[name][text]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("raw_lower", "  Don't\tSTOP,\n now ", "don't stop, now"),
        ("raw_lower", "ÉTÉ\u3000今", "été 今"),
        ("raw_lower", "", ""),
        ("exact", "  Don't  STOP \n", "Don't  STOP"),
    ],
)
def test_plain_normalizers_give_these_strings(name: str, text: str, expected: str) -> None:
    assert NORMALIZERS[name](text) == expected


@pytest.mark.parametrize(
    "text", ["9" * 5000, "nine " * 5000 + "hundred", "one " + "decillion " * 200, "2 million " * 900]
)
def test_a_looped_number_of_any_length_is_normalized(text: str) -> None:
    limit = sys.get_int_max_str_digits()
    assert NORMALIZERS["whisper_en"](text)
    assert sys.get_int_max_str_digits() == limit


def test_a_name_and_a_normalizer_are_found_and_an_unknown_name_is_refused() -> None:
    own = Normalizer("own", 3, str.upper)
    assert find(own) is own
    assert own.label == "own@3"
    assert find("exact").label == "exact@1"
    with pytest.raises(ValueError, match="no normalizer 'whisper'; there are whisper_en"):
        find("whisper")
