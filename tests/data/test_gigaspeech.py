"""The GigaSpeech reader, on a miniature of `GigaSpeech.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trees import record, write

from salmonn_lab.batch import Segment
from salmonn_lab.data.corpora import gigaspeech


def segment(number: int, text: str, subset: str = "{TEST}", begin: float = 1.5, end: float = 4.25) -> dict[str, Any]:
    times = {"begin_time": begin, "end_time": end}
    return {"sid": f"POD1_S{number:07d}", "speaker": "N/A", "text_tn": text, "subsets": [subset], **times}


def tree(root: Path, *segments: dict[str, Any]) -> Path:
    audio = {"path": "audio/podcast/P0001/POD1.opus", "source": "podcast", "category": "Arts", "segments": segments}
    gone = {"path": "audio/youtube/P0002/YOU1.opus", "source": "youtube", "segments": [segment(9, "GONE")]}
    write(root / "GigaSpeech.json", json.dumps({"dataset": "GigaSpeech", "audios": [audio, gone]}))
    record(root, [audio["path"]])
    return root


def test_a_segment_is_a_stretch_of_its_recording(tmp_path: Path) -> None:
    tree(tmp_path, segment(1, "UM FOUR O'CLOCK <COMMA> E-COMMERCE <PERIOD>"), segment(2, "OTHER SET", "{M}"))
    reading = gigaspeech.read(tmp_path, "TEST")
    (example,) = reading
    assert example.audio == (Segment(str(tmp_path / "audio/podcast/P0001/POD1.opus"), 1.5, 2.75),)
    assert (example.id, example.task, example.duration) == ("POD1_S0000001", "asr", 2.75)
    assert example.target == "um four o'clock e-commerce"
    assert example.references == ("FOUR O'CLOCK E COMMERCE",)
    assert example.meta == {"speaker": "N/A", "category": "Arts", "source": "podcast"}
    assert reading.left_out == {"no recording": ["POD1_S0000009"]}


def test_references_that_the_scoring_empties_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, segment(1, "<MUSIC>"), segment(2, "AH-HA <QUESTIONMARK> ER"), segment(3, "YES"))
    reading = gigaspeech.read(tmp_path, "TEST")
    assert [example.target for example in reading] == ["yes"]
    assert reading.left_out["nothing to score"] == ["POD1_S0000001", "POD1_S0000002"]


@pytest.mark.parametrize(
    ("text", "scored"),
    [
        ("FOUR O'CLOCK <COMMA> SAID WILLIAMS <PERIOD>", "FOUR O'CLOCK SAID WILLIAMS"),
        ("uh so e-commerce um is huge", "SO E COMMERCE IS HUGE"),
        ("Ah-ha <QUESTIONMARK> ER", ""),
        ("state-of-the-art <unk> hm", "STATE OF THE ART"),
    ],
)
def test_scored_text_is_that_of_the_official_scoring(text: str, scored: str) -> None:
    assert gigaspeech.scored_text(text) == scored


def test_a_segment_that_ends_before_it_begins_is_named(tmp_path: Path) -> None:
    tree(tmp_path, segment(1, "YES", begin=3.0, end=2.0))
    with pytest.raises(ValueError, match=r"GigaSpeech.json: audios\[0\]: segment POD1_S0000001 is from 3.0 to 2.0 s"):
        gigaspeech.read(tmp_path, "TEST")


def test_malformed_json_is_named(tmp_path: Path) -> None:
    write(tmp_path / "GigaSpeech.json", '{"audios":\n[}')
    with pytest.raises(ValueError, match=r"GigaSpeech.json:2: malformed JSON"):
        gigaspeech.read(tmp_path, "DEV")
