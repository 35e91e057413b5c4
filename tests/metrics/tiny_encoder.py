"""A miniature sentence encoder, real but for its size and its weights."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast


def tiny_encoder(folder: Path) -> Path:
    """Write a `from_pretrained` folder, always with the same weights."""
    if not folder.exists():
        folder.mkdir(parents=True)
        pieces = [*string.ascii_lowercase, *string.digits, *(f"##{letter}" for letter in string.ascii_lowercase)]
        tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, "dog", "cat", "rain"]
        (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
        tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
        config = BertConfig(
            vocab_size=len(tokens),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = BertModel(config)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder
