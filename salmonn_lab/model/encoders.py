"""The frozen encoders side by side: one stream of frames each, speech first."""

from __future__ import annotations

import hashlib
import math
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from salmonn_lab.batch import ClipFrames, EncoderSpec, Frames
from salmonn_lab.model.beats import Beats
from salmonn_lab.model.config import AudioEncoderConfig, WhisperConfig
from salmonn_lab.model.fingerprint import fingerprint
from salmonn_lab.model.whisper import SAMPLES_PER_FRAME, THIRTY_SECONDS, WhisperSpeechEncoder
from salmonn_lab.model.yamnet import Yamnet

PREPROCESSING = 1
"""Raise it whenever an encoder, or what comes before it, would answer otherwise with the same weights."""


class Encoders(nn.Module):
    """Whisper and the audio encoder, frozen: no gradient, and never in training mode (no dropout, no layer drop)."""

    def __init__(
        self,
        whisper: WhisperConfig | None,
        audio: AudioEncoderConfig | None,
        *,
        thirty_seconds: bool,
        load: bool = True,
    ) -> None:
        """Load the encoders; without `load` only their shapes, where the default device is `meta`."""
        super().__init__()
        if whisper is None and audio is None:
            raise ValueError("model.whisper and model.audio_encoder are both null: the model would hear nothing")
        streams: list[WhisperSpeechEncoder | Beats | Yamnet] = []
        if whisper is not None:
            streams.append(
                WhisperSpeechEncoder(whisper.checkpoint, whisper.revision, thirty_seconds=thirty_seconds, load=load)
            )
        if audio is not None:
            kinds: dict[str, type[Beats] | type[Yamnet]] = {"beats": Beats, "yamnet": Yamnet}
            kind = kinds[audio.kind]
            streams.append(kind.from_pretrained(audio.checkpoint) if load else kind.skeleton(audio.checkpoint))
        self.thirty_seconds = thirty_seconds
        self.streams = nn.ModuleList(streams)
        self.dims: list[int] = [stream.dim for stream in streams]
        self.repeats: list[int] = [stream.repeats for stream in streams]
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Encoders:
        """Stay in evaluation mode whatever is asked."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> tuple[Frames, ...]:
        """Return one stream of frames at 50 Hz per encoder, Whisper's first.

        A clip longer than 30 s is encoded 30 s at a time, and its frames are one after the other in one row.

        Raises:
            ValueError: for a clip longer than 30 s where every clip is 30 s long.
        """
        self._check_lengths(lengths)
        with torch.autocast(waveforms.device.type, enabled=False):
            return tuple(encode(stream, waveforms, lengths) for stream in self.streams)

    @torch.no_grad()
    def encode_clips(
        self, stream: int, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> list[ClipFrames]:
        """Run one encoder over a batch of clips and return its frames clip by clip, in main memory.

        Raises:
            ValueError: as `forward`.
        """
        self._check_lengths(lengths)
        with torch.autocast(waveforms.device.type, enabled=False):
            frames = encode(self.streams[stream], waveforms[:, : int(lengths.max())], lengths)
        clips = []
        for length, features, mask in zip(lengths.tolist(), frames.features.cpu(), frames.mask.cpu(), strict=True):
            count = int(mask.nonzero().max()) + 1 if mask.any() else 0
            # Where a clip is encoded in parts, repeats start anew with each part.
            repeats = self.repeats[stream] if length <= THIRTY_SECONDS else 1
            clips.append(ClipFrames(features[:count:repeats], repeats, mask[:count]))
        return clips

    def specs(self) -> list[EncoderSpec]:
        """Return what the frames of each encoder depend on; of encoders without weights the signatures are empty."""
        return [
            EncoderSpec(
                name=type(stream).__name__,
                signature=_signature(stream),
                dim=dim,
                repeats=repeats,
                fixed_frames=_fixed_frames(stream),
            )
            for stream, dim, repeats in zip(self.streams, self.dims, self.repeats, strict=True)
        ]

    def _check_lengths(self, lengths: Int[Tensor, " batch"]) -> None:
        if self.thirty_seconds and int(lengths.max()) > THIRTY_SECONDS:
            raise ValueError(
                f"a clip of {int(lengths.max()) / 16_000:.1f} s does not fit model.bridge.span=thirty_seconds; "
                "cut it, or train with span=clip"
            )


def _fixed_frames(stream: nn.Module) -> int | None:
    whole = isinstance(stream, WhisperSpeechEncoder) and stream.thirty_seconds
    return THIRTY_SECONDS // SAMPLES_PER_FRAME if whole else None


def _signature(stream: nn.Module) -> str:
    """Return a hash of weights and their type, of the filters before them, and of the span."""
    weight = next(stream.parameters())
    if weight.is_meta:
        return ""
    digest = hashlib.sha256(repr((PREPROCESSING, fingerprint(stream), weight.dtype, _fixed_frames(stream))).encode())
    for name, values in stream.named_buffers():
        digest.update(name.encode() + values.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def encode(stream: nn.Module, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> Frames:
    """Run an encoder over clips of any length: of those that are longer, over 30 s at a time."""
    if waveforms.shape[1] <= THIRTY_SECONDS:
        return cast(Frames, stream(waveforms, lengths))
    parts, masks = [], []
    for start in range(0, int(lengths.max()), THIRTY_SECONDS):
        left = (lengths - start).clamp(0, THIRTY_SECONDS)
        rows = left > 0
        part = waveforms[rows, start : start + int(left.max())]
        frames: Frames = stream(part, left[rows])
        count = math.ceil(part.shape[1] / SAMPLES_PER_FRAME)
        features = frames.features.new_zeros(len(rows), count, frames.features.shape[2])
        mask = torch.zeros(len(rows), count, dtype=torch.bool, device=rows.device)
        shown = min(count, frames.features.shape[1])
        features[rows, :shown], mask[rows, :shown] = frames.features[:, :shown], frames.mask[:, :shown]
        parts.append(features)
        masks.append(mask)
    return Frames(torch.cat(parts, dim=1), torch.cat(masks, dim=1))
