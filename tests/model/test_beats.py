"""BEATs gives the published network's numbers, alone and in a batch, and refuses files that are not its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence
from torchaudio.compliance import kaldi

from salmonn_lab.model.beats import MEAN, STD, Beats, BeatsConfig, bucket

GOLDEN = Path(__file__).parents[1] / "golden" / "original"
NETWORKS = ("beats_ft", "beats_prenorm_glu")


def load(name: str) -> tuple[Beats, dict[str, torch.Tensor]]:
    return Beats.from_pretrained(GOLDEN / f"{name}.pt").eval(), load_file(GOLDEN / f"{name}.expected.safetensors")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("order", [[0], [1], [2], [0, 1, 2], [2, 1, 0]])
def test_tokens_are_those_of_the_original_whatever_shares_the_batch(name: str, order: list[int]) -> None:
    model, expected = load(name)
    waves = [expected[f"wave_{index}"] for index in order]
    with torch.no_grad():
        frames = model(pad_sequence(waves, batch_first=True), torch.tensor([len(wave) for wave in waves]))
    for row, index in enumerate(order):
        torch.testing.assert_close(
            frames.features[row][frames.mask[row]], expected[f"features_{index}"], atol=2e-4, rtol=0
        )
        assert not frames.features[row][~frames.mask[row]].any()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_filter_bank_is_that_of_the_original_and_of_kaldi(index: int) -> None:
    model, expected = load("beats_ft")
    wave = expected[f"wave_{index}"]
    mine = model.fbank(wave[None])[0]
    torch.testing.assert_close(mine, expected[f"fbank_{index}"], atol=2e-4, rtol=0)
    theirs = kaldi.fbank(wave[None] * 2**15, num_mel_bins=128, sample_frequency=16_000.0)
    torch.testing.assert_close(mine, (theirs - MEAN) / (2 * STD), atol=2e-4, rtol=0)


def test_silence_and_clips_shorter_than_a_patch_give_finite_tokens() -> None:
    model, _ = load("beats_ft")
    with torch.no_grad():
        frames = model(torch.zeros(2, 20_000), torch.tensor([100, 20_000]))
    assert frames.features.isfinite().all()
    assert frames.mask.sum(1).tolist() == [8, 56]


def test_what_lies_beyond_a_clip_is_not_heard() -> None:
    model, expected = load("beats_ft")
    wave, length = expected["wave_2"], torch.tensor([16_000])
    dirty = torch.cat([wave, torch.randn(5_000)])
    with torch.no_grad():
        assert torch.equal(model(dirty[None], length).features[:, :48], model(wave[None], length).features)


def test_far_distances_share_buckets_that_grow_with_their_logarithm() -> None:
    got = bucket(torch.tensor([0, 1, -1, 79, -79, 80, 800, -800, 5000]), 320, 800).tolist()
    assert got == [0, 161, 1, 239, 79, 240, 319, 159, 319]


def test_an_activation_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="activation_fn must be gelu, relu or glu, got 'tanh'"):
        BeatsConfig(activation_fn="tanh")


def spoil(state: dict[str, Any], kind: str) -> Any:
    if kind == "missing":
        del state["model"]["encoder.layers.0.fc1.weight"]
    elif kind == "shape":
        state["model"]["layer_norm.weight"] = torch.zeros(3)
    elif kind == "not a dict":
        return [1, 2]
    elif kind == "another checkpoint":
        return {"model": state["model"], "epoch": 1}
    return state


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "encoder.layers.0.fc1.weight"),
        ("shape", "layer_norm.weight"),
        ("not a dict", "holds a list, not a dict"),
        ("another checkpoint", "must hold 'cfg' and 'model'"),
    ],
)
def test_a_foreign_or_spoilt_file_is_refused_by_name(tmp_path: Path, kind: str, said: str) -> None:
    file = tmp_path / "beats.pt"
    torch.save(spoil(torch.load(GOLDEN / "beats_ft.pt", weights_only=True), kind), file)
    with pytest.raises(ValueError, match=rf"beats\.pt.*{said}"):
        Beats.from_pretrained(file)


def test_a_torn_or_absent_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "beats.pt"
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*beats\.pt"):
        Beats.from_pretrained(file)
    file.write_bytes((GOLDEN / "beats_ft.pt").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"beats\.pt cannot be read as a checkpoint"):
        Beats.from_pretrained(file)
