"""Miniature but real checkpoints: what production loaders read, small enough for tests and for trying out a config."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from salmonn_lab.model.beats import Beats, BeatsConfig
from salmonn_lab.model.yamnet import Yamnet

TEXT = [
    "Recognize the speech and give me the transcription.",
    "Please describe the audio. What is heard? Answer yes or no.",
    "turn on the kitchen light, one two three four five six seven eight nine ten",
    "USER: <Speech></Speech>\nASSISTANT:",
]
"""What the tokenizer learns its few merges from."""


def write(folder: Path, seed: int = 0) -> None:
    """Write `whisper`, `yamnet`, `beats.pt` and `llm` into `folder`, each as its loader takes it; random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        write_whisper(folder / "whisper")
        Yamnet().save_pretrained(str(folder / "yamnet"))
        write_beats(folder / "beats.pt")
        write_llm(folder / "llm")


def write_whisper(folder: Path) -> None:
    """Write a Whisper of two layers and width 32."""
    config = WhisperConfig(
        vocab_size=64,
        d_model=32,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperModel(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)


def write_beats(file: Path) -> None:
    """Write a BEATs of two layers and width 32, with the branches of the released one."""
    config = BeatsConfig(
        embed_dim=16,
        encoder_layers=2,
        encoder_embed_dim=32,
        encoder_ffn_embed_dim=64,
        encoder_attention_heads=4,
        deep_norm=True,
        relative_position_embedding=True,
        max_distance=800,
        gru_rel_pos=True,
    )
    names = (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v"))
    weights = {}
    for name, weight in Beats(config).state_dict().items():
        for ours, published in names:
            name = name.replace(ours, published)
        weights[name] = weight
    torch.save({"cfg": dataclasses.asdict(config), "model": weights}, file)


def write_llm(folder: Path) -> None:
    """Write a LLaMA of two layers and width 64 with a byte-level tokenizer of 384 pieces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def main() -> None:
    """Write the miniature checkpoints to a folder."""
    parser = argparse.ArgumentParser(prog="python -m salmonn_lab.tiny", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
