"""The language model: a frozen causal LM with LoRA that reads audio tokens between two pieces of text."""

from __future__ import annotations

import codecs
import importlib.util
import re
import time
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerBase

from salmonn_lab.batch import AudioTokens, Batch
from salmonn_lab.model.published import llm_config

SPACE = "\u2581"
"""How SentencePiece writes a space."""
FIRST_BYTE = "<0x00>"
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
EACH_BYTE = "salmonn_lab.each_byte"
IGNORE = -100
"""The label of a position that is not predicted."""


Dtype = Literal["auto", "float32", "bfloat16", "float16", "fastest"]


@dataclass
class LLMConfig:
    """The language model."""

    checkpoint: str = "lmsys/vicuna-13b-v1.1"
    """A folder, a hub name or `asset:NAME` of any causal LM that takes `inputs_embeds`."""
    prompt_template: str = "USER: {}\nASSISTANT:"
    """Wraps each prompt; `{}` is the prompt."""
    dtype: Dtype = "float16"
    """Of the frozen weights; LoRA stays in float32. `auto` is the checkpoint's own; `fastest` is float32 or bfloat16,
    whichever multiplies faster on this machine, measured when the run starts and written into its config."""
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"
    """Kernel of the attention. `eager` suits bfloat16 on a CPU, where the backward pass of `sdpa` is slow: a step of
    the quickstart's LLM is then 1.5 times as fast (benchmarks/attention.py)."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Hold the frozen linear layers in so many bits, by bitsandbytes (`pip install 'salmonn-lab[quantization]'`)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""

    def __post_init__(self) -> None:
        if self.prompt_template.count("{}") != 1:
            raise ValueError(f"model.llm.prompt_template must hold '{{}}' exactly once, got {self.prompt_template!r}")


@dataclass
class LoraConfig:
    """Low-rank adapters on the LLM."""

    rank: int = 8
    alpha: float = 32.0
    """The update is multiplied by alpha / rank in training."""
    dropout: float = 0.1
    targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])
    """Names of the linear layers that get an adapter."""
    scale: float | None = None
    """Replaces alpha / rank, as the paper's study of activation does at test time; null is alpha / rank."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"model.lora.rank must be at least 1, got {self.rank}; model.lora=null turns LoRA off")
        if not self.targets:
            raise ValueError("model.lora.targets is empty; model.lora=null turns LoRA off")


@dataclass
class DecodingConfig:
    """How text is generated."""

    max_new_tokens: int = 200
    num_beams: int = 4
    """1 is greedy."""
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    """No answer has the same so many tokens twice; 0 lets it."""

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"decoding.{name} must be at least 1, got {getattr(self, name)}")
        if self.no_repeat_ngram_size < 0:
            raise ValueError(f"decoding.no_repeat_ngram_size must not be negative, got {self.no_repeat_ngram_size}")


