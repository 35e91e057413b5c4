"""BEATs, the encoder of sounds and music in SALMONN (Chen et al. 2023, arXiv:2212.09058), from its published files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torchaudio.compliance.kaldi import get_mel_banks

from salmonn_lab.batch import Frames
from salmonn_lab.model.pretrained import check_weights
from salmonn_lab.model.published import BEATS_CPT2
from salmonn_lab.plain import read_plain

MEL_BINS = 128
WINDOW, SHIFT, FFT = 400, 160, 512
"""Samples: Kaldi's frames of 25 ms every 10 ms, and the power of two that holds one."""
MEAN, STD = 15.41663, 6.55582
"""Of the log-mel over AudioSet; BEATs divides by twice the second."""
FRAMES_AT_ONCE = 1024
UNUSED = re.compile(r"predictor\.|encoder\.layers\.[1-9]\d*\.self_attn\.relative_attention_bias\.")
"""Weights of the published files that features do not need: the classifier, and layer 0's bias repeated."""


@dataclass(frozen=True)
class BeatsConfig:
    """What the `cfg` of a published file says of the network; names and defaults are Microsoft's.

    The rest of a `cfg` is about training: a frozen encoder has no dropout and drops no layer.
    """

    input_patch_size: int = 16
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"
    layer_norm_first: bool = False
    deep_norm: bool = False
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = False
    num_buckets: int = 320
    max_distance: int = 1280
    gru_rel_pos: bool = False

    def __post_init__(self) -> None:
        if self.activation_fn not in ("gelu", "relu", "glu"):
            raise ValueError(f"BEATs: activation_fn must be gelu, relu or glu, got {self.activation_fn!r}")

    @classmethod
    def read(cls, cfg: Any, source: str) -> BeatsConfig:
        """Configuration of the known keys of a published `cfg`.

        Raises:
            ValueError: it is no dict, or a key's value has another type than Microsoft's; `source` is named.
        """
        if not isinstance(cfg, Mapping):
            raise ValueError(f"{source} is no BEATs checkpoint: its 'cfg' is a {type(cfg).__name__}, not a dict")
        kinds = {entry.name: type(entry.default) for entry in fields(cls)}
        known = {key: value for key, value in cfg.items() if key in kinds}
        for key, value in known.items():
            if type(value) is not kinds[key]:
                raise ValueError(f"{source}: its cfg has {key}={value!r}, expected {kinds[key].__name__}")
        return cls(**known)


