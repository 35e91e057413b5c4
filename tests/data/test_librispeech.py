"""The LibriSpeech reader, on a miniature of the published folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import record, write

from salmonn_lab.data.corpora import librispeech

SPEAKERS = """\
; Some pipe separated values containing information about speakers
;ID  |SEX| SUBSET           |MINUTES| NAME
61   | M | test-clean       | 8.08  | Paul-Gabriel Wiener
121  | F | test-clean       | 8.13  | Nikolle Doolin
60   | M | train-clean-100  | 20.18 | |CBW|Simon
"""
LEXICON = "HE\tHH IY1\nTHE DH AH0\nTHE(2) DH IY0\nSAID  S EH1 D\nTHE DH IH0\n"


def tree(root: Path) -> Path:
    write(root / "SPEAKERS.TXT", SPEAKERS)
    write(root / "test-clean/121/121726/121-121726.trans.txt", "121-121726-0000 ALSO A POPULAR CONTRIVANCE\n")
    lines = "61-70968-0000 HE SAID THE\n61-70968-0001 DON'T GIVE\n\n61-70968-0002 HE\n"
    write(root / "test-clean/61/70968/61-70968.trans.txt", lines)
    record(root / "test-clean/121/121726", ["121-121726-0000.flac"])
    record(root / "test-clean/61/70968", ["61-70968-0000.flac", "61-70968-0001.flac"])
    return root


def test_targets_are_lower_case_and_references_as_published(tmp_path: Path) -> None:
    reading = librispeech.read(tree(tmp_path), "test-clean")
    assert [example.id for example in reading] == ["61-70968-0000", "61-70968-0001", "121-121726-0000"]
    apostrophe, contrivance = reading[1:]
    assert (apostrophe.task, apostrophe.target, apostrophe.references) == ("asr", "don't give", ("DON'T GIVE",))
    assert contrivance.audio[0].path == str(tmp_path / "test-clean/121/121726/121-121726-0000.flac")
    assert contrivance.meta == {"speaker": "121", "chapter": "121726", "gender": "female", "subset": "test-clean"}


def test_utterances_without_a_recording_are_left_out_by_name(tmp_path: Path) -> None:
    assert librispeech.read(tree(tmp_path), "test-clean").left_out == {"no recording": ["61-70968-0002"]}


def test_an_empty_file_is_no_recording(tmp_path: Path) -> None:
    (tree(tmp_path) / "test-clean/61/70968/61-70968-0000.flac").write_bytes(b"")
    reading = librispeech.read(tmp_path, "test-clean")
    assert reading.left_out == {"no recording": ["61-70968-0000", "61-70968-0002"]}


def test_a_name_with_bars_is_one_name(tmp_path: Path) -> None:
    assert librispeech.read_genders(tree(tmp_path)) == {"61": "male", "121": "female", "60": "male"}


def test_phones_are_the_first_pronunciation_of_the_users_lexicon(tmp_path: Path) -> None:
    lexicon = write(tmp_path / "lexicon.txt", LEXICON)
    reading = librispeech.read_phones(tree(tmp_path), "test-clean", lexicon)
    assert [(example.task, example.target) for example in reading] == [("phone_recognition", "HH IY1 S EH1 D DH AH0")]
    assert reading[0].references == (reading[0].target,)
    assert reading.left_out["a word is not in the lexicon"] == ["61-70968-0001", "121-121726-0000"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("SPEAKERS.TXT", "61 | X | test-clean | 8 | N\n", r"SPEAKERS.TXT:1: expected 'ID \| M or F"),
        ("SPEAKERS.TXT", "121 | F | test-clean | 8 | N\n", r"61-70968.trans.txt:1: speaker 61 is not in"),
        ("test-clean/61/70968/61-70968.trans.txt", "61-70968-0000\n", r"trans.txt:1: expected .* got '61-70968-0000'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    write(tree(tmp_path) / file, text)
    with pytest.raises(ValueError, match=message):
        librispeech.read(tmp_path, "test-clean")


def test_an_unknown_subset_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be one of test-clean, .*, got 'test'"):
        librispeech.read(tree(tmp_path), "test")
