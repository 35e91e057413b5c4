"""Maker of speech-audio co-reasoning: spoken questions over sounds of ESC-50, with answers by a public set of rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml
from numpy.typing import NDArray

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.audio import SAMPLE_RATE, read_audio
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import read_table

TABLE = "meta/esc50.csv"
FOLD = "5"
"""The fold of ESC-50 that questions are asked over."""
CLIPS = 8
"""Clips of each class in a fold."""
LEAD_SECONDS = 0.5
"""The sound alone, before the question and after it."""
LEVEL, ABOVE_DECIBELS = 0.02, 10.0
"""Mean amplitude (RMS) of the sound, and how far the question is above it."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Question:
    """What a speaker asks, and the accepted answers by what is heard meanwhile."""

    text: str
    answers: Mapping[str, tuple[str, ...]]


@cache
def rules() -> tuple[int, dict[str, Question]]:
    """Return the version of the set of rules, raised whenever an item changes, and its questions by name."""
    loaded: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    questions = {
        name: Question(entry["text"], {sound: tuple(texts) for sound, texts in entry["answers"].items()})
        for name, entry in loaded["questions"].items()
    }
    return loaded["version"], questions


def count() -> int:
    """Return how many items the rules make of a whole fold."""
    return CLIPS * sum(len(question.answers) for question in rules()[1].values())


def read(root: Path, audio_folder: Path) -> Reading:
    """Return spoken questions over sounds that decide the answer: an example for each question, class and clip.

    SALMONN's own clips for this task were never released; this set is what anybody can make. The sounds are those of
    ESC-50's fifth fold (`meta/esc50.csv`, `audio/`), as github.com/karolpiczak/ESC-50 has them. The questions are
    texts: the speech is the user's, read or synthesized, in `questions/<name>.wav` (or another format). Each mixture is
    written below `audio_folder`: the sound, repeated as long as it takes, at a set level, the question 10 dB above it.
    Every accepted answer is a reference. Left out are items without a recording of the sound or the question.

    Args:
        root: the folder of ESC-50, with `questions/`.
        audio_folder: takes the mixtures.
    """
    version, questions = rules()
    rows = [row for _, row in read_table(root / TABLE, ("filename", "fold", "category")) if row["fold"] == FOLD]
    reading = Reading()
    for name, question in questions.items():
        spoken = find_recording([root / "questions"], [f"{name}.wav"])
        for row in rows:
            if row["category"] not in question.answers:
                continue
            id = f"{name}/{Path(row['filename']).stem}"
            sound = find_recording([root / "audio"], [row["filename"]])
            if spoken is None or sound is None:
                reading.leave_out(id, MISSING)
                continue
            path = audio_folder / f"{id}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, mix(load(sound), load(spoken)), SAMPLE_RATE, subtype="PCM_16")
            answers = question.answers[row["category"]]
            reading.append(
                Example(
                    id=id,
                    audio=(Segment(str(path)),),
                    task="speech_audio_coreasoning",
                    target=answers[0],
                    references=answers,
                    meta={
                        "category": name,
                        "sound": row["category"],
                        "transcript": question.text,
                        "rules": f"coreasoning@{version}",
                    },
                )
            )
    return reading


def load(path: Path) -> Samples:
    """Return a recording, mono at 16 kHz."""
    samples: Samples = read_audio((Segment(str(path)),)).numpy()
    return samples


def mix(sound: Samples, speech: Samples) -> Samples:
    """Return a sound under speech: it starts before and ends after, and is repeated where it is too short."""
    lead = round(LEAD_SECONDS * SAMPLE_RATE)
    length = max(len(speech) + 2 * lead, len(sound))
    mixture = np.resize(leveled(sound, LEVEL), length)
    mixture[lead : lead + len(speech)] += leveled(speech, LEVEL * 10 ** (ABOVE_DECIBELS / 20))
    return mixture.clip(-1, 1)


def leveled(samples: Samples, level: float) -> Samples:
    """Return samples scaled to a mean amplitude; silence stays silence."""
    amplitude = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    scaled: Samples = (samples * (level / amplitude if amplitude else 1.0)).astype(np.float32)
    return scaled