class Beats(nn.Module):
    """BEATs over waveforms: its tokens, time-major, eight frequency bands every 160 ms, so 50 a second.

    A clip's tokens do not depend on the clips beside it: those beyond its own are masked everywhere. The original
    masks too few (its padding mask is taken twice), and so lets up to nine padded tokens into a batch; for a clip
    alone the two are equal.
    """

    repeats = 1
    """How many frames in a row are the same vector."""
    mel_filters: Tensor
    window: Tensor

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.config = config
        size, width = config.input_patch_size, config.encoder_embed_dim
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, size, stride=size, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj = nn.Linear(config.embed_dim, width) if config.embed_dim != width else None
        self.encoder = BeatsEncoder(config)
        # The remaining arguments are Kaldi's: 20 Hz to half the rate, and what VTLN would need.
        filters = get_mel_banks(MEL_BINS, FFT, 16_000.0, 20.0, 0.0, 100.0, -500.0, 1.0)[0]
        self.register_buffer("mel_filters", functional.pad(filters, (0, 1)).T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=False).pow(0.85), persistent=False)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Beats:
        """Read a published file, `{"cfg": ..., "model": ...}`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is torn, holds code, or is no BEATs; or its weights do not fit its `cfg`.
        """
        loaded = read_plain(path)
        state = loaded.get("model")
        if "cfg" not in loaded or not isinstance(state, Mapping):
            raise ValueError(f"{path} is no BEATs checkpoint: it must hold 'cfg' and 'model'")
        return cls.from_state(loaded["cfg"], state, str(path))

    @classmethod
    def skeleton(cls, path: str | Path) -> Beats:
        """Return a network of a file's sizes without its weights; of the published sizes where there is no file."""
        return cls(BeatsConfig.read(read_plain(path).get("cfg") if Path(path).is_file() else BEATS_CPT2, str(path)))

    @classmethod
    def from_state(cls, cfg: Any, state: Mapping[Any, Any], source: str) -> Beats:
        """Build the network of a `cfg` and load its weights, all of them; `source` is named in errors."""
        needed = {str(key): value for key, value in state.items() if not UNUSED.match(str(key))}
        check_weights(needed, source)
        config = BeatsConfig.read(cfg, source)
        try:
            model = cls(config)
            model.load_state_dict(needed)
        except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            raise ValueError(f"{source} does not fit its own cfg: {' '.join(str(error).split())}") from None
        return model

    @property
    def dim(self) -> int:
        """Width of a token."""
        return self.config.encoder_embed_dim

    def forward(self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> Frames:
        """Encode clips of 16 kHz audio.

        Args:
            waveforms: padded clips; what lies beyond `lengths` is ignored.
            lengths: samples of each clip; one of under 0.175 s is heard as 0.175 s, the first patch.
        """
        counts = self.count_tokens(lengths)
        shortest = WINDOW + (self.config.input_patch_size - 1) * SHIFT
        inside = torch.arange(waveforms.shape[1], device=lengths.device) < lengths[:, None]
        waveforms = functional.pad(waveforms * inside, (0, max(0, shortest - waveforms.shape[1])))
        return self.encode(self.fbank(waveforms), counts)

    def count_tokens(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Return how many tokens clips of so many samples have."""
        size = self.config.input_patch_size
        frames = (lengths - WINDOW).div(SHIFT, rounding_mode="floor") + 1
        return frames.div(size, rounding_mode="floor").clamp(min=1) * (MEL_BINS // size)

    def fbank(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames mels"]:
        """Return Kaldi's log-mel filter bank of whole batches, normalised; `torchaudio.compliance` has it for one."""
        frames = (waveforms * 2**15).unfold(1, WINDOW, SHIFT)
        if frames.device.type != "cpu":
            return (self.log_mel(frames) - MEAN) / (2 * STD)
        banks = frames.new_empty(*frames.shape[:2], MEL_BINS)
        for row, bank in zip(frames, banks, strict=True):  # a piece at a time, which fits the processor's cache
            for some, place in zip(row.split(FRAMES_AT_ONCE), bank.split(FRAMES_AT_ONCE), strict=True):
                place.copy_(self.log_mel(some))
        return banks.sub_(MEAN).div_(2 * STD)

    @torch.no_grad()
    def log_mel(self, frames: Float[Tensor, "*batch samples"]) -> Float[Tensor, "*batch mels"]:
        """Return the log-mel of frames, each freed of its mean and pre-emphasised by 0.97, under Povey's window.

        The steps and their order are torchaudio's, in place where they can be; fused, they moved faint bins by 1e-3.
        """
        centred = frames - frames.mean(-1, keepdim=True)
        padded = frames.new_empty(*frames.shape[:-1], FFT)
        padded[..., WINDOW:] = 0.0
        emphasised = padded[..., :WINDOW]
        torch.mul(centred[..., :1], 0.97, out=emphasised[..., :1])
        torch.mul(centred[..., :-1], 0.97, out=emphasised[..., 1:])
        torch.sub(centred, emphasised, out=emphasised).mul_(self.window)
        parts = torch.view_as_real(torch.fft.rfft(padded)).square_()
        power = parts[..., 0].add_(parts[..., 1])
        return (power @ self.mel_filters).clamp_(min=torch.finfo(torch.float32).eps).log_()

    def encode(self, fbank: Float[Tensor, "batch frames mels"], counts: Int[Tensor, " batch"]) -> Frames:
        """Turn normalised filter banks into tokens, of each clip the first `counts`."""
        patches = self.patch_embedding(fbank[:, None].to(self.patch_embedding.weight.dtype)).flatten(2).transpose(1, 2)
        patches = patches[:, : int(counts.max())]
        mask = torch.arange(patches.shape[1], device=counts.device) < counts[:, None]
        hidden = self.layer_norm(patches)
        if self.post_extract_proj is not None:
            hidden = self.post_extract_proj(hidden)
        return Frames(self.encoder(hidden, mask) * mask[..., None], mask)


class BeatsEncoder(nn.Module):
    """Convolutional positions, then the layers."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.pre_norm = config.layer_norm_first
        width, kernel = config.encoder_embed_dim, config.conv_pos
        convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=config.conv_pos_groups)
        self.pos_conv = nn.Sequential(weight_norm(convolution, "weight", dim=2))
        self.layers = nn.ModuleList([BeatsLayer(config, first=index == 0) for index in range(config.encoder_layers)])
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, hidden: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]) -> Tensor:
        """Run the layers; padded tokens are attended to by none."""
        hidden = hidden * mask[..., None]
        positions = self.pos_conv(hidden.transpose(1, 2)).transpose(1, 2)[:, : hidden.shape[1]]
        hidden = hidden + functional.gelu(positions)
        if not self.pre_norm:
            hidden = self.layer_norm(hidden)
        bias = cast(BeatsLayer, self.layers[0]).self_attn.position_bias(hidden.shape[1])
        for layer in self.layers:
            hidden = layer(hidden, mask, bias)
        return cast(Tensor, self.layer_norm(hidden) if self.pre_norm else hidden)


class BeatsLayer(nn.Module):
    """Attention and feed-forward, with layer norms before or after; deep norm scales the residual of the latter."""

    def __init__(self, config: BeatsConfig, *, first: bool) -> None:
        super().__init__()
        width, inner = config.encoder_embed_dim, config.encoder_ffn_embed_dim
        self.pre_norm = config.layer_norm_first
        self.residual = (2 * config.encoder_layers) ** 0.25 if config.deep_norm and not self.pre_norm else 1.0
        known: dict[str, Callable[[Tensor], Tensor]] = {"gelu": functional.gelu, "relu": functional.relu}
        self.activation = known.get(config.activation_fn)
        self.self_attn = BeatsAttention(config, first=first)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner) if self.activation else GatedLinear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, mask: Tensor, bias: Tensor | None) -> Tensor:
        """Run the layer."""
        if self.pre_norm:
            hidden = hidden + self.self_attn(self.self_attn_layer_norm(hidden), mask, bias)
            return hidden + self.feed(self.final_layer_norm(hidden))
        hidden = self.self_attn_layer_norm(hidden * self.residual + self.self_attn(hidden, mask, bias))
        return cast(Tensor, self.final_layer_norm(hidden * self.residual + self.feed(hidden)))

    def feed(self, hidden: Tensor) -> Tensor:
        """Run the feed-forward part."""
        hidden = self.fc1(hidden)
        return cast(Tensor, self.fc2(self.activation(hidden) if self.activation else hidden))


class GatedLinear(nn.Module):
    """One half of a linear layer's output, times the swish of the other."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2 * out)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return half the width."""
        value, gate = self.linear(hidden).chunk(2, dim=-1)
        return cast(Tensor, value * functional.silu(gate))


class BeatsAttention(nn.Module):
    """Self-attention whose bucketed relative position bias each query gates, as WavLM's (arXiv:2110.13900, 3.1)."""

    def __init__(self, config: BeatsConfig, *, first: bool) -> None:
        super().__init__()
        width, self.heads = config.encoder_embed_dim, config.encoder_attention_heads
        self.num_buckets, self.max_distance = config.num_buckets, config.max_distance
        self.relative_attention_bias: nn.Embedding | None = None
        if config.relative_position_embedding and first:
            self.relative_attention_bias = nn.Embedding(config.num_buckets, self.heads)
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.gated = config.relative_position_embedding and config.gru_rel_pos
        if self.gated:
            self.grep_linear = nn.Linear(width // self.heads, 8)
            self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))

    def position_bias(self, count: int) -> Float[Tensor, "heads count count"] | None:
        """Return what every pair of `count` tokens adds to its score, before the gate; None without such a bias."""
        if self.relative_attention_bias is None:
            return None
        distances = torch.arange(1 - count, count, device=self.k_proj.weight.device)
        by_distance = self.relative_attention_bias(bucket(distances, self.num_buckets, self.max_distance)).T
        return cast(Tensor, by_distance.contiguous().unfold(1, count, 1).flip(1))

    def forward(
        self,
        hidden: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "batch tokens"],
        bias: Float[Tensor, "heads tokens tokens"] | None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Attend to the tokens of the mask."""
        query, key, value = (
            projection(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        keys = None if bool(mask.all()) else mask[:, None, None, :]
        scores: Tensor | None = keys
        if bias is not None:
            scores = self.gate(query) * bias if self.gated else bias[None]
            if keys is not None:
                scores = scores.masked_fill(~keys, -math.inf)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=scores)
        return cast(Tensor, self.out_proj(mixed.transpose(1, 2).flatten(2)))

    def gate(self, query: Float[Tensor, "batch heads tokens dim"]) -> Float[Tensor, "batch heads tokens 1"]:
        """Return how much of the position bias each query takes."""
        update, reset = self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1).sigmoid().split(1, dim=-1)
        return cast(Tensor, update * (reset * self.grep_a - 1.0) + 2.0)


def bucket(distances: Int[Tensor, " distances"], count: int, max_distance: int) -> Int[Tensor, " distances"]:
    """Return the bucket of each signed distance: exact where near, logarithmic beyond (T5, arXiv:1910.10683, 2.1)."""
    half = count // 2
    exact = half // 2
    far = distances.abs()
    growth = torch.log(far.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    logarithmic = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(far < exact, far, logarithmic) + half * (distances > 0)
