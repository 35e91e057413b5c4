"""What tests share: miniature checkpoints, a small corpus of real audio files, batches made of them.

Libraries are imported where they are needed: pytest reads this file before it starts the processes that run the tests,
and would have them wait for PyTorch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from salmonn_lab.salmonn import ModelConfig

os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # several at once: more threads than cores would slow each other tenfold
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with miniature `whisper`, `yamnet` and `llm` checkpoints."""
    from salmonn_lab.tiny import write

    folder = tmp_path_factory.mktemp("tiny")
    write(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_config(tiny: Path) -> ModelConfig:
    """Return a model of the miniature checkpoints: windows, only the clip's own audio, float32."""
    from salmonn_lab.model.config import (
        AudioEncoderConfig,
        BridgeConfig,
        LLMConfig,
        LoraConfig,
        ModelConfig,
        WhisperConfig,
    )

    return ModelConfig(
        whisper=WhisperConfig(str(tiny / "whisper")),
        audio_encoder=AudioEncoderConfig("yamnet", str(tiny / "yamnet")),
        bridge=BridgeConfig(num_layers=1, hidden_dim=32, num_heads=4, span="clip"),
        llm=LLMConfig(str(tiny / "llm"), dtype="float32"),
        lora=LoraConfig(rank=2),
    )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a manifest of five short clips with transcripts, beside their audio."""
    import soundfile
    from samples import WORDS, waveform

    from salmonn_lab.batch import Example, Segment
    from salmonn_lab.data.manifest import write_manifest

    folder = tmp_path_factory.mktemp("corpus")
    examples = []
    for index, text in enumerate(WORDS):
        seconds = 0.5 + 0.4 * index
        soundfile.write(folder / f"{index}.flac", waveform(seconds, index), 16_000)
        segment = Segment(str(folder / f"{index}.flac"))
        examples.append(Example(f"clip-{index}", (segment,), "asr", text, duration=seconds))
    write_manifest(folder / "corpus.jsonl", examples)
    return folder / "corpus.jsonl"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every benchmark ask for short answers: the miniature LLM never ends one by itself."""
    from dataclasses import replace

    from samples import SHORT

    from salmonn_lab import benchmarks

    find = benchmarks.find
    monkeypatch.setattr(benchmarks, "find", lambda name: replace(find(name), decoding=SHORT))


@pytest.fixture
def settings(tiny: Path, corpus: Path, tmp_path: Path) -> Path:
    """Return a config of the miniature model: six steps over the five clips, two batches an epoch."""
    values = {
        "out_dir": str(tmp_path / "run"),
        "seed": 1,
        "model": {
            "whisper": {"checkpoint": str(tiny / "whisper")},
            "audio_encoder": {"kind": "yamnet", "checkpoint": str(tiny / "yamnet")},
            "bridge": {"num_layers": 1, "hidden_dim": 32, "num_heads": 4, "span": "clip"},
            "llm": {"checkpoint": str(tiny / "llm"), "dtype": "float32"},
            "lora": {"rank": 2},
        },
        "data": {
            "sources": [{"manifest": str(corpus)}],
            "validation": [{"manifest": str(corpus)}],
            "max_batch_size": 2,
            "num_workers": 0,
        },
        "optim": {"lr": 0.01, "warmup_steps": 2},
        "trainer": {
            "max_steps": 8,
            "precision": "32-true",
            "accelerator": "cpu",
            "gradient_clip_val": 1.0,
            "log_every_n_steps": 1,
        },
        "checkpoint_every": 1,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
