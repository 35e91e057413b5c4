"""YAMNet against a second, slow account of it after the original, and against itself in other batches."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import waveform
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from salmonn_lab.model.yamnet import Yamnet

SAMPLES = [1, 320, 321, 15_359, 15_360, 15_361, 40_000]
CLIPS = [torch.from_numpy(waveform(3, seed)[:count]) for seed, count in enumerate(SAMPLES)]
LENGTHS = torch.tensor(SAMPLES)


@pytest.fixture(scope="module")
def yamnet() -> Yamnet:
    torch.manual_seed(0)
    return Yamnet([f"class {index}" for index in range(5)]).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def expected_vectors(yamnet: Yamnet) -> list[Tensor]:
    filters = original_filters()
    return [original_vectors(yamnet, clip, filters) for clip in CLIPS]


def mel_of(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def original_filters() -> np.ndarray:
    """Spell out `tf.signal.linear_to_mel_weight_matrix`."""
    edges = np.linspace(mel_of(125.0), mel_of(7500.0), 66)
    filters = np.zeros((257, 64))
    for row in range(1, 257):
        mel = mel_of(row * 8000.0 / 256)
        for column in range(64):
            lower, centre, upper = edges[column : column + 3]
            filters[row, column] = max(0.0, min((mel - lower) / (centre - lower), (upper - mel) / (upper - centre)))
    return filters


def original_patches(clip: np.ndarray, filters: np.ndarray) -> list[np.ndarray]:
    """Cut a clip into log-mel patches of 96 frames, one frame after another."""
    count = max(1, math.ceil(len(clip) / 15_360))
    padded = np.concatenate([clip, np.zeros(count * 15_360 + 400 - len(clip))])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = [padded[start : start + 400] * window for start in range(0, count * 15_360, 160)]
    log_mel = np.stack([np.log(np.abs(np.fft.rfft(frame, 512)) @ filters + 0.001) for frame in frames])
    return [log_mel[96 * index : 96 * (index + 1)] for index in range(count)]


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow's SAME does, whatever the size."""
    padding = []
    for size in (x.shape[3], x.shape[2]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return functional.pad(x, padding)


def original_vectors(model: Yamnet, clip: Tensor, filters: np.ndarray) -> Tensor:
    """Return (patches, 3, dim), one patch at a time, from the model's weights alone."""
    vectors = []
    for patch in original_patches(clip.double().numpy(), filters):
        x = torch.from_numpy(patch).float()[None, None]
        for layer in model.convolutions:
            kernel, stride = layer.kernel_size[0], layer.stride[0]
            x = functional.conv2d(same(x, kernel, stride), layer.weight, layer.bias, stride, groups=layer.groups).relu()
        assert x.shape == (1, 1024, 3, 2)
        vectors.append(x[0].mean(dim=2).T)
    return torch.stack(vectors)


def test_features_equal_the_original_patch_by_patch(yamnet: Yamnet, expected_vectors: list[Tensor]) -> None:
    frames = yamnet(pad_sequence(CLIPS, batch_first=True), LENGTHS)
    for index, clip in enumerate(CLIPS):
        expected = expected_vectors[index].repeat_interleave(16, dim=1).flatten(0, 1)
        count = max(1, math.ceil(len(clip) / 320))
        assert int(frames.mask[index].sum()) == count
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(frames.features[index, :count], expected[:count], atol=1e-3, rtol=1e-3)


def test_features_tell_clips_apart(yamnet: Yamnet) -> None:
    one, other = (yamnet(torch.from_numpy(waveform(1, seed))[None], torch.tensor([16_000])).features for seed in (1, 2))
    assert (one - other).abs().mean() > 0.05 * one.abs().mean()


def test_scores_equal_the_original_for_the_mean_of_all_patches(yamnet: Yamnet, expected_vectors: list[Tensor]) -> None:
    scores = yamnet.classify(pad_sequence(CLIPS, batch_first=True), LENGTHS)
    assert yamnet.classifier is not None
    expected = torch.stack([yamnet.classifier(vectors.mean(dim=(0, 1))) for vectors in expected_vectors]).sigmoid()
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-3)


