"""A LLaMA from a GGUF file (as llama.cpp reads it) to an ordinary transformers folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from salmonn_lab.assets.table import Report

LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
"""GGUF's names within `blk.N.`, and the ones within `model.layers.N.`."""
OTHER_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
CONTROL_TOKEN = 3


def rename(name: str) -> str:
    """Return the name that transformers gives to a tensor of a GGUF file.

    Raises:
        ValueError: LLaMA has no such tensor.
    """
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    match name.split("."):
        case ["blk", index, part, "weight"] if part in LAYER_NAMES:
            return f"model.layers.{index}.{LAYER_NAMES[part]}.weight"
    raise ValueError(f"a LLaMA has no tensor {name}")


def unpermute(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Undo llama.cpp's reordering of a projection's rows, made for its own layout of the rotary embedding."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def build_tokenizer(tokens: list[str], kinds: list[int], merges: list[str]) -> Any:
    """Return SmolLM's tokenizer: byte-level BPE that takes numbers apart into digits first."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    left_and_right = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(BPE({token: index for index, token in enumerate(tokens)}, left_and_right))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def convert(folder: Path, model: Path, report: Report) -> None:
    """Write a LLaMA folder with its tokenizer and chat template from a GGUF file of SmolLM's kind.

    Raises:
        ValueError: the file holds another architecture or another kind of tokenizer.
    """
    from gguf import GGUFReader, dequantize
    from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

    report("reading", 0, 1)
    reader = GGUFReader(model)

    def value(key: str) -> Any:
        return reader.fields[key].contents()

    kinds = [value(key) for key in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre")]
    if kinds != ["llama", "gpt2", "smollm"]:
        raise ValueError(f"{model.name} holds a model, tokenizer and splitting of kind {kinds}, not a SmolLM")
    query_heads, key_heads = value("llama.attention.head_count"), value("llama.attention.head_count_kv")
    weights = {}
    for done, tensor in enumerate(reader.tensors):
        report("converting", done, len(reader.tensors))
        name = rename(tensor.name)
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = unpermute(weight, query_heads if "q_proj" in name else key_heads)
        weights[name] = np.ascontiguousarray(weight)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    tokens = value("tokenizer.ggml.tokens")
    special = {
        role: value(f"tokenizer.ggml.{key}_token_id")
        for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    }
    special_ids = {f"{role}_token_id": index for role, index in special.items()}
    LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        vocab_size=len(tokens),
        hidden_size=value("llama.embedding_length"),
        intermediate_size=value("llama.feed_forward_length"),
        num_hidden_layers=value("llama.block_count"),
        num_attention_heads=query_heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=value("llama.context_length"),
        rms_norm_eps=value("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value("llama.rope.freq_base")},
        tie_word_embeddings="lm_head.weight" not in weights,
        **special_ids,
    ).save_pretrained(folder)
    GenerationConfig(**special_ids).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(tokens, value("tokenizer.ggml.token_type"), value("tokenizer.ggml.merges")),
        unk_token=tokens[value("tokenizer.ggml.unknown_token_id")],
        model_max_length=value("llama.context_length"),
        **{f"{role}_token": tokens[index] for role, index in special.items()},
    )
    tokenizer.chat_template = value("tokenizer.chat_template")
    tokenizer.save_pretrained(folder)
    report("converting", len(reader.tensors), len(reader.tensors))
