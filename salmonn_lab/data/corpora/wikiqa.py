"""Reader of WikiQA: questions with sentences that answer them, which the user has spoken."""

from __future__ import annotations

from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_choice, read_table

SPLITS = ("test", "dev", "train")


def read(root: Path, split: str) -> Reading:
    """Return the questions of a split that have an answer: its sentences are the references.

    The layout is that of Microsoft's archive: `WikiQA-<split>.tsv`, with a candidate sentence a row, and a 1 as `Label`
    where it answers the question; quotes are characters like others. It is text: the speech is the user's, read or
    synthesized, in `audio/<QuestionID>.wav` (or another format). Left out are questions without an answer, which the
    usual evaluation leaves out too, or without a recording.

    Args:
        root: the folder `WikiQACorpus`, with `audio/`.
        split: one of `SPLITS`.
    """
    check_choice(split, SPLITS, "split of WikiQA")
    columns = ("QuestionID", "Question", "DocumentTitle", "Sentence", "Label")
    questions: dict[str, dict[str, str]] = {}
    answers: dict[str, list[str]] = {}
    for where, row in read_table(root / f"WikiQA-{split}.tsv", columns, delimiter="\t", quotes="none"):
        if row["Label"] not in ("0", "1"):
            raise ValueError(f"{where}: column 'Label' must be 0 or 1, got '{row['Label']}'")
        questions.setdefault(row["QuestionID"], row)
        if row["Label"] == "1":
            answers.setdefault(row["QuestionID"], []).append(row["Sentence"].strip())
    reading = Reading()
    for id, row in questions.items():
        if id not in answers:
            reading.leave_out(id, "no sentence answers it")
            continue
        path = find_recording([root / "audio"], [f"{id}.wav"])
        if path is None:
            reading.leave_out(id, MISSING)
            continue
        reading.append(
            Example(
                id=id,
                audio=(Segment(str(path)),),
                task="speech_query",
                target=answers[id][0],
                references=tuple(answers[id]),
                meta={"transcript": row["Question"].strip(), "title": row["DocumentTitle"].strip()},
            )
        )
    return reading
