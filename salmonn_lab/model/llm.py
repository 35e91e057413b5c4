"""The language model: a frozen causal LM with LoRA that reads audio tokens between two pieces of text."""

from __future__ import annotations

import codecs
import importlib.util
import inspect
import logging
import re
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from salmonn_lab.batch import AudioTokens, Batch
from salmonn_lab.files import read_json_object
from salmonn_lab.model.config import ALL_LINEAR, CHAT, DecodingConfig, LLMConfig, LoraConfig
from salmonn_lab.model.pretrained import check_revision, check_size, load_pretrained
from salmonn_lab.model.published import llm_config
from salmonn_lab.plain import reason

SPACE = "\u2581"
"""How SentencePiece writes a space."""
FIRST_BYTE = "<0x00>"
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
EACH_BYTE = "salmonn_lab.each_byte"
EXACT_TOLERANCE, COARSE_TOLERANCE = 1e-3, 0.1
"""How far the padding before a row may move its logits, as a fraction of their range: in float32, and in types of 8 or
16 bits. Recurrent layers that read the padding move them by 0.1 and more."""
FIXED_DATE = "{% macro strftime_now(format) %}{{ {'%Y-%m-%d': '2024-07-26'}.get(format, '26 Jul 2024') }}{% endmacro %}"
"""Put before a chat template that asks for the day's date, so that a run asks the same tomorrow; it is the date that
Llama 3.2's template has by default."""
IGNORE = -100
"""The label of a position that is not predicted."""

log = logging.getLogger(__name__)


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