def test_a_clip_has_the_same_frames_alone_in_a_batch_and_before_garbage(yamnet: Yamnet) -> None:
    together = pad_sequence(CLIPS, batch_first=True)
    beyond = torch.arange(together.shape[1] + 5_000) >= LENGTHS[:, None]
    together = functional.pad(together, (0, 5_000)).masked_fill(beyond, 7.0)
    frames = yamnet(together, LENGTHS)
    scores = yamnet.classify(together, LENGTHS)
    assert frames.features.shape == (len(CLIPS), 125, 1024)
    for index, clip in enumerate(CLIPS):
        alone = yamnet(clip[None], LENGTHS[index : index + 1])
        count = alone.features.shape[1]
        assert bool(alone.mask.all())
        assert int(frames.mask[index].sum()) == count
        torch.testing.assert_close(frames.features[index, :count], alone.features[0], atol=1e-4, rtol=1e-4)
        assert not frames.features[index, count:].any()
        torch.testing.assert_close(scores[index], yamnet.classify(clip[None], LENGTHS[index : index + 1])[0])


def test_a_batch_of_more_patches_than_run_at_once_equals_its_clips(yamnet: Yamnet) -> None:
    clips = torch.stack([torch.from_numpy(waveform(10, seed)) for seed in range(4)])
    lengths = torch.tensor([160_000] * 4)
    frames = yamnet(clips, lengths)
    alone = yamnet(clips[3:], lengths[3:])
    torch.testing.assert_close(frames.features[3], alone.features[0], atol=1e-4, rtol=1e-4)


def test_an_empty_clip_has_one_frame(yamnet: Yamnet) -> None:
    frames = yamnet(torch.zeros(1, 0), torch.tensor([0]))
    assert frames.features.shape == (1, 1, 1024)
    assert frames.mask.tolist() == [[True]]


def test_the_front_end_stays_exact_under_autocast_and_in_bfloat16(yamnet: Yamnet, tmp_path: Path) -> None:
    clip, length = CLIPS[-1][None], LENGTHS[-1:]
    expected = yamnet(clip, length).features
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(yamnet(clip, length).features.float(), expected, atol=0.1, rtol=0.1)
    yamnet.save_pretrained(tmp_path)
    cast = Yamnet.from_pretrained(tmp_path).bfloat16()(clip, length).features
    assert cast.dtype == torch.bfloat16
    torch.testing.assert_close(cast.float(), expected, atol=0.1, rtol=0.1)


def test_a_saved_model_loads_equal_and_frozen(yamnet: Yamnet, tmp_path: Path) -> None:
    yamnet.save_pretrained(tmp_path / "model")
    loaded = Yamnet.from_pretrained(tmp_path / "model")
    assert loaded.class_names == yamnet.class_names
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    clip, length = CLIPS[-1][None], LENGTHS[-1:]
    assert torch.equal(loaded(clip, length).features, yamnet(clip, length).features)


def test_a_model_without_class_names_refuses_to_classify(tmp_path: Path) -> None:
    Yamnet().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lists no class_names"):
        Yamnet.from_pretrained(tmp_path).classify(CLIPS[0][None], LENGTHS[:1])


def test_a_folder_that_holds_something_else_is_refused(yamnet: Yamnet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it has no config\.json"):
        Yamnet.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(ValueError, match=r"it has no model\.safetensors"):
        Yamnet.from_pretrained(tmp_path)
    yamnet.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(ValueError, match="model_type 'whisper', expected 'yamnet'"):
        Yamnet.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "yamnet"}')
    with pytest.raises(ValueError, match="does not fit YAMNet"):
        Yamnet.from_pretrained(tmp_path)
