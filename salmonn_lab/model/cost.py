"""What a model costs before it exists: weights, memory, audio tokens, floating point operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from salmonn_lab.model.beats import Beats
from salmonn_lab.model.bridge import Bridge, FrameProjection
from salmonn_lab.model.config import THIRTY_SECONDS
from salmonn_lab.model.encoders import Encoders
from salmonn_lab.model.llm import LanguageModel
from salmonn_lab.model.whisper import SAMPLES_PER_FRAME, WhisperSpeechEncoder
from salmonn_lab.model.yamnet import FFT_SIZE, MEL_BINS, PATCH_MEL_FRAMES, PATCH_SAMPLES, Yamnet

FFT_BINS = 201
"""Of Whisper's spectrum, per mel frame."""
ADAM_BYTES = 12
"""Per float32 weight that learns: its gradient, and the two moments of AdamW."""
BITS = {"8bit": 8, "4bit": 4}


@dataclass(frozen=True)
class PartCost:
    """One part of a model."""

    name: str
    weights: int
    trainable: int
    weight_bytes: int
    optimizer_bytes: int
    """Gradients and AdamW's moments of what learns."""
    flops: int
    """Of one clip's forward pass; a multiplication with its addition counts as two."""
    backward: int
    """Of one clip's backward pass: towards the input, and to the weights that learn."""


@dataclass(frozen=True)
class Clip:
    """What one clip is to a model."""

    seconds: float
    text_tokens: int
    """Before and after the audio, and the target."""
    target_tokens: int