def fastest_dtype() -> Literal["float32", "bfloat16"]:
    """Return whichever of float32 and bfloat16 multiplies matrices faster here: few CPUs have bfloat16 in hardware."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (
            torch.ones(256, 512, dtype=dtype, device=device),
            torch.ones(512, 512, dtype=dtype, device=device),
        )
        trials = []
        for _ in range(5):
            start = time.perf_counter()
            (left @ right).sum().item()
            trials.append(time.perf_counter() - start)
        seconds[dtype] = min(trials)
    return "bfloat16" if seconds[torch.bfloat16] < seconds[torch.float32] else "float32"


def quantization_config(config: LLMConfig) -> BitsAndBytesConfig | None:
    """Return how bitsandbytes is to hold the linear layers: LLM.int8(), or NF4 as in QLoRA; None leaves them.

    Raises:
        ValueError: bitsandbytes is not installed.
    """
    if config.quantization is None:
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"model.llm.quantization={config.quantization} needs bitsandbytes: pip install 'salmonn-lab[quantization]'"
        )
    if config.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.float32 if config.dtype == "float32" else torch.bfloat16
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


# PEFT is imported where it is used: it brings bitsandbytes where that is installed, and takes seconds that commands
# without a model need not wait for.


def add_adapters(model: nn.Module, lora: LoraConfig) -> Any:
    """Return a model with LoRA on the layers of those names."""
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    return get_peft_model(
        model,
        PeftLoraConfig(
            task_type="CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.targets),
        ),
    )


class Rows(NamedTuple):
    """What the LLM reads, padding only on one side."""

    embeds: Float[Tensor, "batch length dim"]
    mask: Bool[Tensor, "batch length"]
    labels: Int[Tensor, "batch length"]
    """The token that stands at each position where it is part of the answer, else `IGNORE`."""


class Answer(NamedTuple):
    """A text that the LLM wrote."""

    text: str
    """Special tokens removed."""
    tokens: int
    """How many were written, the end symbol among them."""
    finished: bool
    """Whether the end symbol came before the limit of new tokens."""


class LanguageModel(nn.Module):
    """A causal LM whose own weights are frozen; LoRA is all of it that learns."""

    tokenizer: PreTrainedTokenizerBase
    pad_id: int

    def __init__(self, config: LLMConfig, lora: LoraConfig | None, *, load: bool = True) -> None:
        """Load the LM; without `load` only its shapes, where the default device is `meta`, and no tokenizer."""
        super().__init__()
        dtype = fastest_dtype() if config.dtype == "fastest" else config.dtype
        if load:
            self.read_tokenizer(config.checkpoint)
            model = AutoModelForCausalLM.from_pretrained(
                config.checkpoint,
                dtype=dtype,
                attn_implementation=config.attention,
                quantization_config=quantization_config(config),
            )
        else:
            sizes = llm_config(config.checkpoint)
            kind = sizes.dtype if dtype == "auto" else getattr(torch, dtype)
            model = AutoModelForCausalLM.from_config(sizes, dtype=kind, attn_implementation=config.attention)
        for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
            if getattr(model.config, name, None) not in (None, 1.0):
                raise ValueError(
                    f"model.llm.checkpoint: {config.checkpoint} changes its logits by {name}, which is not supported"
                )
        model.requires_grad_(False)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.gradient_checkpointing = config.gradient_checkpointing
        if lora is not None:
            model = add_adapters(model, lora)
        self.model = model
        if lora is not None and lora.scale is not None:
            self.set_lora_scale(lora.scale)
        base = model.get_base_model() if lora is not None else model
        object.__setattr__(self, "base", base)  # a second name for the same module, not a second child

    base: Any

    def read_tokenizer(self, checkpoint: str) -> None:
        """Load the tokenizer."""
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        if self.tokenizer.eos_token_id is None:
            raise ValueError(f"model.llm.checkpoint: the tokenizer of {checkpoint} has no end-of-sequence token")
        pad = self.tokenizer.pad_token_id
        self.pad_id = self.tokenizer.eos_token_id if pad is None else pad

    @property
    def embedding(self) -> nn.Embedding:
        """The LLM's table of token embeddings."""
        return cast(nn.Embedding, self.base.get_input_embeddings())

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.embedding.embedding_dim

    def train(self, mode: bool = True) -> LanguageModel:
        """Put only LoRA into training mode, or the whole LM where gradient checkpointing needs it to work at all."""
        super().train(mode and self.gradient_checkpointing)
        for adapter in self.adapters():
            adapter.train(mode)
        return self

    def adapters(self) -> list[Any]:
        """Return the layers that have LoRA."""
        from peft.tuners.lora import LoraLayer

        return [module for module in self.modules() if isinstance(module, LoraLayer)]

    def set_lora_scale(self, scale: float) -> None:
        """Multiply every low-rank update by `scale` in place of alpha / rank."""
        for adapter in self.adapters():
            adapter.scaling.update(dict.fromkeys(adapter.scaling, scale))

    def token_losses(self, audio: AudioTokens, batch: Batch) -> Float[Tensor, " targets"]:
        """Return the negative log-likelihood, in nats, of every target token of the batch, row after row.

        The output layer runs only at the positions that predict a target token.
        """
        rows = self.layout(audio, batch, target=True)
        decoder = self.base.get_decoder()
        hidden = decoder(inputs_embeds=rows.embeds, attention_mask=rows.mask.long(), use_cache=False).last_hidden_state
        following = functional.pad(rows.labels[:, 1:], (0, 1), value=IGNORE)
        predicting = following != IGNORE
        logits = self.base.get_output_embeddings()(hidden[predicting])
        return functional.cross_entropy(logits.float(), following[predicting], reduction="none")

    @torch.no_grad()
    def generate(self, audio: AudioTokens, batch: Batch, decoding: DecodingConfig) -> list[Answer]:
        """Return one answer per clip."""
        rows = self.layout(audio, batch, target=False)
        ids = self.model.generate(
            inputs_embeds=rows.embeds,
            attention_mask=rows.mask.long(),
            max_new_tokens=decoding.max_new_tokens,
            num_beams=decoding.num_beams,
            repetition_penalty=decoding.repetition_penalty,
            length_penalty=decoding.length_penalty,
            no_repeat_ngram_size=decoding.no_repeat_ngram_size,
            do_sample=False,
            pad_token_id=self.pad_id,
            eos_token_id=self.tokenizer.eos_token_id,
        )
        return [self.answer(row) for row in ids.cpu()]

    def answer(self, ids: Int[Tensor, " length"]) -> Answer:
        """Return what was written, given the tokens of a row; what follows the end symbol is padding."""
        (ends,) = torch.nonzero(ids == self.tokenizer.eos_token_id, as_tuple=True)
        finished = len(ends) > 0
        tokens = int(ends[0]) + 1 if finished else len(ids)
        return Answer(decode(self.tokenizer, ids).strip(), tokens, finished)

    def layout(self, audio: AudioTokens, batch: Batch, *, target: bool) -> Rows:
        """Lay out `before | audio | after | target` without holes; padding at the end, or left without target."""
        table, dtype = self.embedding, self.embedding.weight.dtype
        embeds: list[Tensor] = [table(batch.before_ids), audio.embeds.to(dtype), table(batch.after_ids)]
        masks: list[Tensor] = [batch.before_mask, audio.mask, batch.after_mask]
        labels: list[Tensor] = [torch.full_like(mask, IGNORE, dtype=torch.long) for mask in masks]
        if target:
            embeds.append(table(batch.target_ids))
            masks.append(batch.target_mask)
            labels.append(batch.target_ids.masked_fill(~batch.target_mask, IGNORE))
        mask = torch.cat(masks, dim=1)
        order = torch.argsort((~mask if target else mask).byte(), dim=1, stable=True)
        longest = int(mask.sum(1).max())
        order = order[:, :longest] if target else order[:, -longest:]
        joined = torch.cat(embeds, dim=1)
        return Rows(
            joined.gather(1, order[..., None].expand(-1, -1, joined.shape[-1])),
            mask.gather(1, order),
            torch.cat(labels, dim=1).gather(1, order),
        )


def decode(tokenizer: PreTrainedTokenizerBase, ids: Int[Tensor, " length"]) -> str:
    """Return the text of tokens, special ones left out.

    Where LLaMA spells bytes (`<0xE2>`), as SentencePiece decodes them: each byte that is not UTF-8 becomes one
    replacement character. Today's fast tokenizers replace the good ones beside it as well.
    """
    byte = tokenizer.convert_tokens_to_ids(FIRST_BYTE)
    if byte is None or tokenizer.convert_ids_to_tokens(byte) != FIRST_BYTE:
        return cast(str, tokenizer.decode(ids, skip_special_tokens=True))
    text, run = "", b""
    for token in [*cast(list[str], tokenizer.convert_ids_to_tokens(ids.tolist(), skip_special_tokens=True)), ""]:
        if match := BYTE.fullmatch(token):
            run += bytes.fromhex(match[1])
        else:
            text += run.decode(errors=EACH_BYTE) + token.replace(SPACE, " ")
            run = b""
    return text


def replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    """Return a replacement character for every byte that cannot be decoded."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(EACH_BYTE, replace_each_byte)
