"""What the tests of the data package share: a private cache, a tokenizer, a small corpus of real files."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.manifest import write_manifest


@pytest.fixture(autouse=True, scope="session")
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("datasets")
    datasets.config.HF_DATASETS_CACHE = folder
    os.environ["HF_DATASETS_CACHE"] = str(folder)  # for processes that tests start


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of single bytes with <pad>, <s> and </s>."""
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2}
    vocab |= {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), start=3)}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a manifest of 23 short clips of two tasks, with durations, beside their audio."""
    folder = tmp_path_factory.mktemp("clips")
    generator = np.random.default_rng(0)
    examples = []
    for index in range(23):
        seconds = round(float(generator.uniform(0.1, 0.5)), 2)
        path = folder / f"{index}.wav"
        soundfile.write(path, generator.normal(size=round(seconds * 16_000)) * 0.1, 16_000)
        task, question = ("asr", "") if index % 3 else ("audio_QA", "what is it?")
        audio = (Segment(str(path)),)
        examples.append(Example(f"c{index}", audio, task, f"word {index}", question=question, duration=seconds))
    write_manifest(folder / "clips.jsonl", examples)
    return folder / "clips.jsonl"
