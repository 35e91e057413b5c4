"""Reader of CoVoST 2: English read speech of Common Voice, with translations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import Row, check_choice, read_table

TASKS = {"en_zh-CN": "translation_ec", "en_de": "translation_en2de", "en_ja": "translation_en2ja"}
SPLITS = ("test", "dev", "train")
RELEASE = "validated.tsv"
"""The transcripts of Common Voice 4.0, English."""


def read(root: Path, pair: str, split: str) -> Reading:
    """Return the translated sentences of a split; the transcript is in `meta`.

    The layout is that of github.com/facebookresearch/covost: `clips/` holds the audio, and the sentences are in
    `covost_v2.<pair>.<split>.tsv`, which its `get_covost_splits.py` makes. Where that file is missing, what the script
    does is done here: `covost_v2.<pair>.tsv` is joined on `path` with Common Voice's `validated.tsv`, and `train`
    takes the rows of `train_covost` too. In all of these a quote is a character like others, and a backslash takes the
    next one literally. Left out are sentences without a transcript or a recording, or whose translation is empty.

    Args:
        root: the folder that holds the tables and `clips/`.
        pair: one of `TASKS`.
        split: one of `SPLITS`.
    """
    check_choice(pair, list(TASKS), "language pair of CoVoST 2")
    check_choice(split, SPLITS, "split of CoVoST 2")
    reading = Reading()
    ready = root / f"covost_v2.{pair}.{split}.tsv"
    for where, row in _ready(ready) if ready.is_file() else _joined(root, pair, split, reading):
        name = row["path"].strip()
        if not name:
            raise ValueError(f"{where}: column 'path' is empty")
        translation = row["translation"].strip()
        if not translation:
            reading.leave_out(name, "an empty translation")
            continue
        path = find_recording([root / "clips"], [name])
        if path is None:
            reading.leave_out(name, MISSING)
            continue
        meta = {
            "transcript": row["sentence"].strip(),
            "speaker": row["client_id"],
            "language": pair.removeprefix("en_"),
        }
        if row.get("gender"):
            meta["gender"] = row["gender"]
        reading.append(
            Example(
                id=Path(name).stem,
                audio=(Segment(str(path)),),
                task=TASKS[pair],
                target=translation,
                references=(translation,),
                meta=meta,
            )
        )
    return reading


def _ready(path: Path) -> Iterator[Row]:
    return read_table(path, ("path", "sentence", "translation", "client_id"), "\t", quotes="escaped")


def _joined(root: Path, pair: str, split: str, reading: Reading) -> Iterator[Row]:
    """Yield the rows of a split with the columns of both tables, in the order of the translations."""
    columns = ("path", "translation", "split")
    names = ("train", "train_covost") if split == "train" else (split,)
    wanted = {
        row["path"]: Row(where, row)
        for where, row in read_table(root / f"covost_v2.{pair}.tsv", columns, "\t", quotes="escaped")
        if row["split"] in names
    }
    transcripts = {
        row["path"]: row
        for _, row in read_table(root / RELEASE, ("path", "sentence", "client_id"), "\t", quotes="escaped")
        if row["path"] in wanted
    }
    for path, (where, row) in wanted.items():
        if path in transcripts:
            yield Row(where, transcripts[path] | row)
        else:
            reading.leave_out(path, f"no transcript in {RELEASE}")
