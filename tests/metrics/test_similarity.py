"""Similarity in meaning is the cosine of averaged hidden states, whatever else is in the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_encoder import tiny_encoder
from transformers import AutoModel, AutoTokenizer

from salmonn_lab.metrics.similarity import SentenceEncoder, SentenceSimilarity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def test_an_embedding_is_the_mean_of_the_last_hidden_states(folder: Path) -> None:
    model = AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    tokens = AutoTokenizer.from_pretrained(folder)("a dog barks", return_tensors="pt")
    with torch.inference_mode():
        mean = model(**tokens).last_hidden_state[0].mean(dim=0)
    assert torch.allclose(SentenceEncoder(folder).encode("a dog barks"), mean / mean.norm())


def test_references_are_averaged_and_an_equal_one_has_a_cosine_of_one(folder: Path) -> None:
    encoder = SentenceEncoder(folder)
    metric = SentenceSimilarity(encoder)
    metric.update(["a dog"], [["a dog", "rain"]], ["1"])
    other = float(encoder.encode("a dog") @ encoder.encode("rain"))
    assert other < 0.99
    assert metric.compute()["sbert_sim"].item() == pytest.approx((1 + other) / 2, abs=1e-8)


def test_a_text_longer_than_the_encoder_reads_is_cut(folder: Path) -> None:
    encoder = SentenceEncoder(folder)
    assert torch.equal(encoder.encode("dog " * 100), encoder.encode("dog " * 200))


def test_other_weights_give_another_signature(folder: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(folder)
    model.encoder.layer[0].output.dense.bias.data += 1
    model.save_pretrained(tmp_path / "tiny")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "tiny")
    one, other = (SentenceSimilarity(SentenceEncoder(path)).signature for path in (folder, tmp_path / "tiny"))
    assert one.startswith("sbert_sim|encoder:tiny-")
    assert one != other


def test_the_weights_of_the_encoder_are_no_part_of_the_state(folder: Path) -> None:
    metric = SentenceSimilarity(SentenceEncoder(folder))
    metric.update(["a"], [["a"]], ["1"])
    assert set(metric.state_dict()) == {"ids", "stats", "_extra_state"}
