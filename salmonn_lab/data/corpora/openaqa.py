"""Reader of OpenAQA: questions and answers about sounds, which LTU was trained on."""

from __future__ import annotations

from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import read_records

KEYS = ("instruction", "input", "audio_id", "dataset", "task", "output")


def read(root: Path) -> Reading:
    """Return the questions of every JSON file below a folder, in order of their names.

    The layout is that of github.com/YuanGongND/ltu: lists of `instruction`, `input`, `audio_id`, `dataset`, `task`,
    `output`. The audio is that of AudioSet, VGGSound, FSD50K and others; `audio_id` is a path on the authors' machine.
    It is looked for as it is, then below the root, then by its name in `audio/<dataset>/` and `audio/`. Left out are
    questions without a recording or an answer. A file is read whole, so the full set of 5.6 million questions takes
    tens of gigabytes of memory.

    Args:
        root: the folder that holds the files and `audio/`.
    """
    files = sorted(root.rglob("*.json"))
    if not files:
        raise FileNotFoundError(f"{root}/**/*.json: no such file")
    reading = Reading()
    for file in files:
        for number, (_, record) in enumerate(read_records(file, KEYS)):
            id = f"{file.relative_to(root).with_suffix('').as_posix()}/{number}"
            answer = str(record["output"]).strip()
            if not answer:
                reading.leave_out(id, "an empty answer")
                continue
            name, dataset = str(record["audio_id"]), str(record["dataset"])
            path = find_recording([root], [name, name.lstrip("/")]) or find_recording(
                [root / "audio" / dataset, root / "audio"], [Path(name).name]
            )
            if path is None:
                reading.leave_out(id, MISSING)
                continue
            question = f"{record['instruction']} {record['input']}".strip()
            meta = {"category": str(record["task"]), "dataset": dataset}
            reading.append(
                Example(id, (Segment(str(path)),), "audio_QA", answer, question, references=(answer,), meta=meta)
            )
    return reading
