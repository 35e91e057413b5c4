"""Reader of AIR-Bench's foundation part: multiple-choice questions of nineteen tasks."""

from __future__ import annotations

from pathlib import Path

from salmonn_lab.data.corpora.choices import add_question
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import read_records

CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")
KEYS = ("path", "question", "answer_gt", "task_name", "dataset_name", "uniq_id", "choice_a", "choice_b")


def read(root: Path) -> Reading:
    """Return the questions, with lettered options, the task as `meta.category`.

    The layout is that of github.com/OFA-Sys/AIR-Bench: `Foundation/Foundation_meta.json`, a list (or the same file
    beside `Foundation/`), and `Foundation/<task_name>_<dataset_name>/<path>`; a recording may have another format than
    `path` says, as in the task Audio_Grounding. Questions have two to four choices. Left out are those without a
    recording, or none of whose choices is the answer. The chat part needs a judge, so it is not read.

    Args:
        root: the folder that holds `Foundation/`.
    """
    folder = root / "Foundation"
    meta = folder / "Foundation_meta.json"
    reading = Reading()
    for _, record in read_records(meta if meta.is_file() else root / meta.name, KEYS):
        id = str(record["uniq_id"])
        task, dataset = str(record["task_name"]), str(record["dataset_name"])
        audio = find_recording([folder / f"{task}_{dataset}"], [str(record["path"])])
        if audio is None:
            reading.leave_out(id, MISSING)
            continue
        choices = [str(record[key]) for key in CHOICES if record.get(key)]
        labels = {"category": task, "dataset": dataset}
        question, answer = str(record["question"]), str(record["answer_gt"])
        add_question(reading, id, audio, question, choices, answer, labels, mark="{}.", any_case=True)
    return reading
