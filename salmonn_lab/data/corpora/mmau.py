"""Reader of MMAU test-mini: multiple-choice questions about sounds, music and speech."""

from __future__ import annotations

import hashlib
from pathlib import Path

from salmonn_lab.data.corpora.choices import add_question
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import read_records

FILE = "mmau-test-mini.json"
KEYS = ("id", "audio_id", "question", "choices", "answer", "task")


def read(root: Path) -> Reading:
    """Return the questions of test-mini, with lettered options.

    The layout is that of github.com/Sakshi113/mmau: `mmau-test-mini.json`, a list, and `test-mini-audios/<id>.wav`. The
    benchmark exists in two versions that differ in a quarter of their questions, and the file does not say which it
    is: `meta.source_sha256` tells them apart. Left out are questions without a recording, or none of whose choices is
    the answer. The answers of the full test set are not public, so there is no reader of it.
    """
    path = root / FILE
    reading = Reading()
    records = list(read_records(path, KEYS))
    source = hashlib.sha256(path.read_bytes()).hexdigest()
    for where, record in records:
        id = str(record["id"])
        if not isinstance(record["choices"], list):
            raise ValueError(f"{where}: key 'choices' must be a list, got {record['choices']!r:.100}")
        audio = find_recording([root], [str(record["audio_id"])])
        if audio is None:
            reading.leave_out(id, MISSING)
            continue
        labels = {
            "modality": record["task"],
            "category": record.get("category") or "",
            "sub_category": record.get("sub-category") or "",
            "difficulty": record.get("difficulty") or "",
            "dataset": record.get("dataset") or "",
            "source_sha256": source,
        }
        choices = [str(choice) for choice in record["choices"]]
        question, answer = str(record["question"]), str(record["answer"])
        add_question(reading, id, audio, question, choices, answer, labels, any_case=True)
    return reading
