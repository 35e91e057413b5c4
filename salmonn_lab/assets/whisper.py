"""Whisper from a CTranslate2 file (as faster-whisper ships it) to an ordinary transformers folder."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from salmonn_lab.assets.table import Report

Weights = dict[str, NDArray[Any]]

DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
"""CTranslate2's `DataType`, in its own numbering (include/ctranslate2/types.h)."""
FIRST_ALIAS_VERSION = 3
MONOLINGUAL_VOCABULARY = 51_864


class Cursor:
    """Reads little-endian values and counted strings off a buffer, one after another."""

    def __init__(self, data: bytes) -> None:
        self.rest = memoryview(data)

    def take(self, size: int) -> memoryview:
        """Return the next bytes."""
        if size > len(self.rest):
            raise ValueError("not a whole CTranslate2 file: it ends early")
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def number(self, kind: str) -> int:
        """Return the next integer; `kind` is a `struct` letter."""
        (value,) = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))
        return int(value)

    def string(self) -> str:
        """Return the next string: a 16-bit length that counts the closing zero byte, then the bytes."""
        return bytes(self.take(self.number("H"))).rstrip(b"\0").decode()

    def array(self) -> NDArray[Any]:
        """Return the next array, as a view of the buffer."""
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype = DTYPES[self.number("B")]
        return np.frombuffer(self.take(self.number("I")), dtype).reshape(shape)


def read_ctranslate2(data: bytes, specification: str) -> Weights:
    """Return the variables of a CTranslate2 `model.bin`, aliases included, as views of `data`.

    Raises:
        ValueError: the bytes are no such file, hold another `specification`, or end early or late.
    """
    cursor = Cursor(data)
    try:
        version, found = cursor.number("I"), cursor.string()
        if found != specification:
            raise ValueError(f"a CTranslate2 file of kind {found!r}, expected {specification!r}")
        cursor.number("I")  # the revision of the specification
        weights = {}
        for _ in range(cursor.number("I")):
            name = cursor.string()
            weights[name] = cursor.array()
        if version >= FIRST_ALIAS_VERSION:
            for _ in range(cursor.number("I")):
                alias = cursor.string()
                weights[alias] = weights[cursor.string()]
    except (KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"not a CTranslate2 file: {error}") from error
    if cursor.rest:
        raise ValueError(f"not a CTranslate2 file: {len(cursor.rest)} bytes after its end")
    return weights


def count_layers(weights: Iterable[str], side: str) -> int:
    """Return how many layers the encoder or the decoder has."""
    return len({name.split("/")[1] for name in weights if name.startswith(f"{side}/layer_") and name.count("/") > 2})


def to_transformers(weights: Weights) -> Weights:
    """Rename the variables to those of `WhisperForConditionalGeneration`, attention projections taken apart."""
    renamed: Weights = {}

    def linear(source: str, target: str) -> None:
        renamed[f"{target}.weight"] = weights[f"{source}/weight"]
        renamed[f"{target}.bias"] = weights[f"{source}/bias"]

    def norm(source: str, target: str) -> None:
        renamed[f"{target}.weight"] = weights[f"{source}/gamma"]
        renamed[f"{target}.bias"] = weights[f"{source}/beta"]

    def fused(source: str, target: str, letters: str) -> None:
        """Take apart projections that CTranslate2 stacks; the key's bias is zero there and absent in Whisper."""
        parts = zip(
            letters,
            np.split(weights[f"{source}/weight"], len(letters)),
            np.split(weights[f"{source}/bias"], len(letters)),
            strict=True,
        )
        for letter, weight, bias in parts:
            renamed[f"{target}.{letter}_proj.weight"] = weight
            if letter != "k":
                renamed[f"{target}.{letter}_proj.bias"] = bias
            elif bias.any():
                raise ValueError(f"{source}: the key projection has a bias, which Whisper has not")

    for convolution in ("conv1", "conv2"):
        linear(f"encoder/{convolution}", f"model.encoder.{convolution}")
    renamed["model.decoder.embed_tokens.weight"] = weights["decoder/embeddings/weight"]
    for side in ("encoder", "decoder"):
        renamed[f"model.{side}.embed_positions.weight"] = weights[f"{side}/position_encodings/encodings"]
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for index in range(count_layers(weights, side)):
            source, target = f"{side}/layer_{index}", f"model.{side}.layers.{index}"
            fused(f"{source}/self_attention/linear_0", f"{target}.self_attn", "qkv")
            linear(f"{source}/self_attention/linear_1", f"{target}.self_attn.out_proj")
            norm(f"{source}/self_attention/layer_norm", f"{target}.self_attn_layer_norm")
            if side == "decoder":
                linear(f"{source}/attention/linear_0", f"{target}.encoder_attn.q_proj")
                fused(f"{source}/attention/linear_1", f"{target}.encoder_attn", "kv")
                linear(f"{source}/attention/linear_2", f"{target}.encoder_attn.out_proj")
                norm(f"{source}/attention/layer_norm", f"{target}.encoder_attn_layer_norm")
            linear(f"{source}/ffn/linear_0", f"{target}.fc1")
            linear(f"{source}/ffn/linear_1", f"{target}.fc2")
            norm(f"{source}/ffn/layer_norm", f"{target}.final_layer_norm")
    return {name: np.ascontiguousarray(array) for name, array in renamed.items()}


