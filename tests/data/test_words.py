"""Spoken word lists are of common words, each equally often, and half of them sound like a telephone."""

import json
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import soundfile

from salmonn_lab.data.corpora.words import LENGTHS, choose_words, low_pass, make, plan
from salmonn_lab.data.manifest import read_manifest


def test_words_are_those_that_the_dictionary_and_the_vocabulary_share_the_common_ones_first(tmp_path: Path) -> None:
    (tmp_path / "dict").write_text("can K AE N\nwater W AO T ER\nthe DH AH\nrare R EH R\nit's IH T S\n")
    pieces = {"Ġrare": 9, "Ġthe": 1, "Ġwater": 4, "Ġcon": 2, "can": 3, "ĠWater": 5, "Ġit's": 6}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": pieces}}))
    assert choose_words(tmp_path / "dict", tmp_path / "tokenizer.json") == ["the", "water", "rare"]
    assert choose_words(tmp_path / "dict", tmp_path / "tokenizer.json", count=1) == ["the"]


def test_every_word_is_said_equally_often() -> None:
    words = [f"w{index}" for index in range(50)]
    texts = [utterance.text.split() for utterance in plan(words, 100)]
    assert {len(text) for text in texts} <= set(range(LENGTHS[0], LENGTHS[1] + 1))
    counts = Counter(chain(*texts))
    assert set(counts) == set(words)
    assert max(counts.values()) - min(counts.values()) <= 2
    assert plan(words, 100) == plan(words, 100)


def test_a_low_pass_keeps_what_lies_below() -> None:
    time = np.arange(16_000) / 16_000
    low, high = np.sin(2 * np.pi * 1000 * time), np.sin(2 * np.pi * 6000 * time)
    filtered = low_pass((0.4 * low + 0.4 * high).astype(np.float32), 3800.0)
    np.testing.assert_allclose(filtered, 0.4 * low, atol=1e-3)


@pytest.mark.slow
def test_the_manifest_names_what_is_heard(tmp_path: Path) -> None:
    make(tmp_path, ["water", "planet", "history", "school"], lambda *_: None, clips=4)
    examples = read_manifest(tmp_path / "words_train.jsonl")
    assert len(examples) == 4
    for example in examples:
        wave, rate = soundfile.read(example.audio[0].path)
        assert rate == 16_000
        assert len(wave) / rate == example.duration
        assert set(example.target.split()) <= {"water", "planet", "history", "school"}
