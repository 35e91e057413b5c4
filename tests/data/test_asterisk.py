"""The Asterisk reader, on a miniature of what the Debian packages install."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora import asterisk
from salmonn_lab.data.manifest import read_manifest

LINES = {
    "activated": "Activated.",
    "beep": "[this is a simple beep tone]",
    "confbridge-join": "<beep ascending>",
    "dictate/both_help": "press * to toggle pause, press # to enter a new dictation filename",
    "digits/1": "one",
    "letters/at": "at [@]",
    "priv-callpending": "I have a caller waiting, who introduces themselves as:",
    "silence/1": "(1 second of silence)",
    "vm-incorrect": "I am sorry, that's not a valid extension.  Please try again.",
}


def write(root: Path, lines: Mapping[str, str], silent: str = "") -> Path:
    transcript = root / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    transcript.parent.mkdir(parents=True)
    body = "; Core Asterisk Sounds in English\n\n" + "".join(f"{key}: {text}\n" for key, text in lines.items())
    transcript.write_bytes(gzip.compress(body.encode("utf-8-sig")))
    for key in lines.keys() - {silent}:
        path = root / f"usr/share/asterisk/sounds/en_US_f_Allison/{key}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(4_000), 8_000)
    return root


def test_spoken_prompts_are_read_and_described_sounds_are_not(tmp_path: Path) -> None:
    prompts = {example.id: example for example in asterisk.read(write(tmp_path, LINES))}
    assert prompts.keys() == LINES.keys() - {"beep", "confbridge-join", "silence/1"}
    sorry = prompts["vm-incorrect"]
    assert (sorry.task, sorry.target) == ("asr", "i am sorry that's not a valid extension please try again")
    assert sorry.references == (LINES["vm-incorrect"],)
    assert sorry.duration == pytest.approx(0.5)
    assert sorry.meta == {"words": 11}
    assert prompts["letters/at"].target == "at"
    assert prompts["dictate/both_help"].target.startswith("press star to toggle pause press pound to")
    assert prompts["priv-callpending"].target.endswith("themselves as")


def test_the_first_line_is_read_behind_a_byte_order_mark(tmp_path: Path) -> None:
    write(tmp_path, {"digits/1": "one"})
    transcript = tmp_path / asterisk.TRANSCRIPT
    transcript.write_bytes(gzip.compress("digits/1: one\n".encode("utf-8-sig")))
    assert [example.id for example in asterisk.read(tmp_path)] == ["digits/1"]


def test_lines_that_are_left_out_are_counted(tmp_path: Path) -> None:
    prompts = asterisk.scan(write(tmp_path, LINES, silent="activated"))
    assert (len(prompts.examples), prompts.not_speech, prompts.without_audio) == (5, 3, 1)


@pytest.mark.parametrize("present", ["nothing", "recordings", "transcript"])
def test_a_missing_package_is_named_with_the_way_to_get_it(tmp_path: Path, present: str) -> None:
    if present != "nothing":
        write(tmp_path, {"digits/1": "one"})
        gone = asterisk.TRANSCRIPT if present == "recordings" else asterisk.SOUNDS / "digits/1.wav"
        (tmp_path / gone).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape("apt-get install asterisk-core-sounds-en")) as error:
        asterisk.find(tmp_path)
    assert (str(tmp_path / asterisk.SOUNDS) in str(error.value)) == (present != "recordings")
    assert (str(tmp_path / asterisk.TRANSCRIPT) in str(error.value)) == (present != "transcript")


def test_prepare_writes_splits_that_share_no_text(tmp_path: Path) -> None:
    lines = {f"long/{number}": f"Prompt number {number // 2} of many." for number in range(200)}
    lines |= {f"short/{number}": f"Short {number}." for number in range(100)} | {"beep": "[tone]"}
    counts = asterisk.prepare(tmp_path / "out", write(tmp_path, lines))
    read = {
        name: list(read_manifest(tmp_path / f"out/asterisk_{name}.jsonl"))
        for name in ("all", "train", "validation", "test", "joined_train", "joined_validation")
    }
    assert {name: len(examples) for name, examples in read.items()} | {
        "not_speech": 1,
        "without_audio": 0,
        "too_long": 0,
    } == counts
    texts = {name: {example.target for example in read[name]} for name in ("train", "validation", "test")}
    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]
    assert counts["all"] == 200
    assert min(example.meta["words"] for example in read["test"]) >= 3
    assert min(example.meta["words"] for example in read["train"]) == 2
    assert counts["train"] > counts["test"] > counts["validation"] > 0
    assert all(Path(example.audio[0].path).is_file() for example in read["all"])
    assert "CC-BY-SA-3.0" in (tmp_path / "out/LICENSE.txt").read_text()


def test_joined_clips_say_their_prompts_in_order_and_stay_in_their_split(tmp_path: Path) -> None:
    lines = {f"prompt/{number}": f"Prompt number {number}." for number in range(200)}
    asterisk.prepare(tmp_path / "out", write(tmp_path, lines))
    for name, count in asterisk.JOINED.items():
        said = {prompt.audio[0].path: prompt for prompt in read_manifest(tmp_path / f"out/asterisk_{name}.jsonl")}
        joined = list(read_manifest(tmp_path / f"out/asterisk_joined_{name}.jsonl"))
        assert len(joined) == count
        assert {len(clip.audio) for clip in joined} == {2, 3, 4, 5}
        assert {segment.path for clip in joined for segment in clip.audio} == said.keys()
        for clip in joined:
            parts = [said[segment.path] for segment in clip.audio]
            assert clip.target == " ".join(part.target for part in parts)
            assert clip.references == (" ".join(part.references[0] for part in parts),)
            assert clip.duration == pytest.approx(sum(part.duration or 0.0 for part in parts))


def test_joined_clips_are_no_longer_than_sixteen_seconds() -> None:
    prompts = [
        Example(
            str(seconds),
            (Segment(f"{seconds}.wav"),),
            "asr",
            "word",
            references=("Word.",),
            duration=float(seconds),
            meta={"words": 1},
        )
        for seconds in range(1, 13)
    ]
    joined = asterisk.join(prompts, 30)
    assert len(joined) == 30
    assert max(clip.duration or 0.0 for clip in joined) <= asterisk.JOINED_SECONDS
    assert joined == asterisk.join(prompts, 30)
    assert {segment.path for clip in joined for segment in clip.audio} == {f"{seconds}.wav" for seconds in range(1, 9)}


def test_too_few_prompts_are_not_joined() -> None:
    assert asterisk.join([], 3) == []


def test_a_text_keeps_its_split_whatever_else_there_is() -> None:
    assert [asterisk.split_of(text) for text in ("thank you", "one", "please try again")] == ["train", "train", "test"]
