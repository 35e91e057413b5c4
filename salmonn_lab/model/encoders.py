"""The frozen encoders side by side: one stream of frames each, speech first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from salmonn_lab.batch import Frames
from salmonn_lab.model.whisper import WhisperConfig, WhisperSpeechEncoder
from salmonn_lab.model.yamnet import Yamnet


@dataclass
class AudioEncoderConfig:
    """The encoder of sounds and music."""

    kind: Literal["beats", "yamnet"] = "beats"
    """`beats` as in the paper; `yamnet` is small (3.7 M) and comes from a package registry."""
    checkpoint: str = "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt"
    """A file, a folder or `asset:NAME`."""


class Encoders(nn.Module):
    """Whisper and the audio encoder, frozen: no gradient, and never in training mode (no dropout, no layer drop)."""

    def __init__(
        self, whisper: WhisperConfig | None, audio: AudioEncoderConfig | None, *, thirty_seconds: bool
    ) -> None:
        super().__init__()
        if whisper is None and audio is None:
            raise ValueError("model.whisper and model.audio_encoder are both null: the model would hear nothing")
        streams: list[WhisperSpeechEncoder | Yamnet] = []
        if whisper is not None:
            streams.append(WhisperSpeechEncoder(whisper.checkpoint, thirty_seconds=thirty_seconds))
        if audio is not None:
            if audio.kind == "beats":
                raise ValueError(
                    "model.audio_encoder.kind: 'beats' cannot be loaded by this version; use 'yamnet' or null"
                )
            streams.append(Yamnet.from_pretrained(audio.checkpoint))
        self.streams = nn.ModuleList(streams)
        self.dims: list[int] = [stream.dim for stream in streams]
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Encoders:
        """Stay in evaluation mode whatever is asked."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> tuple[Frames, ...]:
        """Return one stream of frames at 50 Hz per encoder, Whisper's first."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return tuple(stream(waveforms, lengths) for stream in self.streams)
