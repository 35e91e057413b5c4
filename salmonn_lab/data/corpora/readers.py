"""The table of corpora that can be read: what their folders hold, how many items they have, how to get them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from salmonn_lab.data.corpora import (
    airbench,
    audiocaps,
    clotho,
    clotho_aqa,
    coreasoning,
    covost2,
    gigaspeech,
    iemocap,
    inspec,
    libri2mix,
    librispeech,
    mmar,
    mmau,
    musiccaps,
    openaqa,
    slurp,
    story,
    voicebench,
    voxceleb1,
    wikiqa,
)
from salmonn_lab.data.corpora.reading import Reading
from salmonn_lab.data.manifest import write_manifest

NAMES_SHOWN = 3
"""Items that an error or a warning names before it only counts."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """A part of a corpus that makes one manifest."""

    files: tuple[str, ...]
    """What must be below the root: glob patterns; ` or ` stands between two of which one is enough."""
    count: int | None = None
    """Items that are published; None where we do not know."""


@dataclass(frozen=True)
class Corpus:
    """One row of the table."""

    read: Callable[[Path, str, Path], Reading]
    """Reads a split below a root; what audio comes inside of tables is written below the last folder."""
    folder: str
    """What the root has to be."""
    splits: Mapping[str, Split]
    licence: str
    how_to_get: str


@dataclass(frozen=True)
class Prepared:
    """A manifest that was written, and what became of the items that are published."""

    manifest: Path
    count: int
    published: int | None
    left_out: Mapping[str, Sequence[str]]
    """Names by reason."""
    mended: Mapping[str, Sequence[str]]
    """Ids of examples that are not as published, by what was changed."""


def prepare(name: str, root: Path, folder: Path, splits: Sequence[str] = ()) -> dict[str, Prepared]:
    """Write `<name>_<split>.jsonl` for each split; return what was read, by split.

    Args:
        name: a key of `CORPORA`.
        root: where the corpus is; what it must be is in the table's `folder`.
        folder: takes the manifests, which point to the recordings where they are.
        splits: which; without any, all that are there, where a split without a single recording is only warned of.

    Raises:
        FileNotFoundError: a split that was asked for, or every split, is not there, or none of its recordings is, or a
            file that it needs: names what is missing, the folder that is expected, and how to get it.
        ValueError: an unknown corpus or split, or a malformed file.
    """
    corpus = find(name)
    for split in splits:
        find_split(name, split)
    missing = {split: missing_files(corpus.splits[split], root) for split in splits or corpus.splits}
    present = [split for split, files in missing.items() if not files]
    if not present or (splits and len(present) < len(splits)):
        files = dict.fromkeys(file for lacking in missing.values() for file in lacking)
        raise FileNotFoundError(_advice(name, root, f"there is no {'; no '.join(files)}"))
    done = {}
    empty = []
    for split in present:
        try:
            reading = corpus.read(root, split, folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(_advice(name, root, str(error))) from None
        if not reading:
            empty.append(f"split '{split}' has no examples: {_account(reading)}")
            continue
        manifest = folder / manifest_name(name, split)
        write_manifest(manifest, reading)
        published = corpus.splits[split].count
        done[split] = Prepared(manifest, len(reading), published, reading.left_out, reading.mended)
        if len(reading) != (published or len(reading)) or reading.left_out:
            log.warning("%s: %d of %s examples; %s", manifest, len(reading), published or "?", _account(reading))
    if empty and (splits or not done):
        raise FileNotFoundError(_advice(name, root, "; ".join(empty)))
    for problem in empty:
        log.warning("%s in %s: %s", name, root, problem)
    return done


def find(name: str) -> Corpus:
    """Return a row of the table; raise ValueError, with the nearest name, where there is none."""
    if name not in CORPORA:
        near = difflib.get_close_matches(name, CORPORA, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"there is no corpus '{name}'; there are {', '.join(CORPORA)}.{hint}")
    return CORPORA[name]


def find_split(name: str, split: str) -> Split:
    """Return a split of a corpus; raise ValueError, with those there are, where there is none."""
    corpus = find(name)
    if split not in corpus.splits:
        raise ValueError(f"{name} has no split '{split}'; it has {', '.join(corpus.splits)}")
    return corpus.splits[split]


def manifest_name(name: str, split: str) -> str:
    """Return what the manifest of a split is called."""
    return f"{name}_{split}.jsonl"


def missing_files(split: Split, root: Path) -> list[str]:
    """Return the patterns of a split that nothing below a root matches."""
    return [pattern for pattern in split.files if not any(next(root.glob(one), None) for one in pattern.split(" or "))]


def _advice(name: str, root: Path, problem: str) -> str:
    corpus = CORPORA[name]
    inside = [
        child
        for child in sorted(root.glob("*/"))
        if any(not missing_files(split, child) for split in corpus.splits.values())
    ]
    hint = f" It looks as if you meant {inside[0]}." if inside else ""
    return (
        f"{name} in {root}: {problem}.{hint} Expected: {corpus.folder}. "
        f"How to get it: {corpus.how_to_get} (licence: {corpus.licence})."
    )


def _account(reading: Reading) -> str:
    """Return what was left out, as a sentence."""
    parts = []
    for reason, names in reading.left_out.items():
        more = ", ..." if len(names) > NAMES_SHOWN else ""
        parts.append(f"{reason}: {len(names)} ({', '.join(names[:NAMES_SHOWN])}{more})")
    return "left out: " + "; ".join(parts) if parts else "nothing was left out"


LIBRISPEECH_COUNTS = {
    "test-clean": 2_620,
    "test-other": 2_939,
    "dev-clean": 2_703,
    "dev-other": 2_864,
    "train-clean-100": 28_539,
    "train-clean-360": 104_014,
    "train-other-500": 148_688,
}
COVOST2_COUNTS = {"test": 15_531, "dev": 15_531, "train": 289_430}
AUDIOCAPS_COUNTS = {"test": 975, "val": 495, "train": 49_838}
AUDIOCAPS = {
    "folder": "a folder that holds dataset/<split>.csv and audio/[<split>/]<youtube_id>_<start_time>.wav or .flac",
    "licence": "academic use only",
    "how_to_get": "github.com/cdjkim/audiocaps for dataset/; the clips are cut from YouTube videos, with yt-dlp for "
    "instance",
}
SLURP = {
    "folder": "a folder that holds dataset/slurp/<split>.jsonl and audio/slurp_real/*.flac",
    "licence": "CC BY 4.0 (text); see the record for the audio",
    "how_to_get": "github.com/pswietojanski/slurp for dataset/; zenodo.org/records/4274930: slurp_real.tar.gz",
}

CORPORA: dict[str, Corpus] = {
    "librispeech": Corpus(
        read=lambda root, split, _: librispeech.read(root, split),
        folder="the folder LibriSpeech, which holds SPEAKERS.TXT and <subset>/<speaker>/<chapter>/",
        splits={
            subset: Split(("SPEAKERS.TXT", f"{subset}/*/*/*.trans.txt"), count)
            for subset, count in LIBRISPEECH_COUNTS.items()
        },
        licence="CC BY 4.0",
        how_to_get="openslr.org/12: unpack <subset>.tar.gz",
    ),
    "librispeech_phones": Corpus(
        read=lambda root, split, _: librispeech.read_phones(root, split, root / "librispeech-lexicon.txt"),
        folder="the folder LibriSpeech, which holds SPEAKERS.TXT, <subset>/, and a lexicon, librispeech-lexicon.txt",
        splits={
            subset: Split(("SPEAKERS.TXT", "librispeech-lexicon.txt", f"{subset}/*/*/*.trans.txt"), count)
            for subset, count in LIBRISPEECH_COUNTS.items()
        },
        licence="CC BY 4.0 (speech), public domain (lexicon)",
        how_to_get="openslr.org/12: unpack <subset>.tar.gz; openslr.org/11: librispeech-lexicon.txt, or a lexicon of "
        "yours under this name, with 'WORD PHONE PHONE ...' a line",
    ),
    "audiocaps": Corpus(
        read=lambda root, split, _: audiocaps.read(root, split),
        splits={split: Split((f"dataset/{split}.csv",), count) for split, count in AUDIOCAPS_COUNTS.items()},
        **AUDIOCAPS,
    ),
    "story": Corpus(
        read=lambda root, split, _: story.read(root, split),
        splits={split: Split((f"dataset/{split}.csv",), count) for split, count in AUDIOCAPS_COUNTS.items()},
        **AUDIOCAPS,
    ),
    "mmau": Corpus(
        read=lambda root, split, _: mmau.read(root),
        folder="a folder that holds mmau-test-mini.json and test-mini-audios/<id>.wav",
        splits={"test-mini": Split(("mmau-test-mini.json",), 1_000)},
        licence="see the repository; the clips keep the licences of their corpora",
        how_to_get="github.com/Sakshi113/mmau for the questions and the link to test-mini-audios",
    ),
    "iemocap": Corpus(
        read=lambda root, split, _: iemocap.read(root, split),
        folder="the folder IEMOCAP_full_release, which holds Session1 to Session5",
        splits={
            f"session{number}": Split((f"Session{number}/dialog/EmoEvaluation/*.txt",), count)
            for number, count in enumerate((1_085, 1_023, 1_151, 1_031, 1_241), start=1)
        },
        licence="by agreement with USC, for research",
        how_to_get="sail.usc.edu/iemocap: the release form",
    ),
    "covost2": Corpus(
        read=lambda root, split, _: covost2.read(root, *split.rsplit("_", 1)),
        folder="a folder that holds clips/*.mp3 and covost_v2.<pair>.<split>.tsv, or else covost_v2.<pair>.tsv and "
        "validated.tsv",
        splits={
            f"{pair}_{split}": Split(
                (
                    f"covost_v2.{pair}.{split}.tsv or covost_v2.{pair}.tsv",
                    f"covost_v2.{pair}.{split}.tsv or {covost2.RELEASE}",
                ),
                count,
            )
            for pair in covost2.TASKS
            for split, count in COVOST2_COUNTS.items()
        },
        licence="CC0",
        how_to_get="Common Voice 4.0 English (commonvoice.mozilla.org) for clips/ and validated.tsv; "
        "github.com/facebookresearch/covost for the translations",
    ),
    "clotho": Corpus(
        read=lambda root, split, _: clotho.read(root, split),
        folder="a folder that holds clotho_captions_<split>.csv and <split>/*.wav",
        splits={
            split: Split((f"clotho_captions_{split}.csv",), count)
            for split, count in {"evaluation": 1_045, "validation": 1_045, "development": 3_839}.items()
        },
        licence="audio by clip, of Freesound; captions for research, see the record",
        how_to_get="zenodo.org/records/4783391: the csv files, and clotho_audio_<split>.7z unpacked",
    ),
    "clotho_aqa": Corpus(
        read=lambda root, split, _: clotho_aqa.read(root, split),
        folder="a folder that holds clotho_aqa_<split>.csv and audio_files/*.wav",
        splits={
            split: Split((f"clotho_aqa_{split}.csv",), count)
            for split, count in {"test": 2_838, "val": 2_064, "train": 7_044}.items()
        },
        licence="see the record; audio by clip, of Freesound",
        how_to_get="zenodo.org/records/6473207: the csv files, and audio_files.zip unpacked",
    ),
    "airbench_foundation": Corpus(
        read=lambda root, split, _: airbench.read(root),
        folder="a folder that holds Foundation/, with Foundation_meta.json and <task_name>_<dataset_name>/",
        # as EvalScope counts it; the authors say "approximately 19k"
        splits={"test": Split(("Foundation/Foundation_meta.json or Foundation_meta.json",), 21_426)},
        licence="Apache-2.0",
        how_to_get="github.com/OFA-Sys/AIR-Bench, which links the dataset",
    ),
    "mmar": Corpus(
        read=lambda root, split, _: mmar.read(root),
        folder="a folder that holds MMAR-meta.jsonl and audio/*.wav",
        splits={"test": Split(("MMAR-meta.jsonl or MMAR-meta.json",), 1_000)},
        licence="see the dataset's page",
        how_to_get="the dataset BoJack/MMAR on Hugging Face; audio unpacked",
    ),
    "gigaspeech": Corpus(
        read=lambda root, split, _: gigaspeech.read(root, split),
        folder="a folder that holds GigaSpeech.json and audio/{podcast,youtube,audiobook}/*/*.opus",
        # segments of TEST with something to score, as the authors' test set is counted
        splits={subset: Split(("GigaSpeech.json",), {"TEST": 19_931}.get(subset)) for subset in gigaspeech.SUBSETS},
        licence="by agreement, for research",
        how_to_get="github.com/SpeechColab/GigaSpeech: the form",
    ),
    "musiccaps": Corpus(
        read=lambda root, split, _: musiccaps.read(root, split),
        folder="a folder that holds musiccaps-public.csv and audio/<ytid>_<start_s>.wav or .flac",
        splits={"eval": Split((musiccaps.FILE,), 2_858), "train": Split((musiccaps.FILE,), 2_663)},
        licence="CC BY-SA 4.0 (text)",
        how_to_get="kaggle.com/datasets/googleai/musiccaps for the table; the clips are cut from YouTube videos",
    ),
    "libri2mix": Corpus(
        read=lambda root, split, _: libri2mix.read(root, *split.split("_", 1)),
        folder="a folder that holds Libri2Mix/wav16k/max/ and LibriSpeech/",
        splits={
            f"{subset}_{kind}": Split(
                (
                    "LibriSpeech/SPEAKERS.TXT",
                    f"{libri2mix.MIXTURES}/metadata/mixture_{subset}_{kind}.csv or "
                    f"metadata/Libri2Mix/libri2mix_{libri2mix.SUBSETS[subset]}.csv",
                ),
                count,
            )
            for subset, count in {"test": 3_000, "dev": 3_000, "train-100": 13_900, "train-360": 50_800}.items()
            for kind in libri2mix.KINDS
        },
        licence="CC BY 4.0 (LibriSpeech), CC BY-NC 4.0 (noise of WHAM)",
        how_to_get="github.com/JorisCos/LibriMix makes it from LibriSpeech: 2 speakers, 16k, max",
    ),
    "voxceleb1": Corpus(
        read=lambda root, split, _: voxceleb1.read(root),
        folder="a folder that holds veri_test2.txt, wav/<speaker>/<video>/<number>.wav and, if you like, vox1_meta.csv",
        splits={"test": Split((voxceleb1.TRIALS,), 37_611)},
        licence="by agreement, for research",
        how_to_get="www.robots.ox.ac.uk/~vgg/data/voxceleb: the test part, and the list of trials Vox1-O (cleaned)",
    ),
    "inspec": Corpus(
        read=lambda root, split, _: inspec.read(root, split),
        folder="a folder that holds Test/<id>.abstr and .uncontr, and audio/<id>.wav, the abstracts read by a voice",
        splits={
            split: Split((f"{split}/*.abstr",), count)
            for split, count in {"Test": 500, "Validation": 500, "Training": 1_000}.items()
        },
        licence="for research",
        how_to_get="the abstracts of Hulth (2003); the speech is yours to record or synthesize",
    ),
    "wikiqa": Corpus(
        read=lambda root, split, _: wikiqa.read(root, split),
        folder="the folder WikiQACorpus, with audio/<QuestionID>.wav, the questions read by a voice",
        splits={
            split: Split((f"WikiQA-{split}.tsv",), count)
            for split, count in {"test": 243, "dev": None, "train": None}.items()
        },
        licence="Microsoft Research Data License",
        how_to_get="WikiQACorpus.zip of Microsoft; the speech is yours to record or synthesize",
    ),
    "slurp": Corpus(
        read=lambda root, split, _: slurp.read(root, split),
        splits={split: Split((f"dataset/slurp/{split}.jsonl",)) for split in slurp.SPLITS},
        **SLURP,
    ),
    "slurp_slots": Corpus(
        read=lambda root, split, _: slurp.read_all_slots(root, split),
        splits={
            split: Split((f"dataset/slurp/{split}.jsonl",), count)
            for split, count in {"test": 13_078, "devel": None, "train": None, "train_synthetic": None}.items()
        },
        **SLURP,
    ),
    "coreasoning": Corpus(
        read=lambda root, _, folder: coreasoning.read(root, folder / "coreasoning_audio"),
        folder="a folder that holds ESC-50 (meta/esc50.csv, audio/*.wav) and questions/<name>.wav, each question of "
        "the rule set read by a voice",
        splits={"test": Split((coreasoning.TABLE,), coreasoning.count())},
        licence="CC BY-NC 3.0 (ESC-50), Apache-2.0 (rule set)",
        how_to_get="github.com/karolpiczak/ESC-50 for the sounds; the questions are in "
        "salmonn_lab/data/corpora/coreasoning.yaml, the speech is yours to record or synthesize",
    ),
    "voicebench": Corpus(
        read=lambda root, split, folder: voicebench.read(root, split, folder / "voicebench_audio" / split),
        folder="a folder that holds <configuration>/<part>-<n>-of-<n>.parquet",
        splits={
            config: Split((f"{config}/*.parquet",), count)
            for config, count in {"openbookqa": 455, "mmsu": 3_074, "sd-qa": 6_083, "bbh": 1_000}.items()
        },
        licence="Apache-2.0",
        how_to_get="the dataset hlt-lab/voicebench on Hugging Face, its parquet files",
    ),
    "openaqa": Corpus(
        read=lambda root, split, _: openaqa.read(root),
        folder="a folder that holds the JSON files of OpenAQA, and audio/[<dataset>/]",
        splits={"all": Split(("**/*.json",))},
        licence="see the repository; the clips keep the licences of their corpora",
        how_to_get="github.com/YuanGongND/ltu links the files; the audio is that of the corpora they are about",
    ),
}
"""Every corpus that `prepare` knows, by the name that its manifests begin with."""
