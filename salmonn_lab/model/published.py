"""Sizes of the networks that the published SALMONN is made of, so that a model can be weighed before it is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from transformers import AutoConfig, LlamaConfig, PretrainedConfig, WhisperConfig

from salmonn_lab.plain import reason

WHISPER_LARGE_V2: Mapping[str, Any] = {
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "decoder_layers": 1,  # of 32; the decoder is not kept
    "decoder_attention_heads": 20,
    "decoder_ffn_dim": 5120,
    "vocab_size": 51865,
    "num_mel_bins": 80,
}
VICUNA_7B: Mapping[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}
VICUNA_13B: Mapping[str, Any] = {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "vocab_size": 32000,
}
BEATS_CPT2: Mapping[str, Any] = {
    "embed_dim": 512,
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "deep_norm": True,
    "relative_position_embedding": True,
    "num_buckets": 320,
    "max_distance": 800,
    "gru_rel_pos": True,
}
"""The `cfg` of the released fine-tuned iter3+ files, as far as it shapes the network."""

WHISPER = {"openai/whisper-large-v2": WHISPER_LARGE_V2}
LLAMA = {"lmsys/vicuna-7b-v1.5": VICUNA_7B, "lmsys/vicuna-13b-v1.1": VICUNA_13B}


def whisper_config(checkpoint: str, revision: str | None = None) -> WhisperConfig:
    """Sizes of a Whisper: of a published name from here, of any other from its files.

    Raises:
        ValueError: its config.json cannot be read.
    """
    sizes = WHISPER.get(checkpoint)
    if sizes is not None:
        return WhisperConfig(**sizes)
    return cast(WhisperConfig, read_sizes(WhisperConfig, "model.whisper", checkpoint, revision))


def llm_config(checkpoint: str, revision: str | None = None) -> PretrainedConfig:
    """Sizes of a language model: of a published name from here, of any other from its files; errors as above."""
    sizes = LLAMA.get(checkpoint)
    if sizes is not None:
        return LlamaConfig(**sizes)
    return cast(PretrainedConfig, read_sizes(AutoConfig, "model.llm", checkpoint, revision))


def read_sizes(kind: Any, key: str, checkpoint: str, revision: str | None) -> Any:
    """Configuration of a checkpoint in the layout of transformers, its errors in one line under the config's key."""
    try:
        return kind.from_pretrained(checkpoint, revision=revision or "main")
    except Exception as error:  # transformers and the hub's client raise many kinds
        raise ValueError(f"{key}.checkpoint: {checkpoint} cannot be loaded: {reason(error)}") from error
