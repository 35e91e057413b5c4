"""Reader of ClothoAQA: questions about Clotho's sounds, each answered by three annotators."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_choice, read_table

SPLITS = ("test", "val", "train")
CONFIDENCES = ("yes", "maybe", "no")
"""Whether an annotator was sure of an answer, the surest first; any other word comes last."""


def read(root: Path, split: str) -> Reading:
    """Return the questions of a split, one example for each.

    The layout is that of zenodo.org/records/6473207: `clotho_aqa_<split>.csv` with an annotator's answer a row, and
    `audio_files/`. Annotators disagree, and the authors name no rule: here the answers that most annotators gave are
    the references; of several, as when all three differ, the surest is the target, then the first. `meta.agreement`
    says how many gave it, so that a report can be limited to unanimous questions, and `meta.kind` whether all answers
    are yes or no. Left out are questions without a recording or an answer.

    Args:
        root: the folder that holds the tables and `audio_files/`.
        split: one of `SPLITS`.
    """
    check_choice(split, SPLITS, "split of ClothoAQA")
    answers: dict[tuple[str, str], list[tuple[str, str]]] = {}
    columns = ("file_name", "QuestionText", "answer", "confidence")
    for where, row in read_table(root / f"clotho_aqa_{split}.csv", columns):
        name, question, answer, confidence = (row[column].strip() for column in columns)
        if not name or not question:
            raise ValueError(f"{where}: column '{'QuestionText' if name else 'file_name'}' is empty")
        given = answers.setdefault((name, question), [])
        if answer:
            given.append((answer.lower(), confidence.lower()))
    reading = Reading()
    numbers: Counter[str] = Counter()
    for (name, question), given in answers.items():
        numbers[name] += 1
        id = f"{name}#{numbers[name]}"
        if not given:
            reading.leave_out(id, "no answer")
            continue
        path = find_recording([root / "audio_files"], [name])
        if path is None:
            reading.leave_out(id, MISSING)
            continue
        votes = Counter(answer for answer, _ in given)
        agreement = max(votes.values())
        surest_first = sorted(given, key=lambda pair: (*CONFIDENCES, pair[1]).index(pair[1]))
        references = list(dict.fromkeys(answer for answer, _ in surest_first if votes[answer] == agreement))
        binary = votes.keys() <= {"yes", "no"}
        reading.append(
            Example(
                id=id,
                audio=(Segment(str(path)),),
                task="audio_QA",
                target=references[0],
                question=question,
                references=tuple(references),
                meta={
                    "agreement": agreement,
                    "answers": [answer for answer, _ in given],
                    "confidence": [confidence for _, confidence in given],
                    "kind": "binary" if binary else "single_word",
                    **({"choices": ["yes", "no"]} if binary else {}),
                },
            )
        )
    return reading
