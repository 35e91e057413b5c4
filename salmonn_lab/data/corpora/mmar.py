"""Reader of MMAR: multiple-choice questions that take several steps of reasoning about audio."""

from __future__ import annotations

from pathlib import Path

from salmonn_lab.data.corpora.choices import add_question
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import read_records

FILES = ("MMAR-meta.jsonl", "MMAR-meta.json")
KEYS = ("id", "audio_path", "question", "choices", "answer")


def read(root: Path) -> Reading:
    """Return the questions, with lettered options.

    The layout is that of github.com/ddlBoJack/MMAR, which has `MMAR-meta.jsonl`, and of the dataset BoJack/MMAR, which
    has `MMAR-meta.json`, a list; `audio_path` is relative to the file. Left out are questions without a recording, or
    none of whose choices is the answer; and the fields `thinking`, `cue` and `rubric`, which judge a chain of
    reasoning.

    Args:
        root: the folder that holds the file.
    """
    reading = Reading()
    file = next((root / name for name in FILES if (root / name).is_file()), root / FILES[0])
    for where, record in read_records(file, KEYS):
        id = str(record["id"])
        if not isinstance(record["choices"], list):
            raise ValueError(f"{where}: key 'choices' must be a list, got {record['choices']!r:.100}")
        audio = find_recording([root], [str(record["audio_path"])])
        if audio is None:
            reading.leave_out(id, MISSING)
            continue
        labels = {
            "modality": record.get("modality") or "",
            "category": record.get("category") or "",
            "sub_category": record.get("sub-category") or "",
            "language": record.get("language") or "",
        }
        choices = [str(choice) for choice in record["choices"]]
        question, answer = str(record["question"]), str(record["answer"])
        add_question(reading, id, audio, question, choices, answer, labels, any_case=True)
    return reading
