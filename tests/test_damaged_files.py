"""Whatever is in a file, reading it ends soon, with a value or with one line that names the file."""

from __future__ import annotations

import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from mutate import damaged, deep, ends_well, strange
from samples import waveform

from salmonn_lab import benchmarks
from salmonn_lab.batch import Prediction, Segment
from salmonn_lab.config import load_config
from salmonn_lab.console import MENDABLE
from salmonn_lab.data.audio import audio_seconds, read_audio
from salmonn_lab.data.manifest import read_manifest, write_manifest
from salmonn_lab.data.prompts import PromptPool
from salmonn_lab.model.beats import Beats
from salmonn_lab.model.checkpoint import read_original
from salmonn_lab.plain import read_plain
from salmonn_lab.predictions import read_predictions, write_predictions
from salmonn_lab.training.checkpoints import damage, settle

GOLDEN = Path(__file__).parent / "golden" / "original"

Read = Callable[[Path], object]


def seeds(count: int) -> pytest.MarkDecorator:
    """Run a test on a few seeds in the fast suite, and on `count` of them in the slow one."""
    groups = [range(12), pytest.param(range(12, count), marks=pytest.mark.slow)]
    return pytest.mark.parametrize("numbers", groups, ids=["few", "many"])


def check_each(
    numbers: range, folder: Path, name: str, make: Callable[[int], bytes], read: Read, names: Sequence[str] = ()
) -> int:
    """Read a damaged file for each seed; returns how many were refused."""
    refused, failures = 0, []
    for seed in numbers:
        path = folder / f"{seed}" / name
        path.parent.mkdir()
        path.write_bytes(make(seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                refused += ends_well(lambda path=path: read(path), (name, *names), MENDABLE) is not None
            except AssertionError as error:
                failures.append(f"seed {seed}: {error}")
    assert not failures, "\n".join(failures)
    return refused


def as_lines(records: list[object]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


MANIFEST = [
    {"id": "a", "audio": "a.flac", "task": "asr", "target": "hello", "duration": 1.5},
    {
        "id": "b",
        "audio": [{"path": "b.wav", "offset": 0.5, "duration": 2.0}, "c.wav"],
        "task": "QA",
        "question": "What?",
        "target": "a dog",
        "references": ["a dog", "dog"],
        "meta": {"choices": ["a dog", "a cat"], "speaker": 7},
    },
]
ORIGINAL = {"annotation": [{"path": "a.wav", "text": "hello", "task": "asr", "Q": "", "expand_wav": ["b.wav"]}]}


def read_whole_manifest(path: Path) -> None:
    examples = list(read_manifest(path))
    write_manifest(path.with_name("again.jsonl"), examples)


@seeds(600)
def test_damaged_manifests(numbers: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def make(seed: int) -> bytes:
        kind = random.Random(seed).randrange(5)
        if kind == 0:
            return deep(seed) + b"\n"
        if kind == 1:
            return damaged(as_lines(MANIFEST), seed)
        if kind == 2:
            return json.dumps(strange(ORIGINAL, seed)).encode()
        return as_lines([MANIFEST[0], strange(MANIFEST[1], seed)])

    assert check_each(numbers, tmp_path, "m.jsonl", make, read_whole_manifest) > len(numbers) // 3


@seeds(400)
def test_damaged_predictions(numbers: range, tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    meta = {"choices": ["a dog", "a cat"], "generation": {"finished": True, "tokens": 3, "seconds": 0.1}}
    write_predictions(
        whole,
        [
            Prediction("a", "quickstart_questions", "What?", "a dog", ("a dog",), meta),
            Prediction("b", "quickstart_questions", "What?", "a cat", ("a dog",), meta),
        ],
    )
    first, second = whole.read_bytes().splitlines()
    row = benchmarks.find("quickstart_questions")

    def make(seed: int) -> bytes:
        kind = random.Random(seed).randrange(4)
        if kind == 0:
            return deep(seed) + b"\n"
        if kind == 1:
            return damaged(whole.read_bytes(), seed)
        return first + b"\n" + json.dumps(strange(json.loads(second), seed)).encode() + b"\n"

    def read(path: Path) -> None:
        benchmarks.score(row, read_predictions(path))

    names = ("'a'", "'b'", "choices", "id")
    assert check_each(numbers, tmp_path, "p.jsonl", make, read, names) > len(numbers) // 3


def zipped(state: object, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A checkpoint as torch writes it, or as an archiver does that unpacked and packed it again."""
    plain = io.BytesIO()
    torch.save(state, plain)
    packed = io.BytesIO()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", compression) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    return plain.getvalue() if compression == zipfile.ZIP_STORED else packed.getvalue()


STATE = {"global_step": 3, "state_dict": {"weight": torch.arange(64.0)}, "frozen": {}, "callbacks": {}, "epoch": 0}


@seeds(400)
def test_damaged_checkpoints(numbers: range, tmp_path: Path) -> None:
    whole = zipped(STATE)
    legacy = io.BytesIO()
    torch.save(STATE, legacy, _use_new_zipfile_serialization=False)

    def make(seed: int) -> bytes:
        kind = random.Random(seed).randrange(3)
        return damaged(legacy.getvalue() if kind == 0 else whole, seed)

    def read(path: Path) -> None:
        damage(path)
        read_plain(path)

    check_each(numbers, tmp_path, "last.ckpt", make, read)


@seeds(300)
def test_a_damaged_last_checkpoint_is_never_resumed_with_other_weights(numbers: range, tmp_path: Path) -> None:
    whole = zipped(STATE)

    def read(path: Path) -> None:
        settled, _ = settle(path.parent)
        assert settled is not None
        assert torch.equal(read_plain(settled)["state_dict"]["weight"], STATE["state_dict"]["weight"])

    check_each(numbers, tmp_path, "last.ckpt", lambda seed: damaged(whole, seed), read)


@pytest.mark.parametrize("name", ["window.pth", "beats_ft.pt"])
@seeds(120)
def test_damaged_checkpoints_of_the_original(numbers: range, tmp_path: Path, name: str) -> None:
    whole = (GOLDEN / name).read_bytes()
    read: Read = read_original if name == "window.pth" else lambda path: Beats.from_pretrained(path)
    check_each(numbers, tmp_path, name, lambda seed: damaged(whole, seed), read)


AUDIO = {
    "wav": {},
    "flac": {},
    "ogg": {},
    "mp3": {},
    "aiff": {},
    "au": {},
    "w64": {},
    "rf64": {},
    "caf": {},
}


@pytest.mark.parametrize("suffix", AUDIO)
@seeds(80)
def test_damaged_audio(numbers: range, tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    stereo = np.stack([waveform(0.5, 1), waveform(0.5, 2)], axis=1)
    soundfile.write(buffer, stereo, 16_000, format=suffix)

    def read(path: Path) -> None:
        segment = Segment(str(path))
        seconds = audio_seconds([segment])
        read_audio([segment])
        read_audio([Segment(str(path), min(0.1, seconds / 2), 0.1)])

    def make(seed: int) -> bytes:
        return damaged(buffer.getvalue(), seed, None if seed % 4 == 0 else 60)

    check_each(numbers, tmp_path, f"a.{suffix}", make, read)


@seeds(300)
def test_damaged_configs(numbers: range, tmp_path: Path) -> None:
    values = {
        "model": {"bridge": {"level": "window", "window_seconds": 0.5}, "llm": {"checkpoint": "llm"}, "lora": None},
        "data": {"sources": [{"manifest": "m.jsonl", "weight": 2.0}], "speeds": [0.9, 1.0], "max_seconds": 20.0},
        "optim": {"lr": 0.001, "betas": [0.9, 0.99], "align": {"asr": "ctc"}},
        "trainer": {"max_steps": 5, "precision": "32-true"},
        "loggers": {"csv": {"flush_logs_every_n_steps": 3}},
        "seed": 3,
        "out_dir": "runs/x",
    }

    def make(seed: int) -> bytes:
        kind = random.Random(seed).randrange(3)
        if kind == 0:
            return damaged(yaml.safe_dump(values).encode(), seed)
        if kind == 1:
            return b"model: " + deep(seed)
        return yaml.safe_dump(strange(values, seed), allow_unicode=True).encode("utf-8", "surrogatepass")

    keys = [
        *values,
        *(f"{outer}.{inner}" for outer, part in values.items() if isinstance(part, dict) for inner in part),
    ]
    check_each(numbers, tmp_path, "c.yaml", make, lambda path: load_config([path]), [key for key in keys if "." in key])


@seeds(200)
def test_damaged_prompts(numbers: range, tmp_path: Path) -> None:
    values = {"asr": ["<Speech><SpeechHere></Speech> What is said?"], "QA": ["<Speech><SpeechHere></Speech> {}"]}

    def make(seed: int) -> bytes:
        kind = random.Random(seed).randrange(3)
        if kind == 0:
            return deep(seed)
        return damaged(json.dumps(values).encode(), seed) if kind == 1 else json.dumps(strange(values, seed)).encode()

    check_each(numbers, tmp_path, "p.json", make, lambda path: PromptPool.load(str(path)))
