"""The AudioCaps reader, on a miniature of the published tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import record, write

from salmonn_lab.data.corpora import audiocaps

HEADER = "audiocap_id,youtube_id,start_time,caption\n"
ROWS = """\
103549,7fmOlUlwoNg,20,"Constant rattling noise, and sharp vibrations"
103548,7fmOlUlwoNg,20,A "rattling" noise
103547,-Abc_d3fGhI,0,A man speaks
103541,-Abc_d3fGhI,0,A man talking
103540,-Abc_d3fGhI,30,Rain falls
103539,Zzzzzzzzzzz,110,A dog barks
"""


def tree(root: Path, split: str = "test") -> Path:
    write(root / f"dataset/{split}.csv", HEADER + ROWS, "utf-8-sig")
    record(root / "audio", ["7fmOlUlwoNg_20.flac", "-Abc_d3fGhI_0.wav"])
    return root


def test_all_captions_of_a_clip_are_its_references(tmp_path: Path) -> None:
    reading = audiocaps.read(tree(tmp_path), "test")
    assert [example.id for example in reading] == ["7fmOlUlwoNg_20", "-Abc_d3fGhI_0"]
    rattling = reading[0]
    assert (rattling.task, rattling.target) == ("audiocaption", "Constant rattling noise, and sharp vibrations")
    assert rattling.references == (rattling.target, 'A "rattling" noise')
    assert rattling.audio[0].path == str(tmp_path / "audio/7fmOlUlwoNg_20.flac")
    assert rattling.meta == {"youtube_id": "7fmOlUlwoNg", "start_time": 20}


def test_two_clips_of_one_video_are_two(tmp_path: Path) -> None:
    record(tree(tmp_path) / "audio", ["-Abc_d3fGhI_30.wav"])
    assert [e.references for e in audiocaps.read(tmp_path, "test")][2] == ("Rain falls",)


def test_clips_without_audio_are_left_out_by_name(tmp_path: Path) -> None:
    assert audiocaps.read(tree(tmp_path), "test").left_out == {"no recording": ["-Abc_d3fGhI_30", "Zzzzzzzzzzz_110"]}


@pytest.mark.parametrize("name", ["audio/YZzzzzzzzzzz.wav", "audio/val/Zzzzzzzzzzz_110.mp3", "audio/Zzzzzzzzzzz.flac"])
def test_other_names_of_downloads_are_found(tmp_path: Path, name: str) -> None:
    record(tree(tmp_path, "val"), [name])
    assert audiocaps.read(tmp_path, "val")[-1].audio[0].path == str(tmp_path / name)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,abc,1.5,A dog\n", r"test.csv:2: column 'start_time' must be whole seconds, got '1.5'"),
        ("1,abc,1, \n", r"test.csv:2: column 'caption' is empty"),
        ("1,abc,1,A dog, barking\n", r"test.csv:2: 5 fields, the header has 4"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    write(tmp_path / "dataset/test.csv", HEADER + row)
    with pytest.raises(ValueError, match=message):
        audiocaps.read(tmp_path, "test")


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path / "dataset/test.csv", "audiocap_id,ytid,start_time,caption\n")
    with pytest.raises(ValueError, match=r"test.csv:1: no column 'youtube_id'; there are audiocap_id, ytid"):
        audiocaps.read(tmp_path, "test")