def model_config(weights: Weights, start: int) -> dict[str, Any]:
    """Return the sizes of the model, as `WhisperConfig` names them; `start` is the token that opens a transcript."""
    sides = ("encoder", "decoder")
    vocabulary, width = weights["decoder/embeddings/weight"].shape
    return {
        "vocab_size": vocabulary,
        "num_mel_bins": weights["encoder/conv1/weight"].shape[1],
        "d_model": width,
        **{f"{side}_layers": count_layers(weights, side) for side in sides},
        **{f"{side}_attention_heads": int(weights[f"{side}/num_heads"]) for side in sides},
        **{f"{side}_ffn_dim": weights[f"{side}/layer_0/ffn/linear_0/weight"].shape[0] for side in sides},
        "max_source_positions": weights["encoder/position_encodings/encodings"].shape[0],
        "max_target_positions": weights["decoder/position_encodings/encodings"].shape[0],
        "decoder_start_token_id": start,
        **{f"{role}_token_id": start - 1 for role in ("bos", "eos", "pad")},
        # The file stores float16; models compute in float32 unless told otherwise.
        "dtype": "float32",
    }


def generation_config(source: dict[str, Any], tokens: dict[str, int], *, multilingual: bool) -> dict[str, Any]:
    """Return what `generate` needs to know, from CTranslate2's own config and the special tokens."""
    start, end = tokens["<|startoftranscript|>"], tokens["<|endoftext|>"]
    settings = {
        "alignment_heads": source["alignment_heads"],
        "suppress_tokens": source["suppress_ids"],
        "begin_suppress_tokens": source["suppress_ids_begin"],
        "decoder_start_token_id": start,
        **{f"{role}_token_id": end for role in ("bos", "eos", "pad")},
        "is_multilingual": multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "no_timestamps_token_id": tokens["<|notimestamps|>"],
        "prev_sot_token_id": tokens["<|startofprev|>"],
        "return_timestamps": False,
    }
    if multilingual:
        languages = set(source["lang_ids"])
        settings["lang_to_id"] = {name: index for name, index in tokens.items() if index in languages}
        settings["task_to_id"] = {task: tokens[f"<|{task}|>"] for task in ("transcribe", "translate")}
        # Without it, `generate` leaves the task token out of the prompt, and the transcript degenerates.
        settings["task"] = "transcribe"
    return settings


def convert(folder: Path, model: Iterable[Path], rest: Path, report: Report) -> None:
    """Write a Whisper folder: the whole model, its feature extractor and its tokenizer.

    Args:
        folder: where to write.
        model: the parts of `model.bin`, in order.
        rest: the folder that holds CTranslate2's `config.json` and `tokenizer.json`.
        report: told what is being done, and how much of it.
    """
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor

    report("reading", 0, 2)
    weights = read_ctranslate2(b"".join(path.read_bytes() for path in model), "WhisperSpec")
    report("writing", 1, 2)
    save_file(to_transformers(weights), folder / "model.safetensors", metadata={"format": "pt"})

    source = json.loads((rest / "config.json").read_text())
    added = json.loads((rest / "tokenizer.json").read_text())["added_tokens"]
    tokens = {token["content"]: token["id"] for token in added}
    settings = model_config(weights, tokens["<|startoftranscript|>"])
    WhisperConfig(architectures=["WhisperForConditionalGeneration"], **settings).save_pretrained(folder)
    multilingual = settings["vocab_size"] > MONOLINGUAL_VOCABULARY
    GenerationConfig(**generation_config(source, tokens, multilingual=multilingual)).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=settings["num_mel_bins"]).save_pretrained(folder)
    shutil.copyfile(rest / "tokenizer.json", folder / "tokenizer.json")
    end = "<|endoftext|>"
    tokenizer = {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "model_max_length": 1024,
        **{f"{role}_token": end for role in ("bos", "eos", "pad", "unk")},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1) + "\n")
    report("writing", 2, 2)
