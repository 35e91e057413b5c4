"""Reader of VoxCeleb1's verification trials: two clips, of one person or of two."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.audio import audio_seconds
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import read_table, require

TRIALS = "veri_test2.txt"
SPEAKERS = "vox1_meta.csv"
GENDERS = {"m": "male", "f": "female"}
SECONDS_EACH = 14.95
"""Both clips and the gap of 0.1 s between them make 30 s, which is all that SALMONN hears."""


def read(root: Path) -> Reading:
    """Return the trials of the cleaned list Vox1-O, the clips of each joined; the answer is yes or no.

    The layout is that of the published test part: `wav/<speaker>/<video>/<number>.wav`, and `veri_test2.txt` with a
    `1 <clip> <clip>` (one person) or `0 <clip> <clip>` a line. Where `vox1_meta.csv` is there, gender and nationality
    are of the first clip's speaker, and `same_gender` says whether the second's is the same. A clip of more than
    `SECONDS_EACH` is cut to it, or the second one might not be heard at all. Trials without a recording, and repeated
    ones, are left out.

    Args:
        root: the folder that holds the list and `wav/`.
    """
    speakers = _speakers(root)
    trials = root / TRIALS
    require(trials)

    @cache
    def segment(clip: str) -> Segment | None:
        path = find_recording([root / "wav"], [clip])
        if path is None:
            return None
        seconds = audio_seconds([Segment(str(path))])
        return Segment(str(path), 0.0, SECONDS_EACH if seconds > SECONDS_EACH else None)

    reading = Reading()
    seen = set()
    for number, line in enumerate(trials.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise ValueError(f"{trials}:{number}: expected '0 or 1, clip, clip', got {line!r:.100}")
        same, *clips = fields
        id = "+".join(clips)
        segments = [segment(clip) for clip in clips]
        audio = tuple(part for part in segments if part is not None)
        if len(audio) < 2:
            reading.leave_out(id, MISSING)
            continue
        if id in seen:
            reading.leave_out(id, "a trial listed twice")
            continue
        seen.add(id)
        if any(part.duration for part in audio):
            reading.mend(id, f"a clip cut to {SECONDS_EACH} s")
        answer = "yes" if same == "1" else "no"
        people = [clip.split("/")[0] for clip in clips]
        meta: dict[str, object] = {"choices": ["yes", "no"], "speakers": people}
        unknown = [person for person in people if person not in speakers]
        if speakers and unknown:
            raise ValueError(f"{trials}:{number}: speaker '{unknown[0]}' is not in {root / SPEAKERS}")
        if speakers:
            (gender, nationality), (other_gender, _) = (speakers[person] for person in people)
            meta |= {"gender": gender, "nationality": nationality, "same_gender": gender == other_gender}
        reading.append(Example(id, audio, "speaker_verification", answer, references=(answer,), meta=meta))
    return reading


def _speakers(root: Path) -> dict[str, tuple[str, str]]:
    """Return gender and nationality by speaker; nothing where the table is not there."""
    path = root / SPEAKERS
    if not path.is_file():
        return {}
    columns = ("VoxCeleb1 ID", "Gender", "Nationality")
    speakers = {}
    for where, row in read_table(path, columns, delimiter="\t"):
        if row["Gender"] not in GENDERS:
            raise ValueError(f"{where}: column 'Gender' must be m or f, got '{row['Gender']}'")
        speakers[row["VoxCeleb1 ID"]] = (GENDERS[row["Gender"]], row["Nationality"])
    return speakers
