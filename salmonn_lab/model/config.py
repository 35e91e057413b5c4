"""The configuration of the model and of how it decodes, without the libraries that models need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FRAMES_PER_SECOND = 50
THIRTY_SECONDS = 30 * FRAMES_PER_SECOND
ALL_LINEAR = "all-linear"
"""PEFT's name for every linear layer but the output layer."""
CHAT = "chat"
"""The prompt template that stands for the tokenizer's own."""

Dtype = Literal["auto", "float32", "bfloat16", "float16", "fastest"]


@dataclass
class WhisperConfig:
    """The speech encoder."""

    checkpoint: str = "openai/whisper-large-v2"
    """A folder, a hub name or `asset:NAME`; only the encoder is kept."""
    revision: str | None = None
    """Branch, tag or commit of a hub name; null is its main branch. The commit is recorded in the run's provenance."""


@dataclass
class AudioEncoderConfig:
    """The encoder of sounds and music."""

    kind: Literal["beats", "yamnet"] = "beats"
    """`beats` as in the paper; `yamnet` is small (3.7 M) and comes from a package registry."""
    checkpoint: str = "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt"
    """A file, a folder or `asset:NAME`."""


@dataclass
class BridgeConfig:
    """What a sweep may vary between the encoders and the LLM. The defaults are the published SALMONN."""

    level: Literal["window", "sequence"] = "window"
    """`window` compresses each third of a second alone; `sequence` reads the whole clip at once."""
    num_queries: int = 1
    """Tokens out per window (or per clip)."""
    window_seconds: float = 0.333333
    """Length of a window; rounded to whole frames of 20 ms as the original does, so 17 frames."""
    stride_seconds: float | None = None
    """Distance between the starts of two windows, rounded in the same way; null is the window, so that they touch."""
    num_layers: int = 2
    """Q-Former layers, each with self-attention, cross-attention and a feed-forward part."""
    hidden_dim: int = 768
    """Width of the Q-Former."""
    num_heads: int = 12
    """Attention heads of the Q-Former."""
    feedforward_dim: int | None = None
    """Width inside the feed-forward part; null is four times `hidden_dim`."""
    dropout: float = 0.1
    """On hidden states and attention weights."""
    span: Literal["thirty_seconds", "clip"] = "thirty_seconds"
    """`thirty_seconds`: each clip is padded to 30 s, 88 tokens, as released; `clip`: only windows with audio."""
    output_scale: Literal["none", "embedding"] = "none"
    """`embedding`: tokens get the spread of the LLM's embeddings; learns far faster from scratch; ours."""

    def __post_init__(self) -> None:
        for name in ("num_queries", "num_layers", "hidden_dim", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.bridge.{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                "model.bridge.hidden_dim must be a multiple of model.bridge.num_heads, "
                f"got {self.hidden_dim} and {self.num_heads}"
            )
        for name in ("window_seconds", "stride_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and not 0.02 <= seconds <= 30:
                raise ValueError(f"model.bridge.{name} must lie between 0.02 and 30, got {seconds}")

    @property
    def inner_dim(self) -> int:
        """Width inside the feed-forward part, whether it is given or not."""
        return self.feedforward_dim or 4 * self.hidden_dim

    @property
    def step_seconds(self) -> float:
        """Distance between the starts of two windows, whether it is given or not."""
        return self.window_seconds if self.stride_seconds is None else self.stride_seconds

    @property
    def kernel(self) -> int:
        """Frames in a window (models/salmonn.py:234 of the original, with its rounding)."""
        return max(1, round(THIRTY_SECONDS * self.window_seconds / 30))

    @property
    def stride(self) -> int:
        """Frames between windows."""
        return max(1, round(THIRTY_SECONDS * self.step_seconds / 30))


@dataclass
class LLMConfig:
    """The language model."""

    checkpoint: str = "lmsys/vicuna-13b-v1.1"
    """A folder, a hub name or `asset:NAME` of any causal LM that takes `inputs_embeds`."""
    revision: str | None = None
    """Branch, tag or commit of a hub name; null is its main branch. The commit is recorded in the run's provenance."""
    prompt_template: str = "USER: {}\nASSISTANT:"
    """Wraps each prompt; `{}` is the prompt. `chat` is the tokenizer's own chat template with the prompt as the user's
    message; what it is goes into the run's provenance."""
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
        if self.prompt_template != CHAT and self.prompt_template.count("{}") != 1:
            raise ValueError(
                f"model.llm.prompt_template must hold '{{}}' exactly once, or be '{CHAT}', got {self.prompt_template!r}"
            )


@dataclass
class LoraConfig:
    """Low-rank adapters on the LLM."""

    rank: int = 8
    """Of the update of each layer."""
    alpha: float = 32.0
    """The update is multiplied by alpha / rank in training."""
    dropout: float = 0.1
    """On what the adapters read, in training."""
    targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])
    """Names of the linear layers that get an adapter; `[all-linear]` is all but the output layer."""
    scale: float | None = None
    """Replaces alpha / rank, as the paper's study of activation does at test time; null is alpha / rank."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"model.lora.rank must be at least 1, got {self.rank}; model.lora=null turns LoRA off")
        if not self.targets:
            raise ValueError("model.lora.targets is empty; model.lora=null turns LoRA off")
        if ALL_LINEAR in self.targets and len(self.targets) > 1:
            raise ValueError(f"model.lora.targets: {ALL_LINEAR} stands alone, got {', '.join(self.targets)}")


@dataclass
class DecodingConfig:
    """How text is generated."""

    max_new_tokens: int = 200
    """Longest answer."""
    num_beams: int = 4
    """1 is greedy."""
    repetition_penalty: float = 1.0
    """Divides the scores of tokens that were generated before; 1 changes none."""
    length_penalty: float = 1.0
    """Exponent of the length by which the score of a beam is divided; 0 favours short answers."""
    no_repeat_ngram_size: int = 0
    """No answer has the same so many tokens twice; 0 lets it."""

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"decoding.{name} must be at least 1, got {getattr(self, name)}")
        if self.no_repeat_ngram_size < 0:
            raise ValueError(f"decoding.no_repeat_ngram_size must not be negative, got {self.no_repeat_ngram_size}")


@dataclass
class ModelConfig:
    """The model and its ablation axes. The defaults are the published SALMONN-13B."""

    whisper: WhisperConfig | None = field(default_factory=WhisperConfig)
    """The speech encoder; null turns it off."""
    audio_encoder: AudioEncoderConfig | None = field(default_factory=AudioEncoderConfig)
    """The encoder of sounds and music; null turns it off."""
    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    """Between the encoders and the language model."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """The language model; its own weights are frozen."""
    lora: LoraConfig | None = field(default_factory=LoraConfig)
    """Null leaves the LLM as it is."""
