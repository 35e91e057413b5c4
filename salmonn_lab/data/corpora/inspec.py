"""Reader of Inspec: abstracts of papers with keywords by indexers, which the user has spoken."""

from __future__ import annotations

from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_choice

SPLITS = ("Test", "Validation", "Training")
TEXT = ".abstr"
KEYWORDS = {"uncontrolled": ".uncontr", "controlled": ".contr"}
"""Keywords as the indexer chose them, and those of the thesaurus of Inspec."""


def read(root: Path, split: str, keywords: str = "uncontrolled") -> Reading:
    """Return the abstracts of a split: every keyword is a reference, and the target lists them all.

    The layout is that of the corpus as Hulth published it in 2003: `<split>/<id>.abstr` holds title and abstract,
    `<id>.uncontr` and `<id>.contr` keywords, with `;` between them and lines wrapped anywhere. It is text: the speech
    is the user's, read or synthesized, in `audio/<split>/<id>.wav` (or another format) or `audio/<id>.wav`. Left out
    are abstracts without a recording or a keyword. `meta.in_text` says which keywords are said at all: others can
    only be guessed.

    Args:
        root: the folder that holds the splits and `audio/`.
        split: one of `SPLITS`.
        keywords: one of `KEYWORDS`.
    """
    check_choice(split, SPLITS, "split of Inspec")
    check_choice(keywords, list(KEYWORDS), "keywords of Inspec")
    abstracts = sorted((root / split).glob(f"*{TEXT}"), key=lambda path: (len(path.stem), path.stem))
    if not abstracts:
        raise FileNotFoundError(f"{root / split}/*{TEXT}: no such file")
    reading = Reading()
    for path in abstracts:
        text = _words(path)
        phrases = _words(path.with_suffix(KEYWORDS[keywords])).split(";")
        phrases = list(dict.fromkeys(phrase.strip() for phrase in phrases if phrase.strip()))
        if not phrases:
            reading.leave_out(path.stem, "no keywords")
            continue
        recording = find_recording([root / "audio" / split, root / "audio"], [f"{path.stem}.wav"])
        if recording is None:
            reading.leave_out(path.stem, MISSING)
            continue
        reading.append(
            Example(
                id=path.stem,
                audio=(Segment(str(recording)),),
                task="keywords",
                target=", ".join(phrases),
                references=tuple(phrases),
                meta={"in_text": [phrase for phrase in phrases if phrase.lower() in text.lower()]},
            )
        )
    return reading


def _words(path: Path) -> str:
    """Return the words of a file, one space between two."""
    return " ".join(path.read_text(encoding="utf-8-sig", errors="replace").split())
