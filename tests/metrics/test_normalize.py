"""Named normalizers give the strings that their version stands for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salmonn_lab.metrics.normalize import NORMALIZERS, Normalizer, encodable, find

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics_normalizers.json").read_text(encoding="utf-8"))
CASES = [(name, text) for name in ("whisper_en", "whisper_basic", "gigaspeech") for text in GOLDEN[name]]


@pytest.mark.parametrize(("name", "text"), CASES)
def test_normalizers_give_the_golden_strings(name: str, text: str) -> None:
    assert NORMALIZERS[name](text) == GOLDEN[name][text]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("raw_lower", "  Don't\tSTOP,\n now ", "don't stop, now"),
        ("raw_lower", "ÉTÉ\u3000今", "été 今"),
        ("raw_lower", "", ""),
        ("exact", "  Don't  STOP \n", "Don't  STOP"),
        ("gigaspeech", "", ""),
        ("gigaspeech", "um, UH", "UM,"),
        ("lower_punct", "Don’t STOP — state-of-the-art (ok)!", "don't stop state of the art ok"),
        ("lower_punct", "the dogs' 'quoted' o'clock", "the dogs quoted o'clock"),
        ("lower_punct", "今天，天气。", "今天 天气"),
        ("lower_punct", "...", ""),
        ("cjk", "今天 天气，很好。Ａ１ b!", "今天天气很好a1b"),
        ("cjk", "カタカナ・ｶﾀｶﾅ 「データ」 50％", "カタカナカタカナデータ50"),
        ("cjk", "\t\u3000 ", ""),
        ("cjk", "你\u200b好\ufe0f（ok）", "你好ok"),
        ("cjk", "น้ำ\u200bใส ๆ", "น้\u0e4d\u0e32ใสๆ"),
        ("cjk", "ｶﾞｷﾞ５０％", "ガギ50"),
        ("whisper_en", "Don’t say it\u02bcs Brian‘s", "do not say it is brian is"),
        ("multilingual", "L’État — c’est moi !", "l'état c'est moi"),
        ("multilingual", "п\u02bcять, П’ЯТЬ", "п'ять п'ять"),
        ("multilingual", "हिन्दी में, नमस्ते।", "हिन्दी में नमस्ते"),
        ("multilingual", "مَرْحَبًا، كيـــف؟", "مَرْحَبًا كيف"),
        ("multilingual", "שָׁלוֹם, עוֹלָם!", "שָׁלוֹם עוֹלָם"),
        ("multilingual", "‘Quoted’ dogs’ [ok] (so) u\u0308ber １２", "quoted dogs ok so über 12"),
        ("multilingual", "İstanbul’da Stra\u00adße", "istanbul'da straße"),
        ("multilingual", "می\u200cخواهم a\u0301\ufeff", "میخواهم á"),
        ("multilingual", "안녕하세요, 세계!", "안녕하세요 세계"),
        ("multilingual", "¡¿...?! ' ''", ""),
        ("whisper_en_signs", "minus three dB", "-3 db"),
        ("whisper_en_signs", "It's -3.5 dB (left)!", "it is -3.5 db left"),
        ("whisper_en_signs", "\u22123 to +3, 2-3", "-3 to 3 2 3"),
        ("whisper_en_signs", "C# minor, D\u266d, E-flat", "c sharp minor d flat e flat"),
        (
            "whisper_en_signs",
            "A- and B+, A minus, C++, C plus plus",
            "a minussign and b plussign a minussign c plussign plussign c plussign plussign",
        ),
        ("whisper_en_signs", "The twenty one colours, OK?", "the 21 colors ok"),
        ("whisper_en_signs", "\u0915\u093e (1)", "\u0915\u093e 1"),
        ("whisper_en_signs", "\u304c\u304d", "\u304c\u304d"),
        ("whisper_en_signs", "Caf\u00e9", "cafe"),
        ("trimmed", " 'C#', \u22123; (C++) A- ... don\u2019t!", "c# -3 c++ a- don't"),
        ("trimmed", "State-of-the-art **x**", "state-of-the-art x"),
        ("trimmed", " ?! ", "?!"),
        ("trimmed", "", ""),
        ("gigaspeech_punct", "Um, it\u2019s e-commerce, <COMMA> isn't it?", "IT'S E COMMERCE ISN'T IT"),
        ("phones", "HH AH0 L OW1 sil W ER1 L D", "HH AH L OW W ER L D"),
        ("phones", "dh, ih k | ae2 t <eps> spn.", "DH IH K AE T"),
        ("phones", "", ""),
        ("squad", "The 1976 Olympics, an era!", "1976 olympics era"),
        ("squad", "a the an", ""),
        ("rouge", "It's a café -- No. 5!", "it s a caf no 5"),
        ("rouge", "今天", ""),
        ("ptb_py", "A dog's bark isn't (loud).", "a dog 's bark is n't -lrb- loud -rrb-"),
    ],
)
def test_plain_normalizers_give_these_strings(name: str, text: str, expected: str) -> None:
    assert NORMALIZERS[name](text) == expected


@pytest.mark.parametrize("apostrophe", "’‘ʼ‛´＇")
def test_english_with_any_apostrophe_equals_english_with_the_straight_one(apostrophe: str) -> None:
    text = "I don't think they're 'here', it's Brian's and we've won't can't y'all"
    for name in ("whisper_en", "lower_punct", "multilingual"):
        assert NORMALIZERS[name](text.replace("'", apostrophe)) == NORMALIZERS[name](text)


@pytest.mark.parametrize(
    "text", ["9" * 5000, "nine " * 5000 + "hundred", "one " + "decillion " * 200, "2 million " * 900]
)
def test_a_looped_number_of_any_length_is_normalized(text: str) -> None:
    limit = sys.get_int_max_str_digits()
    assert NORMALIZERS["whisper_en"](text)
    assert sys.get_int_max_str_digits() == limit


@pytest.mark.parametrize("name", NORMALIZERS)
@settings(max_examples=40, deadline=None)
@given(st.text(st.sampled_from("aZ9 .-'\"(今カé\ud800\u3000\n\x00🙂%"), max_size=20))
def test_nothing_that_is_normalized_holds_a_line_break_or_changes_its_white_space(name: str, text: str) -> None:
    plain = NORMALIZERS[name](text)
    assert name == "exact" or "\n" not in plain
    if name in ("gigaspeech", "raw_lower", "lower_punct", "cjk", "multilingual", "phones", "squad", "rouge", "ptb_py"):
        assert plain == " ".join(plain.split())


def test_lone_surrogates_alone_are_replaced() -> None:
    assert encodable("a\ud800\udfffé🙂") == "a\ufffd\ufffdé🙂"


def test_a_name_and_a_normalizer_are_found_and_an_unknown_name_is_refused() -> None:
    own = Normalizer("own", 3, str.upper)
    assert find(own) is own
    assert own.label == "own@3"
    assert find("exact").label == "exact@1"
    with pytest.raises(ValueError, match="no normalizer 'whisper'; there are whisper_en"):
        find("whisper")
