"""The frozen encoders side by side: one stream of frames each, speech first."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from salmonn_lab.batch import Frames
from salmonn_lab.model.beats import Beats
from salmonn_lab.model.whisper import SAMPLES_PER_FRAME, THIRTY_SECONDS, WhisperConfig, WhisperSpeechEncoder
from salmonn_lab.model.yamnet import Yamnet


@dataclass
class AudioEncoderConfig:
    """The encoder of sounds and music."""

    kind: Literal["beats", "yamnet"] = "beats"
    """`beats` as in the paper; `yamnet` is small (3.7 M) and comes from a package registry."""
    checkpoint: str = "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt"
    """A file, a folder or `asset:NAME`."""


Kept = list[tuple[Tensor, int]]
"""Of each encoder, a clip's features without the repeats, (vectors, dim), and how many frames they stand for."""


class FrameCache:
    """Features of clips that were encoded before, in memory, found by the samples themselves."""

    def __init__(self, capacity: float) -> None:
        """Keep up to `capacity` bytes; clips that found no room are encoded each time."""
        self.capacity = capacity
        self.size = 0
        self._clips: dict[bytes, Kept] = {}

    @staticmethod
    def key(waveform: Tensor) -> bytes:
        """Return a hash of a clip's samples."""
        return hashlib.sha256(waveform.cpu().numpy().tobytes()).digest()

    def get(self, key: bytes) -> Kept | None:
        """Return what was kept of a clip."""
        return self._clips.get(key)

    def put(self, key: bytes, features: Kept) -> bool:
        """Keep a clip's features if there is room, and say whether there was."""
        size = sum(part.numel() * part.element_size() for part, _ in features)
        if self.size + size > self.capacity:
            return False
        self._clips[key] = [(part.clone(), count) for part, count in features]
        self.size += size
        return True


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
            streams.append(WhisperSpeechEncoder(whisper.checkpoint, thirty_seconds=thirty_seconds, load=load))
        if audio is not None:
            kinds: dict[str, type[Beats] | type[Yamnet]] = {"beats": Beats, "yamnet": Yamnet}
            kind = kinds[audio.kind]
            streams.append(kind.from_pretrained(audio.checkpoint) if load else kind.skeleton(audio.checkpoint))
        self.thirty_seconds = thirty_seconds
        self.cache: FrameCache | None = None
        """Where set, clips that `keep` was given are looked up."""
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
        if self.thirty_seconds and int(lengths.max()) > THIRTY_SECONDS:
            raise ValueError(
                f"a clip of {int(lengths.max()) / 16_000:.1f} s does not fit model.bridge.span=thirty_seconds; "
                "cut it, or train with span=clip"
            )
        with torch.autocast(waveforms.device.type, enabled=False):
            if self.cache is None:
                return tuple(encode(stream, waveforms, lengths) for stream in self.streams)
            keys = [self.cache.key(clip[:length]) for clip, length in zip(waveforms, lengths.tolist(), strict=True)]
            clips = [self.cache.get(key) for key in keys]
            missing = [row for row, kept in enumerate(clips) if kept is None]
            for row, kept in zip(missing, self._encode_apart(waveforms[missing], lengths[missing]), strict=True):
                clips[row] = kept
        return tuple(
            _join(
                [
                    part.to(waveforms.device).repeat_interleave(repeats, dim=0)[:count]
                    for part, count in (cast(Kept, kept)[stream] for kept in clips)
                ],
                repeats,
            )
            for stream, repeats in enumerate(self.repeats)
        )

    @torch.no_grad()
    def keep(self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> int:
        """Encode clips into the cache; return how many found room.

        Only here does the cache grow: what a clip gives must not depend on the batch in which training first met it.
        """
        assert self.cache is not None
        with torch.autocast(waveforms.device.type, enabled=False):
            kept = self._encode_apart(waveforms, lengths)
        keys = [self.cache.key(clip[:length]) for clip, length in zip(waveforms, lengths.tolist(), strict=True)]
        return sum(self.cache.put(key, features) for key, features in zip(keys, kept, strict=True))

    def _encode_apart(self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> list[Kept]:
        """Encode clips as one batch and return them one by one."""
        if not len(lengths):
            return []
        waveforms = waveforms[:, : int(lengths.max())]
        streams = [encode(stream, waveforms, lengths) for stream in self.streams]
        return [
            [
                (frames.features[row, frames.mask[row]][::repeats].cpu(), int(frames.mask[row].sum()))
                for frames, repeats in zip(streams, self.repeats, strict=True)
            ]
            for row in range(len(lengths))
        ]


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


def _join(clips: Sequence[Float[Tensor, "frames dim"]], repeats: int) -> Frames:
    """Return the features of several clips as one batch."""
    counts = torch.tensor([len(features) for features in clips], device=clips[0].device)
    features = pad_sequence(list(clips), batch_first=True)
    mask = torch.arange(features.shape[1], device=features.device) < counts[:, None]
    return Frames(features, mask, repeats if features.shape[1] <= THIRTY_SECONDS // SAMPLES_PER_FRAME else 1)
