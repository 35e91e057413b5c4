"""Reader of IEMOCAP: acted dialogues, each utterance labelled with an emotion."""

from __future__ import annotations

import re
from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_choice

SESSIONS = ("session1", "session2", "session3", "session4", "session5")
EMOTIONS = {"neu": "neutral", "hap": "happy", "exc": "happy", "ang": "angry", "sad": "sad"}
"""The four classes of the field: excitement counts as happiness."""
GENDERS = {"F": "female", "M": "male"}
LINE = re.compile(
    r"\[[\d.]+ - [\d.]+\]\t"
    r"(?P<utterance>Ses\d\d\S*_(?P<gender>[FM])\w+)\t(?P<emotion>\w+)\t"
    r"\[(?P<valence>[\d.]+), (?P<activation>[\d.]+), (?P<dominance>[\d.]+)\]\s*"
)


def read(root: Path, session: str) -> Reading:
    """Return a session's utterances of the four classes; the fifth session is the usual test set.

    The layout is that of the full release: `Session<N>/dialog/EmoEvaluation/<dialog>.txt`, where a line that starts
    with `[` is an utterance, and `Session<N>/sentences/wav/<dialog>/<utterance>.wav`. Utterances of other emotions, or
    on which the annotators did not agree (`xxx`), are left out, as the published four-class results leave them out.
    Files whose names start with a dot are remains of the archive.

    Args:
        root: the folder `IEMOCAP_full_release`.
        session: one of `SESSIONS`.
    """
    check_choice(session, SESSIONS, "session of IEMOCAP")
    top = root / session.capitalize()
    dialogs = sorted(path for path in (top / "dialog/EmoEvaluation").glob("*.txt") if not path.name.startswith("."))
    if not dialogs:
        raise FileNotFoundError(f"{top}/dialog/EmoEvaluation/*.txt: no such file")
    reading = Reading()
    for dialog in dialogs:
        for number, line in enumerate(dialog.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if not line.startswith("["):
                continue
            fields = LINE.fullmatch(line)
            if fields is None:
                raise ValueError(
                    f"{dialog}:{number}: expected '[start - end] <tab> utterance <tab> emotion <tab> [v, a, d]', "
                    f"got {line!r:.100}"
                )
            utterance, emotion = fields["utterance"], fields["emotion"]
            if emotion not in EMOTIONS:
                reading.leave_out(utterance, f"emotion '{emotion}'")
                continue
            path = find_recording([top / "sentences/wav" / dialog.stem], [f"{utterance}.wav"])
            if path is None:
                reading.leave_out(utterance, MISSING)
                continue
            reading.append(
                Example(
                    id=utterance,
                    audio=(Segment(str(path)),),
                    task="emotion_recognition",
                    target=EMOTIONS[emotion],
                    references=(EMOTIONS[emotion],),
                    meta={
                        "choices": sorted(set(EMOTIONS.values())),
                        "label": emotion,
                        "speaker": f"{utterance[:5]}{fields['gender']}",
                        "gender": GENDERS[fields["gender"]],
                        "session": session,
                        "scripted": "script" in utterance,
                        "valence": float(fields["valence"]),
                        "activation": float(fields["activation"]),
                        "dominance": float(fields["dominance"]),
                    },
                )
            )
    return reading
