"""Reader of Libri2Mix: two LibriSpeech utterances that are spoken at once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora import librispeech
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.corpora.recordings import MISSING, find_recording
from salmonn_lab.data.corpora.tables import check_choice, read_table, require

SUBSETS = {
    "test": "test-clean",
    "dev": "dev-clean",
    "train-100": "train-clean-100",
    "train-360": "train-clean-360",
}
"""The LibriSpeech subset that each one is mixed from."""
KINDS = ("mix_clean", "mix_both")
"""Without noise and with it; `mix_single` has one speaker, so it is plain recognition."""
MIXTURES = Path("Libri2Mix/wav16k/max")
"""Whole utterances at 16 kHz: the `min` variant cuts the longer one off."""


def read(root: Path, subset: str, kind: str = "mix_clean") -> Reading:
    """Return the mixtures, with what both speakers say: a line each, and both orders as references.

    The layout is that of github.com/JorisCos/LibriMix: `Libri2Mix/wav16k/max/metadata/mixture_<subset>_<kind>.csv`, and
    the mixtures in `Libri2Mix/wav16k/max/<subset>/<kind>/<mixture_ID>.wav`: paths in the table are those of the machine
    that mixed. Without that table the mixtures are listed by the one they are made from, which the repository has as
    `metadata/Libri2Mix/libri2mix_<LibriSpeech subset>.csv`. The texts are those of `LibriSpeech/`, beside it, in lower
    case. `meta.texts` has the first speaker's first. Mixtures without a recording are left out.

    Args:
        root: the folder that holds `Libri2Mix/` (or `metadata/`) and `LibriSpeech/`.
        subset: one of `SUBSETS`.
        kind: one of `KINDS`.
    """
    check_choice(subset, list(SUBSETS), "subset of Libri2Mix")
    check_choice(kind, KINDS, "kind of mixture")
    table = root / MIXTURES / "metadata" / f"mixture_{subset}_{kind}.csv"
    if not table.is_file():
        table = root / "metadata/Libri2Mix" / f"libri2mix_{SUBSETS[subset]}.csv"
    spoken = root / "LibriSpeech"
    genders = librispeech.read_genders(spoken)

    @cache
    def texts(chapter: Path) -> dict[str, str]:
        transcript = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
        require(transcript)
        return {utterance: text for _, utterance, text in librispeech.read_transcript(transcript)}

    def text_of(utterance: str, where: str) -> str:
        speaker, chapter, _ = utterance.split("-")
        known = texts(spoken / SUBSETS[subset] / speaker / chapter)
        if utterance not in known:
            raise ValueError(f"{where}: utterance '{utterance}' has no transcript in {spoken / SUBSETS[subset]}")
        return known[utterance].lower()

    reading = Reading()
    for where, row in read_table(table, ("mixture_ID", "source_1_path", "source_2_path")):
        mixture = row["mixture_ID"]
        utterances = mixture.split("_")
        if len(utterances) != 2 or any(utterance.count("-") != 2 for utterance in utterances):
            raise ValueError(f"{where}: column 'mixture_ID' must join two utterances by '_', got '{mixture}'")
        path = find_recording([root / MIXTURES / subset / kind], [f"{mixture}.wav"])
        if path is None:
            reading.leave_out(mixture, MISSING)
            continue
        first, second = (text_of(utterance, where) for utterance in utterances)
        speakers = [utterance.split("-")[0] for utterance in utterances]
        reading.append(
            Example(
                id=mixture,
                audio=(Segment(str(path)),),
                task="speech_separation",
                target=f"{first}\n{second}",
                references=(f"{first}\n{second}", f"{second}\n{first}"),
                meta={
                    "texts": [first, second],
                    "speaker": "+".join(speakers),
                    "gender": "+".join(sorted(genders[speaker] for speaker in speakers)),
                },
            )
        )
    return reading
