"""Sizes of the networks that the published SALMONN is made of, so that a model can be weighed before it is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, LlamaConfig, PretrainedConfig, WhisperConfig

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


def whisper_config(checkpoint: str) -> WhisperConfig:
    """Return the sizes of a Whisper: of a published name from here, of any other from its files."""
    sizes = WHISPER.get(checkpoint)
    return WhisperConfig.from_pretrained(checkpoint) if sizes is None else WhisperConfig(**sizes)


def llm_config(checkpoint: str) -> PretrainedConfig:
    """Return the sizes of a language model: of a published name from here, of any other from its files."""
    sizes = LLAMA.get(checkpoint)
    return AutoConfig.from_pretrained(checkpoint) if sizes is None else LlamaConfig(**sizes)
