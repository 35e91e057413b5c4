"""Reader of GigaSpeech: segments of podcasts, YouTube videos and audiobooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_choice, check_keys, require

SUBSETS = ("TEST", "DEV", "XS", "S", "M", "L", "XL")
FILLERS = {"UH", "UHH", "UM", "EH", "MM", "HM", "AH", "HUH", "HA", "ER", "OOF", "HEE", "ACH", "EEE", "EW"}
PUNCTUATION = {"<COMMA>", "<PERIOD>", "<QUESTIONMARK>", "<EXCLAMATIONPOINT>"}
MARKS = {"<UNK>", "<SIL>", "<NOISE>", "<MUSIC>", "<OTHER>"} | PUNCTUATION
"""Tokens that are no words."""


def read(root: Path, subset: str) -> Reading:
    """Return the segments of a subset as ASR, each a stretch of its recording.

    The layout is that of github.com/SpeechColab/GigaSpeech: `GigaSpeech.json`, with the recordings in `audios` and
    their `segments`, and the `path` of each below the root. The reference is the text as the official scoring leaves
    it (`scored_text`), and segments whose reference is then empty are left out, as they are when it is scored; the
    target keeps the fillers, without marks, in lower case. The file is read whole, which takes several times its size
    in memory.

    Args:
        root: the folder that holds `GigaSpeech.json` and `audio/`.
        subset: one of `SUBSETS`; the larger training subsets contain the smaller ones.
    """
    check_choice(subset, SUBSETS, "subset of GigaSpeech")
    path = root / "GigaSpeech.json"
    require(path)
    try:
        audios = json.loads(path.read_bytes())["audios"]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: malformed JSON: {error.msg}, column {error.colno}") from None
    reading = Reading()
    for number, audio in enumerate(audios):
        where = f"{path}: audios[{number}]"
        check_keys(list(audio), ("path", "segments"), where, "key")
        segments = [segment for segment in audio["segments"] if f"{{{subset}}}" in segment["subsets"]]
        recording = find_recording([root], [audio["path"]]) if segments else None
        for segment in segments:
            check_keys(list(segment), ("sid", "begin_time", "end_time", "text_tn"), where, "key")
            if recording is None:
                reading.leave_out(segment["sid"], MISSING)
                continue
            if not scored_text(segment["text_tn"]):
                reading.leave_out(segment["sid"], "nothing to score")
                continue
            reading.append(_example(where, audio, segment, recording))
    return reading


def scored_text(text: str) -> str:
    """Return a text as the official scoring compares it: capitals, no hyphens, no fillers, no marks."""
    tokens = text.upper().replace("-", " ").split()
    return " ".join(token for token in tokens if token not in FILLERS and token not in MARKS)


def _example(where: str, audio: dict[str, Any], segment: dict[str, Any], recording: Path) -> Example:
    begin, end = float(segment["begin_time"]), float(segment["end_time"])
    if not 0 <= begin < end:
        raise ValueError(f"{where}: segment {segment['sid']} is from {begin} to {end} s")
    words = [token for token in segment["text_tn"].split() if token.upper() not in MARKS]
    seconds = round(end - begin, 6)
    return Example(
        id=segment["sid"],
        audio=(Segment(str(recording), begin, seconds),),
        task="asr",
        target=" ".join(words).lower(),
        references=(scored_text(segment["text_tn"]),),
        duration=seconds,
        meta={
            "speaker": str(segment.get("speaker", "")),
            "category": str(audio.get("category", "")),
            "source": str(audio.get("source", "")),
        },
    )
