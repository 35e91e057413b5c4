"""Reader of LibriSpeech: read English books, with transcripts in capitals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_choice, require

SUBSETS = (
    "test-clean",
    "test-other",
    "dev-clean",
    "dev-other",
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
)
GENDERS = {"M": "male", "F": "female"}


def read(root: Path, subset: str) -> Reading:
    """Return the utterances of a subset as ASR: `target` in lower case, the reference as published.

    The layout is that of openslr.org/12: `<subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt` with an
    `<utterance> <TEXT>` a line beside `<utterance>.flac`, and `SPEAKERS.TXT`, which gives the gender. Only utterances
    without a recording are left out.

    Args:
        root: the folder `LibriSpeech`.
        subset: one of `SUBSETS`.
    """
    check_choice(subset, SUBSETS, "subset of LibriSpeech")
    genders = read_genders(root)
    reading = Reading()
    for transcript in transcripts(root, subset):
        for where, utterance, text in read_transcript(transcript):
            speaker, chapter, _ = utterance.split("-")
            if speaker not in genders:
                raise ValueError(f"{where}: speaker {speaker} is not in {root / 'SPEAKERS.TXT'}")
            path = find_recording([transcript.parent], [f"{utterance}.flac"])
            if path is None:
                reading.leave_out(utterance, MISSING)
                continue
            reading.append(
                Example(
                    id=utterance,
                    audio=(Segment(str(path)),),
                    task="asr",
                    target=text.lower(),
                    references=(text,),
                    meta={"speaker": speaker, "chapter": chapter, "gender": genders[speaker], "subset": subset},
                )
            )
    return reading


def read_phones(root: Path, subset: str, lexicon: Path) -> Reading:
    """Return the utterances of a subset as phone recognition: the first pronunciation of each word in the lexicon.

    Utterances with a word that is not in the lexicon are left out. Phones stay as the lexicon writes them, stress
    digits included. The lexicon has a `WORD PHONE PHONE ...` a line, as `librispeech-lexicon.txt` of openslr.org/11 and
    CMUdict have; later pronunciations of a word, also as `WORD(2)`, are not used.
    """
    pronunciations = read_lexicon(lexicon)
    spoken = read(root, subset)
    reading = Reading()
    reading.left_out = spoken.left_out
    for example in spoken:
        words = example.references[0].split()
        unknown = [word for word in words if word not in pronunciations]
        if unknown:
            reading.leave_out(example.id, "a word is not in the lexicon")
            continue
        phones = " ".join(pronunciations[word] for word in words)
        reading.append(replace(example, task="phone_recognition", target=phones, references=(phones,)))
    return reading


def transcripts(root: Path, subset: str) -> list[Path]:
    """Return the transcript files of a subset, in order of speaker and chapter."""
    found = sorted((root / subset).glob("*/*/*.trans.txt"), key=lambda path: [int(n) for n in path.parts[-3:-1]])
    if not found:
        raise FileNotFoundError(f"{root / subset}/*/*/*.trans.txt: no such file")
    return found


def read_transcript(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the place, the utterance and the text of each line."""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        utterance, _, text = line.strip().partition(" ")
        if not re.fullmatch(r"\d+-\d+-\d+", utterance) or not text.strip():
            raise ValueError(f"{path}:{number}: expected '<speaker>-<chapter>-<number> TEXT', got {line!r:.100}")
        yield f"{path}:{number}", utterance, text.strip()


def read_genders(root: Path) -> dict[str, str]:
    """Return `male` or `female` for each speaker of `SPEAKERS.TXT`."""
    path = root / "SPEAKERS.TXT"
    require(path)
    genders = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|", 4)]
        if len(fields) != 5 or fields[1] not in GENDERS:
            raise ValueError(f"{path}:{number}: expected 'ID | M or F | SUBSET | MINUTES | NAME', got {line!r:.100}")
        genders[fields[0]] = GENDERS[fields[1]]
    return genders


def read_lexicon(path: Path) -> dict[str, str]:
    """Return the first pronunciation of each word, the word in capitals."""
    require(path)
    pronunciations: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip() or line.startswith(";;;"):
            continue
        word, *phones = line.split()
        if not phones:
            raise ValueError(f"{path}:{number}: expected 'WORD PHONE PHONE ...', got {line!r:.100}")
        pronunciations.setdefault(re.sub(r"\(\d+\)$", "", word).upper(), " ".join(phones))
    return pronunciations
