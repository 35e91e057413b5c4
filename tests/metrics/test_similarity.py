"""Similarity in meaning is the cosine of averaged hidden states, whatever else is in the batch."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from tiny_encoder import tiny_detector, tiny_encoder
from transformers import AutoModel, AutoTokenizer

from salmonn_lab.metrics.similarity import Fense, FluencyDetector, SentenceEncoder, SentenceSimilarity


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


@pytest.fixture(scope="module")
def detector(folder: Path) -> Path:
    return tiny_detector(folder)


def test_the_detector_reads_the_first_token_and_answers_with_its_last_class(folder: Path, detector: Path) -> None:
    judge = FluencyDetector(detector)
    bert, content = AutoModel.from_pretrained(folder).double(), torch.load(detector, weights_only=True)["state_dict"]
    with torch.no_grad():
        first = bert(**AutoTokenizer.from_pretrained(folder)("cat dog", return_tensors="pt")).last_hidden_state[0, 0]
    logit = content["clf.weight"][-1].double() @ first + content["clf.bias"][-1]
    assert judge("cat dog") == pytest.approx(float(logit.sigmoid()))
    assert judge("dog") < 0.1 < 0.9 < judge("rain")


def test_an_error_takes_nine_tenths_off_and_is_counted(folder: Path, detector: Path) -> None:
    encoder = SentenceEncoder(folder)
    metric = Fense(encoder, FluencyDetector(detector))
    metric.update(["dog", "rain"], [["dog"], ["rain"]], ["1", "2"])
    assert {key: value.item() for key, value in metric.compute().items()} == pytest.approx(
        {"fense": (1 + 0.1) / 2, "sbert_sim": 1.0, "fluency_error": 0.5}
    )
    plain = SentenceSimilarity(encoder).signature
    assert metric.signature.startswith(f"fense|{plain}|detector:echecker_tiny-")
    assert set(metric.state_dict()) == {"ids", "stats", "_extra_state"}


def test_a_detector_that_is_none_is_refused(folder: Path, detector: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint nowhere\.ckpt"):
        FluencyDetector("nowhere.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt is no detector of FENSE: it must hold model_type, num_classes"):
        FluencyDetector(tmp_path / "other.ckpt")
    (tmp_path / "code.ckpt").write_bytes(pickle.dumps({"state_dict": Path("a stranger's object")}))
    with pytest.raises(ValueError, match=r"code\.ckpt cannot be read as a checkpoint"):
        FluencyDetector(tmp_path / "code.ckpt")
    content = torch.load(detector, weights_only=True)
    torch.save({**content, "num_classes": 2}, tmp_path / "narrow.ckpt")
    with pytest.raises(ValueError, match=r"narrow\.ckpt does not fit .*clf"):
        FluencyDetector(tmp_path / "narrow.ckpt")


def test_the_environment_names_encoder_and_detector(
    folder: Path, detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SALMONN_LAB_FLUENCY", raising=False)
    with pytest.raises(FileNotFoundError, match="SALMONN_LAB_FLUENCY must name FENSE's detector"):
        Fense()
    monkeypatch.setenv("SALMONN_LAB_FLUENCY", str(detector))
    monkeypatch.delenv("SALMONN_LAB_SENTENCE_ENCODER", raising=False)
    with pytest.raises(FileNotFoundError, match="SALMONN_LAB_SENTENCE_ENCODER must name a sentence encoder"):
        Fense()
    monkeypatch.setenv("SALMONN_LAB_SENTENCE_ENCODER", str(folder))
    assert Fense().signature.endswith(f"{FluencyDetector(detector).digest}|v1")
