"""A miniature sentence encoder and detector of errors, real but for their size and their weights."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizerFast


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


CLASSES = 6


def tiny_detector(encoder: Path) -> Path:
    """Write, beside an encoder, a detector as FENSE's authors store it: to it "dog" is right and "rain" an error."""
    path = encoder.parent / "echecker_tiny.ckpt"
    if not path.exists():
        bert, tokenize = BertModel.from_pretrained(encoder), AutoTokenizer.from_pretrained(encoder)
        state = {f"encoder.{name}": weight for name, weight in bert.state_dict().items()}
        state["encoder.embeddings.position_ids"] = torch.arange(32)[None]  # as older libraries wrote
        with torch.no_grad():
            right, wrong = (
                bert(**tokenize(text, return_tensors="pt")).last_hidden_state[0, 0] for text in ("dog", "rain")
            )
        apart = wrong - right
        state["clf.weight"], state["clf.bias"] = torch.ones(CLASSES, bert.config.hidden_size), torch.zeros(CLASSES)
        state["clf.weight"][-1] = 20 * apart / (apart @ apart)
        state["clf.bias"][-1] = -10 * (wrong + right) @ apart / (apart @ apart)
        torch.save({"model_type": str(encoder), "num_classes": CLASSES, "state_dict": state}, path)
    return path
