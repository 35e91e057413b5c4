"""Reader of the Asterisk telephone prompts, one voice's recorded speech that Debian packages with its transcripts."""

from __future__ import annotations

import gzip
import hashlib
import logging
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.manifest import write_manifest

SOUNDS = Path("usr/share/asterisk/sounds/en_US_f_Allison")
"""Where `asterisk-core-sounds-en-wav` puts the recordings: 8 kHz WAV, a file per key."""
TRANSCRIPT = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
"""Where `asterisk-core-sounds-en` puts the transcript: a `key: text` a line."""
SHARES = (("train", 70), ("validation", 8), ("test", 22))
"""Percent of the texts in each split."""
MIN_TEST_WORDS = 3
"""Shorter prompts are single digits, letters and names: trained on, but not what a word error rate should rest on."""
MAX_SECONDS = 30.0
JOINED = {"train": 240, "validation": 24}
"""How many clips of several prompts: few prompts are long, and training on short ones alone teaches no end of a long
answer."""
JOINED_PROMPTS = (2, 5)
JOINED_SECONDS = 16.0
LICENSE = """\
The recordings and transcripts are those of the Debian packages asterisk-core-sounds-en and asterisk-core-sounds-en-wav.
Copyright 2003-2010 Allison Smith (http://www.theivrvoice.com), who recorded them, paid for by Digium, Inc.
Licence: Creative Commons Attribution-ShareAlike 3.0 (CC-BY-SA-3.0), http://creativecommons.org/licenses/by-sa/3.0/
The manifests beside this file repeat the transcripts, lower-cased and without punctuation, under the same licence.
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompts:
    """What the packages hold: the spoken prompts, and what was left out."""

    examples: list[Example]
    not_speech: int
    """Lines that describe a sound: silence, tones, monkeys."""
    without_audio: int
    """Spoken lines whose recording is missing."""


def find(root: Path | None = None) -> Path:
    """Return the folder that holds the packages' `usr/`: `root`, or `/` where they are installed.

    Raises:
        FileNotFoundError: names what is missing, where it was expected and how to get it.
    """
    top = Path("/") if root is None else Path(root)
    missing = []
    if not next((top / SOUNDS).rglob("*.wav"), None):
        missing.append(f"the recordings, {top / SOUNDS}/**/*.wav (package asterisk-core-sounds-en-wav)")
    if not (top / TRANSCRIPT).is_file():
        missing.append(f"the transcript, {top / TRANSCRIPT} (package asterisk-core-sounds-en)")
    if missing:
        raise FileNotFoundError(
            f"Asterisk prompts: missing {' and '.join(missing)}. On Debian or Ubuntu: "
            "apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav; or, without root or where "
            "documentation is not installed (many containers): apt-get download asterisk-core-sounds-en "
            "asterisk-core-sounds-en-wav, then dpkg -x FILE.deb DIR for both, and set SALMONN_LAB_ASTERISK=DIR."
        )
    return top


def read(root: Path | None = None) -> list[Example]:
    """Return the spoken prompts as ASR examples: `target` normalised, `references` as published, `meta.words` counted.

    What is left out is counted by `scan`.
    """
    return scan(root).examples


def scan(root: Path | None = None) -> Prompts:
    """Return the spoken prompts in the transcript's order, with counts of the lines that are not among them.

    Lines wholly in `[..]`, `(..)` or `<..>` are no speech. A bracketed note behind the words ("at [@]") is not spoken:
    neither the target nor the reference holds it.
    """
    top = find(root)
    examples: dict[str, Example] = {}
    not_speech = without_audio = 0
    with gzip.open(top / TRANSCRIPT, "rt", encoding="utf-8-sig", errors="replace") as lines:
        for line in lines:
            key, colon, text = (part.strip() for part in line.partition(":"))
            if line.startswith(";") or not colon or key in examples:
                continue
            spoken = re.sub(r"\s*(\[[^]]*\]|\([^)]*\)|<[^>]*>)\s*", " ", text).strip()
            target = normalize(spoken)
            if not target:
                not_speech += 1
                continue
            path = (top / SOUNDS / f"{key}.wav").absolute()
            seconds = soundfile.info(path).duration if path.is_file() else 0.0
            if not seconds:
                without_audio += 1
                log.info("Asterisk prompts: no recording of '%s' at %s", key, path)
                continue
            examples[key] = Example(
                id=key,
                audio=(Segment(str(path)),),
                task="asr",
                target=target,
                references=(spoken,),
                duration=seconds,
                meta={"words": len(target.split())},
            )
    return Prompts(list(examples.values()), not_speech, without_audio)


def normalize(text: str) -> str:
    """Return lower-case words without punctuation; `*` and `#` are the keys `star` and `pound`, as they are spoken."""
    text = text.lower().replace("’", "'").replace("*", " star ").replace("#", " pound ")
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text))


def split_of(text: str) -> str:
    """Return the split of a normalised text: the same one on every machine, whatever else the corpus holds."""
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % 100
    for name, share in SHARES:
        if place < share:
            return name
        place -= share
    raise AssertionError("SHARES do not add up to 100")


def join(prompts: Sequence[Example], count: int) -> list[Example]:
    """Return `count` clips of two to five prompts and at most 16 s each, always the same ones.

    Prompts are drawn without repeats until too few are left, then anew. None is joined where fewer than five are short.
    """
    fewest, most = JOINED_PROMPTS
    short = [prompt for prompt in prompts if (prompt.duration or 0.0) <= JOINED_SECONDS / fewest]
    if len(short) < most:
        return []
    generator = random.Random(0)
    joined: list[Example] = []
    left: list[Example] = []
    while len(joined) < count:
        size = generator.randint(fewest, most)
        if len(left) < size:
            left = generator.sample(short, len(short))
        parts, left = left[:size], left[size:]
        seconds = sum(part.duration or 0.0 for part in parts)
        if seconds <= JOINED_SECONDS:
            joined.append(
                Example(
                    id=f"joined-{len(joined)}",
                    audio=tuple(segment for part in parts for segment in part.audio),
                    task="asr",
                    target=" ".join(part.target for part in parts),
                    references=(" ".join(part.references[0] for part in parts),),
                    duration=seconds,
                    meta={"words": sum(part.meta["words"] for part in parts)},
                )
            )
    return joined


def prepare(folder: Path, root: Path | None = None) -> dict[str, int]:
    """Write the manifests `asterisk_SET.jsonl` and `LICENSE.txt`; return how many each set holds and what was left out.

    The sets are `all`, `train`, `validation`, `test`, `joined_train` and `joined_validation`. No text is in two splits.
    `all` and `test` hold prompts of three words and more. The recordings stay where they are. Prompts of over 30 s,
    which SALMONN cannot hear whole, are left out.
    """
    prompts = scan(root)
    heard = [example for example in prompts.examples if (example.duration or 0.0) <= MAX_SECONDS]
    long = [example for example in heard if example.meta["words"] >= MIN_TEST_WORDS]
    sets = {"all": long}
    for name, _ in SHARES:
        pool = long if name == "test" else heard
        sets[name] = [example for example in pool if split_of(example.target) == name]
    sets |= {f"joined_{name}": join(sets[name], count) for name, count in JOINED.items()}
    for name, examples in sets.items():
        write_manifest(folder / f"asterisk_{name}.jsonl", examples)
    (folder / "LICENSE.txt").write_text(LICENSE, encoding="utf-8")
    return {
        **{name: len(examples) for name, examples in sets.items()},
        "not_speech": prompts.not_speech,
        "without_audio": prompts.without_audio,
        "too_long": len(prompts.examples) - len(heard),
    }
