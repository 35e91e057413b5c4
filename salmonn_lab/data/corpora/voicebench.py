"""Reader of VoiceBench: spoken questions to an assistant, with answers that can be checked."""

from __future__ import annotations

import re
from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora import hub
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING
from salmonn_lab.data.corpora.tables import check_choice, check_keys

LETTERS = ["A", "B", "C", "D"]
QUESTIONS = {
    "openbookqa": "Answer the spoken question with the letter of the right option: A, B, C or D.",
    "mmsu": "Answer the spoken question with the letter of the right option: A, B, C or D.",
    "sd-qa": "Answer the question that is asked in the recording.",
    "bbh": "Answer the question that is asked in the recording.",
}
"""What is asked in text about the recordings of each configuration; the benchmark itself plays them alone."""
LETTERED = ("openbookqa", "mmsu")
BBH = ("sports_understanding", "hyperbaton", "navigate", "web_of_lies")
"""Subsets of `bbh`, which the ids of its rows name."""


def read(root: Path, config: str, audio_folder: Path) -> Reading:
    """Return the questions of a configuration that have a reference; `meta.category` is the region, subject or subset.

    The layout is that of the dataset hlt-lab/voicebench: `<config>/<part>-<n>-of-<n>.parquet` with the audio inside,
    which is written below `audio_folder`. A row's own `id`, which in `bbh` names its subset, is kept in `meta`. Of
    `openbookqa` and `mmsu` the options are in the recording, and the reference is a letter. Not read are the
    configurations without a reference (alpacaeval, alpacaeval_full, commoneval, wildvoice, mtbench, ifeval, advbench):
    what they measure needs a judge or rules of its own. Left out are rows without audio or reference.

    Args:
        root: the folder that holds the configurations.
        config: one of `QUESTIONS`.
        audio_folder: takes the recordings.
    """
    check_choice(config, list(QUESTIONS), "configuration of VoiceBench with references")
    files = sorted((root / config).glob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"{root / config}/*.parquet: no such file")
    reading = Reading()
    for file in files:
        part = re.sub(r"-\d{5}-of-\d{5}$", "", file.stem)
        rows, folder = hub.open_rows(file, "audio")
        check_keys(list(rows.features), ("prompt", "reference"), str(file), "column")
        for number, row in enumerate(rows):
            id = f"{file.stem}/{number}"
            reference = str(row["reference"] or "").strip()
            if not reference:
                reading.leave_out(id, "no reference")
                continue
            if config in LETTERED and reference not in LETTERS:
                raise ValueError(f"{file}: row {number}: column 'reference' must be a letter, got '{reference:.100}'")
            target = audio_folder / file.stem / f"{number:06d}"
            path = hub.save_audio(row["audio"], target, folder, f"{file}: row {number}")
            if path is None:
                reading.leave_out(id, MISSING)
                continue
            published = {"id": str(row["id"])} if row.get("id") not in (None, "") else {}
            subset = next((name for name in BBH if config == "bbh" and name in published.get("id", "")), part)
            choices = {"choices": LETTERS, "answer_letter": reference} if config in LETTERED else {}
            reading.append(
                Example(
                    id=id,
                    audio=(Segment(str(path)),),
                    task="spoken_QA",
                    target=reference,
                    question=QUESTIONS[config],
                    references=(reference,),
                    meta={"category": subset, "transcript": str(row["prompt"]), **published, **choices},
                )
            )
    return reading
