"""Spoken word lists: a few random words a clip, of a large vocabulary and no grammar, by the quickstart's voices."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.speech import SAMPLE_RATE, VOICES, Utterance, speak
from salmonn_lab.data.corpora.splits import generator_of
from salmonn_lab.data.corpora.workers import clip_makers
from salmonn_lab.data.manifest import write_manifest

CLIPS = 3000
VOCABULARY = 3000
LENGTHS = (2, 9)
"""Fewest and most words of a clip."""
TELEPHONE_HERTZ = 3800.0
"""Half of the clips hold nothing above, as speech that came over a telephone line."""
LICENCES = """# Where this corpus comes from

Made on this machine by salmonn_lab: random words, spoken by SVOX Pico (py-nanotts, Apache-2.0). A word is one that the
CMU Pronouncing Dictionary lists (BSD-2, Carnegie Mellon University) and that is a single piece of SmolLM2's vocabulary
(Apache-2.0), whose order says which are common.
"""


def choose_words(dictionary: Path, tokenizer: Path, count: int = VOCABULARY) -> list[str]:
    """Return the `count` most common words, the most common first.

    Args:
        dictionary: CMU's `cmudict.dict`, a word and its phones a line.
        tokenizer: a byte-level `tokenizer.json` whose pieces are numbered by how early, so how often, they merged.
    """
    spoken = {line.split(" ", 1)[0] for line in dictionary.read_text(encoding="utf-8").splitlines()}
    pieces: dict[str, int] = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
    words = [piece[1:] for piece in sorted(pieces, key=pieces.__getitem__) if piece.startswith("Ġ")]
    known = [word for word in words if word in spoken and word.isalpha() and word.islower() and len(word) > 2]
    return known[:count]


def plan(words: Sequence[str], clips: int = CLIPS) -> list[Utterance]:
    """Return what is said: every word equally often, in an order that means nothing."""
    chance = random.Random("words")
    left: list[str] = []
    utterances = []
    for index in range(clips):
        count = chance.randint(*LENGTHS)
        if len(left) < count:
            left += chance.sample(words, len(words))
        text, left = " ".join(left[:count]), left[count:]
        utterances.append(Utterance(f"words-{index:05d}", text, "open", chance.choice(VOICES["train"]), {}))
    return utterances


def make(folder: Path, words: Sequence[str], progress: Callable[[str, int, int], None], clips: int = CLIPS) -> None:
    """Write the audio (FLAC, 16 kHz), `words_train.jsonl` and the licence note into an empty folder."""
    utterances = plan(words, clips)
    (folder / "audio").mkdir()
    examples: list[Example] = []
    with clip_makers() as workers:
        seconds = workers.map(partial(write_clip, folder), utterances, chunksize=32)
        for utterance, duration in zip(utterances, seconds, strict=True):
            segment = Segment(str(folder / "audio" / f"{utterance.id}.flac"))
            examples.append(Example(utterance.id, (segment,), "asr", utterance.text, duration=duration))
            progress("speaking", len(examples), len(utterances))
    write_manifest(folder / "words_train.jsonl", examples)
    (folder / "LICENSES.md").write_text(LICENCES)


def write_clip(folder: Path, utterance: Utterance) -> float:
    """Speak one clip into its file; return its seconds."""
    wave = speak(utterance)
    if generator_of(f"{utterance.id} band").random() < 0.5:
        wave = low_pass(wave, TELEPHONE_HERTZ)
    soundfile.write(folder / "audio" / f"{utterance.id}.flac", wave, SAMPLE_RATE, subtype="PCM_16")
    return len(wave) / SAMPLE_RATE


def low_pass(wave: NDArray[np.float32], hertz: float) -> NDArray[np.float32]:
    """Return a wave without what lies above a frequency."""
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE) > hertz] = 0
    return np.fft.irfft(spectrum, len(wave)).clip(-1, 1).astype(np.float32)