def audio_frames(seconds: float, bridge: Bridge) -> int:
    """Return the frames of 20 ms that a clip has."""
    return (
        THIRTY_SECONDS
        if bridge.config.span == "thirty_seconds"
        else max(1, -(-round(seconds * 16_000) // SAMPLES_PER_FRAME))
    )


def audio_tokens(seconds: float, bridge: Bridge) -> int:
    """Return the tokens that the LLM reads in place of a clip."""
    config, frames = bridge.config, audio_frames(seconds, bridge)
    if config.level == "sequence":
        return config.num_queries
    if config.span == "thirty_seconds":
        return ((frames - config.kernel) // config.stride + 1) * config.num_queries
    covering = (max(frames - config.kernel, 0) + config.stride - 1) // config.stride + 1
    return max(1, min(covering, -(-frames // config.stride))) * config.num_queries


def part_costs(
    encoders: Encoders, bridge: Bridge, llm: LanguageModel, quantization: str | None, clip: Clip
) -> list[PartCost]:
    """Return the cost of each part, for one clip."""
    frames = audio_frames(clip.seconds, bridge)
    samples = round(clip.seconds * 16_000)
    costs = []
    for stream in encoders.streams:
        if isinstance(stream, WhisperSpeechEncoder):
            flops = whisper_flops(stream, frames)
        elif isinstance(stream, Beats):
            flops = beats_flops(stream, samples)
        else:
            flops = yamnet_flops(cast(Yamnet, stream), samples)
        costs.append(part(type(stream).__name__, stream, flops, 0))
    tokens = audio_tokens(clip.seconds, bridge)
    vectors = []
    for stream, repeats in zip(encoders.streams, encoders.repeats, strict=True):
        given = frames if isinstance(stream, WhisperSpeechEncoder) else -(-samples // SAMPLES_PER_FRAME)
        vectors.append(-(-given // repeats))
    flops = bridge_flops(bridge, frames, vectors, tokens)
    costs.append(part("Bridge", bridge, flops, 2 * flops))
    forward, adapters = llm_flops(llm, tokens + clip.text_tokens, clip.target_tokens)
    costs.append(part("LanguageModel", llm, forward + adapters, forward + 2 * adapters, BITS.get(quantization or "")))
    return costs


def part(name: str, module: nn.Module, flops: int, backward: int, bits: int | None = None) -> PartCost:
    """Count a part's weights; with `bits`, frozen linear layers hold so many each."""
    weights = list(module.named_parameters())
    trainable = sum(weight.numel() for _, weight in weights if weight.requires_grad)
    size = 0.0
    for name_of, weight in weights:
        packed = bits is not None and not weight.requires_grad and weight.ndim == 2 and "proj" in name_of
        size += weight.numel() * (cast(int, bits) / 8 if packed else weight.element_size())
    total = sum(weight.numel() for _, weight in weights)
    return PartCost(name, total, trainable, round(size), ADAM_BYTES * trainable, flops, backward)


def linear_flops(module: nn.Module, rows: int) -> int:
    """Return the operations of every linear layer in a module, each on `rows` vectors."""
    layers = (layer for layer in module.modules() if isinstance(layer, nn.Linear))
    return sum(2 * rows * layer.weight.numel() for layer in layers)


def attention_flops(queries: int, keys: int, width: int) -> int:
    """Return the operations of scores and mixing in one layer of attention."""
    return 4 * queries * keys * width


def whisper_flops(stream: WhisperSpeechEncoder, frames: int) -> int:
    """Return the operations of Whisper's encoder over frames of 20 ms."""
    encoder: Any = stream.encoder
    mel = 2 * frames + (0 if stream.thirty_seconds else 1)
    filters = 2 * FFT_BINS * encoder.config.num_mel_bins * mel
    first, second = encoder.conv1.weight, encoder.conv2.weight
    convolutions = 2 * mel * first.numel() + 2 * frames * second.numel()
    attention = len(encoder.layers) * attention_flops(frames, frames, encoder.config.d_model)
    return int(filters + convolutions + linear_flops(encoder, frames) + attention)


def beats_flops(stream: Beats, samples: int) -> int:
    """Return the operations of BEATs over a clip."""
    config, size = stream.config, stream.config.input_patch_size
    fbank = max((samples - 400) // 160 + 1, size)
    tokens = fbank // size * (stream.mel_filters.shape[1] // size)
    filters = 2 * fbank * stream.mel_filters.numel()
    patches = 2 * tokens * stream.patch_embedding.weight.numel()
    positions = 2 * tokens * config.encoder_embed_dim**2 // config.conv_pos_groups * config.conv_pos
    linear = linear_flops(stream, tokens)
    for name, module in stream.named_modules():
        if name.endswith("grep_linear"):  # runs on every head of a token
            linear += linear_flops(module, tokens * (config.encoder_attention_heads - 1))
    attention = config.encoder_layers * attention_flops(tokens, tokens, config.encoder_embed_dim)
    return filters + patches + positions + linear + attention


def yamnet_flops(stream: Yamnet, samples: int) -> int:
    """Return the operations of YAMNet over a clip, every patch of 0.96 s that it touches."""
    patches = max(1, -(-samples // PATCH_SAMPLES))
    height, width, flops = PATCH_MEL_FRAMES, MEL_BINS, 2 * PATCH_MEL_FRAMES * (FFT_SIZE // 2 + 1) * MEL_BINS
    for layer in stream.convolutions:
        convolution = cast(nn.Conv2d, layer)
        height, width = height // convolution.stride[0], width // convolution.stride[0]
        flops += 2 * height * width * convolution.weight.numel()
    return patches * flops


def bridge_flops(bridge: Bridge, frames: int, vectors: Sequence[int], tokens: int) -> int:
    """Return the operations of the Q-Former and its projection over one clip of so many different vectors a stream."""
    config, queries = bridge.config, bridge.config.num_queries
    keys = config.kernel if config.level == "window" else frames
    flops = linear_flops(bridge.projection, tokens)
    for layer in bridge.qformer.encoder.layer:
        for linear in layer.modules():
            if isinstance(linear, FrameProjection):
                on_vectors = sum(count * dim for count, dim in zip(vectors, bridge.dims, strict=True))
                flops += 2 * on_vectors * linear.out_features
            elif isinstance(linear, nn.Linear):
                flops += linear_flops(linear, tokens)
        flops += attention_flops(tokens, queries, config.hidden_dim) + attention_flops(tokens, keys, config.hidden_dim)
    return flops


def llm_flops(llm: LanguageModel, length: int, targets: int) -> tuple[int, int]:
    """Return the operations of the LLM over one row, and of its adapters."""
    decoder, adapters = llm.base.get_decoder(), 0
    for name, layer in decoder.named_modules():
        if isinstance(layer, nn.Linear) and ".lora_" in f".{name}":
            adapters += linear_flops(layer, length)
    config = llm.base.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = config.num_attention_heads * head_dim
    attention = config.num_hidden_layers * attention_flops(length, length, width)
    head = 2 * targets * llm.base.get_output_embeddings().weight.numel()
    return linear_flops(decoder, length) - adapters + attention + head, adapters
