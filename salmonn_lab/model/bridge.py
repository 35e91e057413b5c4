"""The bridge: a Q-Former that turns encoder frames into the few tokens the LLM reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from salmonn_lab.batch import AudioTokens, Frames
from salmonn_lab.model.config import THIRTY_SECONDS, BridgeConfig


class FrameProjection(nn.Linear):
    """A key or value projection that the bridge applies to whole clips before it cuts them into windows.

    Where the Q-Former would apply it, window by window, it hands out what the bridge has laid ready: windows that
    overlap share the work, and vectors that an encoder repeats are projected once.
    """

    ready: Tensor | None = None
    """The projected windows that the Q-Former is about to ask for."""

    def forward(self, frames: Tensor) -> Tensor:
        """Hand out what lies ready."""
        ready, self.ready = self.ready, None
        assert ready is not None, "Bridge.read lays the windows ready"
        return ready


class Bridge(nn.Module):
    """Layer norm per encoder, Q-Former over windows or the whole clip, projection to the LLM (paper section 3.1)."""

    embedding_scale: Tensor

    def __init__(self, config: BridgeConfig, encoder_dims: Sequence[int], llm_dim: int, embedding_scale: float) -> None:
        """Build the bridge.

        Args:
            config: the axes.
            encoder_dims: width of each encoder's frames, in the order in which `forward` gets them.
            llm_dim: width of the LLM's embeddings.
            embedding_scale: standard deviation of the LLM's embeddings, for `output_scale: embedding`.
        """
        super().__init__()
        self.config = config
        self.dims = list(encoder_dims)
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for dim in encoder_dims])
        self.queries = nn.Parameter(torch.empty(1, config.num_queries, config.hidden_dim).normal_(std=0.02))
        qformer = Blip2QFormerConfig(
            hidden_size=config.hidden_dim,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.inner_dim,
            encoder_hidden_size=sum(encoder_dims),
            cross_attention_frequency=1,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
        )
        qformer._attn_implementation = "sdpa"
        self.qformer = Blip2QFormerModel(qformer)
        for attention, name in self.projections():
            plain = cast(nn.Linear, getattr(attention, name))
            ours = FrameProjection(plain.in_features, plain.out_features)
            ours.load_state_dict(plain.state_dict())
            setattr(attention, name, ours)
        self.projection = nn.Linear(config.hidden_dim, llm_dim)
        self.register_buffer("embedding_scale", torch.tensor(embedding_scale), persistent=False)

    def forward(self, streams: Sequence[Frames]) -> AudioTokens:
        """Compress frames to tokens; each clip's tokens are the same whatever clips share its batch."""
        projected, mask = self.project(streams)
        if self.config.level == "sequence":
            tokens = self.read(projected, mask)
            return AudioTokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))
        return self.read_windows(projected, mask)

    def projections(self) -> list[tuple[nn.Module, str]]:
        """Return where the keys and values of cross-attention are made, each a module and the name of its part."""
        layers = self.qformer.encoder.layer
        return [(layer.crossattention.attention, name) for layer in layers for name in ("key", "value")]

    def linears(self) -> list[FrameProjection]:
        """Return these modules themselves."""
        return [cast(FrameProjection, getattr(attention, name)) for attention, name in self.projections()]

    def project(
        self, streams: Sequence[Frames]
    ) -> tuple[Float[Tensor, "batch frames projected"], Bool[Tensor, "batch frames"]]:
        """Normalise each stream, lay them side by side, the shorter ending in zeros (models/salmonn.py:222-229 of the
        original), and return the keys and values that every layer makes of each frame."""
        projected = torch.cat([linear.bias for linear in self.linears()])
        for part in self.project_each(streams):
            projected = projected + part
        count = projected.shape[1]
        mask = torch.stack([functional.pad(each.mask, (0, count - each.mask.shape[1])) for each in streams]).any(0)
        if self.config.span == "thirty_seconds":
            mask = torch.ones_like(mask)
        return projected, mask

    def project_each(self, streams: Sequence[Frames]) -> Iterator[Float[Tensor, "batch frames projected"]]:
        """Yield each encoder's part of the keys and values: with their biases, which are left out, these add up."""
        count = max(stream.features.shape[1] for stream in streams)
        if self.config.span == "thirty_seconds":
            count = THIRTY_SECONDS
        weights = [torch.split(linear.weight, self.dims, dim=1) for linear in self.linears()]
        for norm, own, stream in zip(self.norms, zip(*weights, strict=True), streams, strict=True):
            normed = norm(stream.features[:, :: stream.repeats].float())
            part = torch.cat([functional.linear(normed, weight) for weight in own], dim=-1)
            part = part.repeat_interleave(stream.repeats, dim=1)[:, : stream.mask.shape[1]] * stream.mask[..., None]
            yield functional.pad(part, (0, 0, 0, count - part.shape[1]))

    def read_windows(
        self, projected: Float[Tensor, "batch frames projected"], mask: Bool[Tensor, "batch frames"]
    ) -> AudioTokens:
        """Run the Q-Former over every window that holds audio, all windows of all clips as one batch."""
        kernel, stride, queries = self.config.kernel, self.config.stride, self.config.num_queries
        count = mask.shape[1]
        if self.config.span == "clip":
            places = torch.arange(1, count + 1, device=mask.device)
            counts = self.count_windows((mask * places).amax(1))
        else:
            counts = torch.full((len(mask),), (count - kernel) // stride + 1, device=mask.device)
        longest = int(counts.max())
        present = torch.arange(longest, device=mask.device) < counts[:, None]
        clips, windows = present.nonzero(as_tuple=True)
        places = stride * windows[:, None] + torch.arange(kernel, device=mask.device)
        frames = clips[:, None] * count + places.clamp(max=count - 1)
        # The gradient of an embedding's lookup adds up rows, which is several times faster than that of `unfold`.
        tokens = self.read(
            functional.embedding(frames, projected.flatten(0, 1)), mask.flatten()[frames] & (places < count)
        )
        embeds = tokens.new_zeros(*present.shape, queries, tokens.shape[-1])
        embeds[present] = tokens
        return AudioTokens(embeds.flatten(1, 2), present.repeat_interleave(queries, dim=1))

    def count_windows(self, frames: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Return how many windows cover clips of `frames` frames; the last may be part silence, none is all silence."""
        kernel, stride = self.config.kernel, self.config.stride
        covering = (frames - kernel).clamp(min=0).add(stride - 1).div(stride, rounding_mode="floor") + 1
        return torch.minimum(covering, frames.add(stride - 1).div(stride, rounding_mode="floor")).clamp(min=1)

    def read(
        self, projected: Float[Tensor, "batch frames projected"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch queries llm_dim"]:
        """Let the queries read one batch of projected frames."""
        # Split once: the gradient of each of several slices would be as large as the whole.
        parts = torch.split(projected, self.config.hidden_dim, dim=-1)
        for linear, part in zip(self.linears(), parts, strict=True):
            linear.ready = part
        hidden = self.qformer(
            query_embeds=self.queries.expand(len(projected), -1, -1),
            encoder_hidden_states=parts[0],
            encoder_attention_mask=None if bool(mask.all()) else mask.long(),
        ).last_hidden_state
        tokens = cast(Tensor, self.projection(hidden))
        if self.config.output_scale == "embedding":
            tokens = functional.layer_norm(tokens, tokens.shape[-1:]) * self.embedding_scale
        return tokens
