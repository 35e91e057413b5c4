"""The CoVoST 2 reader, on miniatures of both published forms."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas
import pytest
from trees import record, write

from salmonn_lab.data.corpora import covost2

READY = (
    "path\tsentence\ttranslation\tclient_id\n"
    'common_voice_en_1.mp3\t"Hello, he said.\t"你好", 他说。\tspeaker-a\n'
    'common_voice_en_2.mp3\t\\"Quoted\\" words\t\\"引用\\"的话\tspeaker-b\n'
    "common_voice_en_3.mp3\tA back\\\\slash\t反斜杠\\\\\tspeaker-b\n"
    "common_voice_en_4.mp3\tNA\tNA\tspeaker-c\n"
    "common_voice_en_5.mp3\tNothing\t \tspeaker-c\n"
    "common_voice_en_6.mp3\tUnheard\t没听见\tspeaker-c\n"
)
VALIDATED = (
    "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent\n"
    'speaker-a\tcommon_voice_en_1.mp3\tA "quoted word\t2\t0\tfifties\tfemale\tus\n'
    "speaker-b\tcommon_voice_en_2.mp3\tTwo\t2\t1\t\t\t\n"
    "speaker-c\tcommon_voice_en_3.mp3\tThree\t2\t1\t\t\t\n"
    "speaker-c\tcommon_voice_en_4.mp3\tFour\t2\t1\t\t\t\n"
    "speaker-c\tcommon_voice_en_5.mp3\tFive\t2\t1\t\t\t\n"
    "speaker-c\tcommon_voice_en_9.mp3\tNot translated\t2\t1\t\t\t\n"
)
TRANSLATIONS = (
    "path\ttranslation\tsplit\n"
    "common_voice_en_2.mp3\tZwei\ttest\n"
    "common_voice_en_7.mp3\tSieben\ttest\n"
    "common_voice_en_3.mp3\tDrei\ttrain\n"
    'common_voice_en_1.mp3\tEin "zitiertes Wort\ttest\n'
    "common_voice_en_4.mp3\tVier\ttrain_covost\n"
    "common_voice_en_5.mp3\tF\u00fcnf\tdev_covost\n"
)


def clips(root: Path, *numbers: int) -> Path:
    record(root / "clips", [f"common_voice_en_{number}.mp3" for number in numbers])
    return root


def test_quotes_are_characters_and_backslashes_take_the_next_one_literally(tmp_path: Path) -> None:
    path = write(clips(tmp_path, 1, 2, 3, 4, 5) / "covost_v2.en_zh-CN.test.tsv", READY)
    reading = covost2.read(tmp_path, "en_zh-CN", "test")
    assert [(example.meta["transcript"], example.target) for example in reading] == [
        ('"Hello, he said.', '"你好", 他说。'),
        ('"Quoted" words', '"引用"的话'),
        ("A back\\slash", "反斜杠\\"),
        ("NA", "NA"),
    ]
    options = {"sep": "\t", "quoting": csv.QUOTE_NONE, "escapechar": "\\", "na_filter": False}
    published = pandas.read_csv(path, encoding="utf-8", **options)  # as the authors' script reads it
    assert [example.target for example in reading] == published["translation"][:4].tolist()
    assert [example.id for example in reading][:2] == ["common_voice_en_1", "common_voice_en_2"]
    assert reading[0].task == "translation_ec"
    assert reading[0].meta["speaker"] == "speaker-a"
    assert reading.left_out == {
        "an empty translation": ["common_voice_en_5.mp3"],
        "no recording": ["common_voice_en_6.mp3"],
    }


def test_without_the_split_file_translations_are_joined_with_common_voice(tmp_path: Path) -> None:
    write(clips(tmp_path, 1, 2, 3, 4, 5, 7, 9) / "validated.tsv", VALIDATED)
    write(tmp_path / "covost_v2.en_de.tsv", TRANSLATIONS)
    reading = covost2.read(tmp_path, "en_de", "test")
    assert [(example.id, example.target, example.meta) for example in reading] == [
        ("common_voice_en_2", "Zwei", {"transcript": "Two", "speaker": "speaker-b", "language": "de"}),
        (
            "common_voice_en_1",
            'Ein "zitiertes Wort',
            {"transcript": 'A "quoted word', "speaker": "speaker-a", "language": "de", "gender": "female"},
        ),
    ]
    assert reading[0].task == "translation_en2de"
    assert reading.left_out == {"no transcript in validated.tsv": ["common_voice_en_7.mp3"]}
    assert [example.target for example in covost2.read(tmp_path, "en_de", "train")] == ["Drei", "Vier"]


def test_converted_clips_are_found(tmp_path: Path) -> None:
    write(tmp_path / "covost_v2.en_ja.dev.tsv", "path\tsentence\ttranslation\tclient_id\na.b.mp3\tOne\t一\tx\n")
    record(tmp_path / "clips", ["a.b.flac"])
    (example,) = covost2.read(tmp_path, "en_ja", "dev")
    assert example.audio[0].path == str(tmp_path / "clips/a.b.flac")
    assert example.task == "translation_en2ja"


def test_a_row_with_a_field_too_few_is_named(tmp_path: Path) -> None:
    write(tmp_path / "covost_v2.en_ja.dev.tsv", "path\tsentence\ttranslation\tclient_id\na.mp3\tOne\t一\n")
    with pytest.raises(ValueError, match=r"en_ja.dev.tsv:2: 3 fields, the header has 4"):
        covost2.read(tmp_path, "en_ja", "dev")


def test_the_table_that_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path / "covost_v2.en_de.tsv", TRANSLATIONS)
    with pytest.raises(FileNotFoundError, match=r"validated.tsv: no such file"):
        covost2.read(tmp_path, "en_de", "test")