def keep_differentiable(model: nn.Module) -> None:
    """Keep bitsandbytes from packing layers of 4 bits for a CPU's inference when they first answer.

    Packed ones have no backward pass, and are unpacked in training mode alone, in which a frozen LLM is not: a run
    measured before its training would have trained nothing.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            cast(Any, module).support_avx512bf16_for_cpu = False


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
            target_modules=ALL_LINEAR if lora.targets == [ALL_LINEAR] else list(lora.targets),
        ),
    )


def check_targets(model: nn.Module, lora: LoraConfig) -> None:
    """Refuse LoRA on layers that are not there.

    Raises:
        ValueError: names the key, the names that no layer has, and those of the model's linear layers.
    """
    if lora.targets == [ALL_LINEAR]:
        return
    names = [f".{name}" for name, _ in model.named_modules()]
    absent = [target for target in lora.targets if not any(name.endswith(f".{target}") for name in names)]
    if absent:
        linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D))
        there = sorted({name.rpartition(".")[2] for name in linear})
        raise ValueError(
            f"model.lora.targets: the LLM has no layers named {', '.join(absent)}; it has {', '.join(there)}, and "
            f"[{ALL_LINEAR}] is all of them but the output layer"
        )


def bare_model(config: LLMConfig, sizes: PretrainedConfig, dtype: torch.dtype | None = None) -> Any:
    """LLM of given sizes without a checkpoint's weights.

    Raises:
        ValueError: the model or the machine lacks the kernel of the attention that the config asks for.
    """
    try:
        return AutoModelForCausalLM.from_config(sizes, dtype=dtype, attn_implementation=config.attention)
    except Exception as error:  # transformers raises many kinds
        why = reason(error).split(". ")[0].replace("attn_implementation", "model.llm.attention")
        raise ValueError(
            f"model.llm.attention={config.attention} does not go with {config.checkpoint} here: {why}; "
            "model.llm.attention=eager goes with every model"
        ) from error


def check_kind(model: Any, config: LLMConfig) -> None:
    """Refuse an LLM that transformers cannot let answer what is given as embeddings.

    Raises:
        ValueError: names the checkpoint and the type of its model.
    """
    if "inputs_embeds" not in inspect.signature(model.prepare_inputs_for_generation).parameters:
        raise ValueError(
            f"model.llm.checkpoint: {config.checkpoint} is a {model.config.model_type}, which cannot generate text "
            "from `inputs_embeds` in this version of transformers, so it could not answer about audio"
        )


def read_tokenizer(config: LLMConfig) -> PreTrainedTokenizerBase:
    """Tokenizer of the LLM.

    Raises:
        ValueError: it cannot be read, or has no EOS token, so that no answer could end.
    """
    check_revision("model.llm", config.checkpoint, config.revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.checkpoint, revision=config.revision or "main")
    except Exception as error:  # transformers, tokenizers and sentencepiece raise many kinds
        raise ValueError(
            f"model.llm.checkpoint: the tokenizer of {config.checkpoint} cannot be read: {reason(error)}"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ValueError(f"model.llm.checkpoint: the tokenizer of {config.checkpoint} has no end-of-sequence token")
    return cast(PreTrainedTokenizerBase, tokenizer)


def check_vocabulary(checkpoint: str, tokenizer: PreTrainedTokenizerBase, size: int) -> None:
    """Refuse a tokenizer that makes tokens of which the LLM has no embedding.

    Special tokens count only where they are put into rows, the BOS and the EOS token: texts do not give the others.

    Raises:
        ValueError: names the tokens and their ids.
    """
    special = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special -= {tokenizer.bos_token_id, tokenizer.eos_token_id}
    beyond = sorted(
        (token_id, token)
        for token, token_id in tokenizer.get_vocab().items()
        if token_id >= size and token_id not in special
    )
    if beyond:
        names = ", ".join(f"{token!r} ({token_id})" for token_id, token in beyond[:5])
        more = f" and {len(beyond) - 5} more" if len(beyond) > 5 else ""
        raise ValueError(
            f"model.llm.checkpoint: the tokenizer of {checkpoint} has tokens beyond the model's {size} embeddings: "
            f"{names}{more}"
        )


def prompt_template(config: LLMConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """Text that wraps each prompt, `{}` being the prompt: the config's, or for `chat` the tokenizer's.

    Raises:
        ValueError: `chat` where the tokenizer has no chat template, or one that does not give the message once.
    """
    if config.prompt_template != CHAT:
        return config.prompt_template
    if tokenizer.chat_template is None:
        raise ValueError(
            f"model.llm.prompt_template={CHAT}: the tokenizer of {config.checkpoint} has no chat template; "
            "write a template with '{}' for the prompt"
        )
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "{}"}],
            chat_template=FIXED_DATE + tokenizer.get_chat_template(),
            tokenize=False,
            add_generation_prompt=True,
        )
    except Exception as error:  # the template is a program of its own
        raise ValueError(
            f"model.llm.prompt_template={CHAT}: the chat template of {config.checkpoint} fails: {reason(error)}"
        ) from error
    if not isinstance(text, str) or text.count("{}") != 1:
        raise ValueError(
            f"model.llm.prompt_template={CHAT}: the chat template of {config.checkpoint} must give the user's message "
            f"exactly once, gives {text!r}"
        )
    return text


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
    """Fills rows, under a mask."""
    end_ids: list[int]
    """The tokens that end an answer: the tokenizer's EOS token, and those of the checkpoint's generation config."""
    prompt_template: str
    """Wraps each prompt; `{}` is the prompt."""

    def __init__(self, config: LLMConfig, lora: LoraConfig | None, *, load: bool = True) -> None:
        """Load the LM; without `load` only its shapes, where the default device is `meta`, and no tokenizer."""
        super().__init__()
        dtype = fastest_dtype() if config.dtype == "fastest" else config.dtype
        sizes = llm_config(config.checkpoint, config.revision)
        if load:
            with torch.device("meta"):  # what does not go is said before minutes of loading
                bare = bare_model(config, sizes)
            check_kind(bare, config)
            check_size("model.llm", config.checkpoint, bare)
            if (generation := Path(config.checkpoint) / "generation_config.json").is_file():
                read_json_object(generation)  # transformers leaves out a torn one, and its EOS tokens, in silence
            self.tokenizer = read_tokenizer(config)
            model = load_pretrained(
                AutoModelForCausalLM,
                "model.llm",
                config.checkpoint,
                config.revision,
                dtype=dtype,
                attn_implementation=config.attention,
                quantization_config=quantization_config(config),
            )
            keep_differentiable(model)
            self.read_ids(config, model)
            self.prompt_template = prompt_template(config, self.tokenizer)
        else:
            kind = sizes.dtype if dtype == "auto" else getattr(torch, dtype)
            model = bare_model(config, sizes, kind)
        model.requires_grad_(False)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.gradient_checkpointing = config.gradient_checkpointing
        self.checkpoint, self.quantized = config.checkpoint, config.quantization is not None
        self.answers_checked, self.ignores_padding = False, True
        if lora is not None:
            check_targets(model, lora)
            model = add_adapters(model, lora)
        self.model = model
        if lora is not None and lora.scale is not None:
            self.set_lora_scale(lora.scale)
        base = model.get_base_model() if lora is not None else model
        object.__setattr__(self, "base", base)  # a second name for the same module, not a second child

    base: Any

    def read_ids(self, config: LLMConfig, model: Any) -> None:
        """Settle which tokens end an answer and fill a row.

        What else the checkpoint's generation_config.json asks for (penalties, suppressed or forced tokens, stop
        strings, sampling) does not act: texts depend on `DecodingConfig` alone.

        Raises:
            ValueError: the tokenizer has tokens, other than special ones that no text gives, beyond the embeddings.
        """
        size = model.get_input_embeddings().num_embeddings
        check_vocabulary(config.checkpoint, self.tokenizer, size)
        end, pad = cast(int, self.tokenizer.eos_token_id), self.tokenizer.pad_token_id
        self.pad_id = end if pad is None else pad if pad < size else 0  # under a mask any token will do
        ends = model.generation_config.eos_token_id
        ends = [] if ends is None else [ends] if isinstance(ends, int) else ends
        self.end_ids = sorted({end, *(token for token in ends if 0 <= token < size)})
        model.generation_config = GenerationConfig()

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
        self.use_arithmetic_of_device()
        rows = self.layout(audio, batch, target=True)
        following = functional.pad(rows.labels[:, 1:], (0, 1), value=IGNORE)
        predicting = following != IGNORE
        return functional.cross_entropy(self.logits(rows, predicting).float(), following[predicting], reduction="none")

    def logits(self, rows: Rows, positions: Bool[Tensor, "batch length"]) -> Float[Tensor, "positions pieces"]:
        """The model's own logits at some positions, row after row.

        They are those of the model's own `forward`, whatever it does to them behind its output layer (Gemma caps them,
        Granite and Falcon-H1 scale them); only what the output layer reads is cut down to the positions.
        """
        whole, cut = positions.shape, False

        def select(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            nonlocal cut
            (hidden, *rest) = inputs
            if hidden.shape[:2] != whole:
                return None
            cut = True
            return (hidden[positions][None], *rest)

        hook = self.base.get_output_embeddings().register_forward_pre_hook(select)
        try:
            logits: Tensor = self.base(
                inputs_embeds=rows.embeds, attention_mask=rows.mask.long(), use_cache=False
            ).logits
        finally:
            hook.remove()
        return logits[0] if cut else logits[positions]

    @torch.no_grad()
    def generate(self, audio: AudioTokens, batch: Batch, decoding: DecodingConfig) -> list[Answer]:
        """One answer per clip.

        Raises:
            ValueError: as `check_answers`.
        """
        self.check_answers()
        rows = self.layout(audio, batch, target=False)
        options: dict[str, Any] = {
            "max_new_tokens": decoding.max_new_tokens,
            "num_beams": decoding.num_beams,
            "repetition_penalty": decoding.repetition_penalty,
            "length_penalty": decoding.length_penalty,
            "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        }
        if self.ignores_padding:
            return [self.answer(row) for row in self.write(rows.embeds, rows.mask, **options).cpu()]
        alone = [(embeds[mask][None], mask[mask][None]) for embeds, mask in zip(rows.embeds, rows.mask, strict=True)]
        return [self.answer(self.write(embeds, mask, **options)[0].cpu()) for embeds, mask in alone]

    def write(
        self, embeds: Float[Tensor, "batch length dim"], mask: Bool[Tensor, "batch length"], **options: Any
    ) -> Any:
        """What the LLM generates after rows of embeddings, without sampling; `options` are those of transformers."""
        return self.model.generate(
            inputs_embeds=embeds,
            attention_mask=mask.long(),
            do_sample=False,
            pad_token_id=self.pad_id,
            eos_token_id=self.end_ids,
            **options,
        )

    @torch.no_grad()
    def check_answers(self) -> None:
        """Find out, once and on the LLM's device, whether it answers a row, and whether it does so beside a longer one.

        Where recurrent layers read the padding before a row, which few of them mask, rows are answered one at a time.

        Raises:
            ValueError: it cannot answer; names the checkpoint and the type of its model.
        """
        if self.answers_checked:
            return
        self.use_arithmetic_of_device()
        ids = torch.arange(12, device=self.embedding.weight.device).view(2, 6) % self.embedding.num_embeddings
        embeds, mask = self.embedding(ids), torch.ones_like(ids, dtype=torch.bool)
        mask[0, :3] = False
        training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            self.ignores_padding = self.same_beside(embeds, mask)
        except Exception as error:  # layers of any kind
            raise ValueError(
                f"model.llm.checkpoint: {self.checkpoint} ({self.base.config.model_type}) cannot answer what is given "
                f"as embeddings: {reason(error)}"
            ) from error
        finally:
            for module in training:
                module.training = True
        if not self.ignores_padding:
            kind = self.base.config.model_type
            log.warning("model.llm.checkpoint: a %s reads padding, so answers are generated a row at a time", kind)
        self.answers_checked = True

    def same_beside(self, embeds: Float[Tensor, "batch length dim"], mask: Bool[Tensor, "batch length"]) -> bool:
        """Whether the first row, which starts with padding, gets the logits that it gets alone."""
        options = {"max_new_tokens": 2, "output_logits": True, "return_dict_in_generate": True}
        alone = self.write(embeds[:1, mask[0]], mask[:1, mask[0]], **options).logits[0][0].float()
        try:
            beside = self.write(embeds, mask, **options).logits[0][0].float()
        except Exception:  # as xLSTM's, whose state is made for one row
            return False
        exact = self.embedding.weight.dtype in (torch.float32, torch.float64) and not self.quantized
        most = (EXACT_TOLERANCE if exact else COARSE_TOLERANCE) * float(alone.max() - alone.min())
        return bool((beside - alone).abs().max() <= most)

    def use_arithmetic_of_device(self) -> None:
        """Have a CPU compute in float32 with weights of float16, for which it has no arithmetic; others stay."""
        weight = self.embedding.weight
        if weight.device.type == "cpu" and weight.dtype == torch.float16:
            log.warning("model.llm.dtype=float16: on this CPU the weights are float16, the arithmetic is float32")
            with torch.inference_mode(False):  # which a prediction before training is in
                for values in (*self.base.parameters(), *self.base.buffers()):
                    if values.dtype == torch.float16:
                        values.data = values.data.float()

    def answer(self, ids: Int[Tensor, " length"]) -> Answer:
        """What was written, given the tokens of a row; what follows the first token that ends an answer is padding."""
        (ends,) = torch.nonzero(torch.isin(ids, torch.tensor(self.end_ids)), as_tuple=True)
        finished = len(ends) > 0
        tokens = int(ends[0]) + 1 if finished else len(ids)
        return Answer(decode(self.tokenizer, ids[:tokens]).strip(), tokens, finished)

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
