"""The speech encoder: Whisper's own, over thirty seconds as released or over each clip's true length."""

from __future__ import annotations

import math
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperFeatureExtractor, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn_lab.batch import Frames
from salmonn_lab.model.pretrained import check_size, load_pretrained
from salmonn_lab.model.published import read_sizes, whisper_config

SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = 320
"""Whisper answers at 50 Hz: two mel frames of 10 ms each."""
THIRTY_SECONDS = 30 * SAMPLE_RATE


class WhisperSpeechEncoder(nn.Module):
    """Whisper's encoder over waveforms, final layer norm included.

    With `thirty_seconds` every clip is padded with silence to 30 s and all 1,500 frames count, which is what Whisper
    and the released SALMONN were trained on. Without it only the clip's own frames are computed, batch-mates and
    padding masked out.
    """

    repeats = 1
    """How many frames in a row are the same vector."""
    mel_filters: Tensor
    window: Tensor

    def __init__(
        self, checkpoint: str, revision: str | None = None, *, thirty_seconds: bool, load: bool = True
    ) -> None:
        super().__init__()
        if load:
            with torch.device("meta"):
                check_size("model.whisper", checkpoint, WhisperEncoder(whisper_config(checkpoint, revision)))
            self.encoder = load_pretrained(
                WhisperModel, "model.whisper", checkpoint, revision, part="encoder.", attn_implementation="sdpa"
            ).encoder
            extractor = read_extractor(checkpoint, revision)
        else:
            config = whisper_config(checkpoint, revision)
            extractor = WhisperFeatureExtractor(config.num_mel_bins)
            self.encoder = WhisperEncoder(config)
        self.thirty_seconds = thirty_seconds
        self.hop: int = extractor.hop_length
        self.register_buffer("mel_filters", torch.tensor(extractor.mel_filters, dtype=torch.float32), persistent=False)
        self.register_buffer("window", torch.hann_window(extractor.n_fft), persistent=False)

    @property
    def dim(self) -> int:
        """Width of a frame."""
        return int(self.encoder.config.d_model)

    def forward(self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> Frames:
        """Encode clips of 16 kHz audio into frames of 20 ms.

        Args:
            waveforms: zero-padded clips; what lies beyond `lengths` is ignored.
            lengths: samples of each clip, at most 480,000.

        Raises:
            ValueError: for a clip longer than 30 s.
        """
        longest = int(lengths.max())
        if longest > THIRTY_SECONDS:
            raise ValueError(f"Whisper reads at most 30 s, got a clip of {longest / SAMPLE_RATE:.1f} s")
        count = math.ceil((THIRTY_SECONDS if self.thirty_seconds else longest) / SAMPLES_PER_FRAME)
        own = (
            torch.full_like(lengths, count) if self.thirty_seconds else lengths.add(319).div(320, rounding_mode="floor")
        )
        mask = torch.arange(count, device=lengths.device) < own[:, None]
        features = self._encode(self.log_mel(waveforms, lengths, 2 * count), mask)
        return Frames(features * mask[..., None], mask)

    def log_mel(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"], count: int
    ) -> Float[Tensor, "batch mels frames"]:
        """Return Whisper's log-mel of each clip followed by silence, `count` frames of 10 ms.

        One frame more than `count` where the batch is not 30 s long, so that the convolutions see silence and not an
        edge behind every clip, long or short.
        """
        extra = 0 if self.thirty_seconds else 1
        size = (count + extra) * self.hop
        beyond = torch.arange(waveforms.shape[1], device=lengths.device) >= lengths[:, None]
        waveforms = waveforms.masked_fill(beyond, 0.0)[:, :size]
        waveforms = functional.pad(waveforms, (0, size - waveforms.shape[1]))
        spectrum = torch.stft(waveforms, self.window.numel(), self.hop, window=self.window, return_complex=True)
        power = spectrum[..., :-1].abs().square()
        decibels = (self.mel_filters.T @ power).clamp(min=1e-10).log10()
        floor = decibels.amax(dim=(1, 2), keepdim=True) - 8.0
        return (torch.maximum(decibels, floor) + 4.0) / 4.0

    def _encode(self, mel: Tensor, mask: Tensor) -> Tensor:
        """Run the stock layers under a padding mask, which the stock `forward` has no way to take."""
        encoder = self.encoder
        mel = mel.to(encoder.conv1.weight.dtype)
        hidden = functional.gelu(encoder.conv1(mel))[..., : 2 * mask.shape[1]]
        hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: mask.shape[1]]
        attention = None if bool(mask.all()) else mask[:, None, None, :]
        for layer in encoder.layers:
            hidden = layer(hidden, attention)
        return cast(Tensor, encoder.layer_norm(hidden))


def read_extractor(checkpoint: str, revision: str | None) -> WhisperFeatureExtractor:
    """Settings of Whisper's log-mel.

    Raises:
        ValueError: preprocessor_config.json cannot be read.
    """
    return cast(WhisperFeatureExtractor, read_sizes(WhisperFeatureExtractor, "model.whisper", checkpoint, revision))
