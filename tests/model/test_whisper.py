"""The speech encoder against the stock feature extractor and encoder, and against itself in other batches."""

from pathlib import Path

import pytest
import torch
from samples import waveform
from torch.nn.utils.rnn import pad_sequence
from transformers import WhisperFeatureExtractor, WhisperModel

from salmonn_lab.model.whisper import WhisperSpeechEncoder

CLIPS = [torch.from_numpy(waveform(seconds, seed)) for seed, seconds in enumerate((0.5, 1.003, 2.0, 0.02))]


def test_thirty_seconds_equal_the_stock_feature_extractor_and_encoder(tiny: Path) -> None:
    encoder = WhisperSpeechEncoder(str(tiny / "whisper"), thirty_seconds=True).eval()
    stock = WhisperModel.from_pretrained(tiny / "whisper").encoder.eval()
    extractor = WhisperFeatureExtractor.from_pretrained(tiny / "whisper")
    mel = extractor([clip.numpy() for clip in CLIPS], sampling_rate=16_000, return_tensors="pt").input_features
    lengths = torch.tensor([len(clip) for clip in CLIPS])
    frames = encoder(pad_sequence(CLIPS, batch_first=True), lengths)
    assert frames.features.shape == (4, 1500, 32)
    assert bool(frames.mask.all())
    torch.testing.assert_close(frames.features, stock(mel).last_hidden_state, atol=1e-4, rtol=1e-4)


def test_a_clip_has_the_same_frames_alone_in_a_batch_and_behind_garbage(tiny: Path) -> None:
    encoder = WhisperSpeechEncoder(str(tiny / "whisper"), thirty_seconds=False).eval()
    lengths = torch.tensor([len(clip) for clip in CLIPS])
    together = pad_sequence(CLIPS, batch_first=True)
    beyond = torch.arange(together.shape[1]) >= lengths[:, None]
    together = together.masked_fill(beyond, 7.0)
    frames = encoder(together, lengths)
    for index, clip in enumerate(CLIPS):
        alone = encoder(clip[None], lengths[index : index + 1])
        count = -(-len(clip) // 320)
        assert alone.features.shape[1] == count == int(frames.mask[index].sum())
        torch.testing.assert_close(frames.features[index, :count], alone.features[0], atol=1e-5, rtol=1e-5)
        assert not frames.features[index, count:].any()


def test_a_clip_of_over_thirty_seconds_is_refused(tiny: Path) -> None:
    encoder = WhisperSpeechEncoder(str(tiny / "whisper"), thirty_seconds=False)
    with pytest.raises(ValueError, match=r"at most 30 s, got a clip of 31\.0 s"):
        encoder(torch.zeros(1, 31 * 16_000), torch.tensor([31 * 16_000]))
