"""The values that cross borders between data, model and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

GENERATION = "generation"
"""The key of a prediction's meta under which its `Generation` stands."""
LIKELIHOOD = "likelihood"
"""The key under which it stands how likely the first reference is to the model, and each of the item's choices: a
log-likelihood in nats, summed over tokens, and the number of tokens, the end symbol among them."""


@dataclass(frozen=True)
class Segment:
    """A stretch of an audio file: `duration` seconds from `offset`; None runs to the end of the file."""

    path: str
    offset: float = 0.0
    duration: float | None = None


@dataclass(frozen=True)
class Example:
    """One line of a manifest: an audio clip (segments are joined in order), a task and the wanted answer."""

    id: str
    audio: tuple[Segment, ...]
    task: str
    target: str
    question: str = ""
    references: tuple[str, ...] = ()
    """All acceptable answers; empty means that `target` is the only one."""
    duration: float | None = None
    """Seconds of the joined clip; None where nobody has measured it yet."""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EncoderSpec:
    """A frozen encoder, as far as its frames depend on it."""

    name: str
    signature: str
    """Hexadecimal; another one wherever weights, preprocessing or span are others."""
    dim: int
    repeats: int
    """How many frames in a row are the same vector."""
    fixed_frames: int | None
    """Frames of every clip, however short; None is those of its own length."""


@dataclass(frozen=True)
class ClipFrames:
    """One encoder's answer to one clip, with each vector once."""

    vectors: Float[Tensor, "vectors dim"]
    repeats: int
    """How many frames in a row a vector stands for."""
    mask: Bool[Tensor, " frames"]

    def expand(self) -> Float[Tensor, "frames dim"]:
        """Return a vector for every frame."""
        frames = self.vectors if self.repeats == 1 else self.vectors.repeat_interleave(self.repeats, dim=0)
        return frames[: len(self.mask)]


@dataclass(frozen=True)
class Sample:
    """One example, read and tokenized: what `collate` takes."""

    id: str
    waveform: Float[Tensor, " samples"]
    """Mono, 16 kHz, float32 in [-1, 1]; empty where `frames` are given."""
    before_ids: tuple[int, ...]
    after_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    """Ends with the end-of-sequence token; empty when only generating."""
    prompt: str
    """The whole prompt as the model reads it, `<SpeechHere>` where the audio goes."""
    task: str
    references: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    frames: tuple[ClipFrames, ...] = ()
    """What each encoder answered to the clip, from the feature store; empty where the model is to encode it."""


class ClipBatch(NamedTuple):
    """Clips on their way into the feature store."""

    waveforms: Float[Tensor, "batch samples"]
    lengths: Int[Tensor, " batch"]
    sources: list[str]
    """The key of the files that each clip was read from."""
    contents: list[str]
    """The key of each clip's samples."""


class Batch(NamedTuple):
    """What the loader yields. Text is right-padded; a mask is True where a token is real.

    A NamedTuple, so that Lightning moves it between devices and the loader pins it.
    """

    ids: list[str]
    waveforms: Float[Tensor, "batch samples"]
    lengths: Int[Tensor, " batch"]
    """Samples (16 kHz) of each clip before padding."""
    before_ids: Int[Tensor, "batch before"]
    before_mask: Bool[Tensor, "batch before"]
    after_ids: Int[Tensor, "batch after"]
    after_mask: Bool[Tensor, "batch after"]
    target_ids: Int[Tensor, "batch target"]
    target_mask: Bool[Tensor, "batch target"]
    prompts: list[str]
    tasks: list[str]
    references: list[tuple[str, ...]]
    meta: list[Mapping[str, Any]]
    features: list[Float[Tensor, "batch _ _"]]
    """Of each encoder, where they come from the feature store; then `waveforms` is empty. Else an empty list."""
    feature_masks: list[Bool[Tensor, "batch _"]]
    feature_repeats: list[int]
    """As in `Frames.repeats`."""


@dataclass(frozen=True)
class Frames:
    """The encoders' answer: features at 50 Hz, the mask True where a frame is real."""

    features: Float[Tensor, "batch frames dim"]
    mask: Bool[Tensor, "batch frames"]
    repeats: int = 1
    """How many frames in a row, counted from the first, are the same vector where they are real."""


@dataclass(frozen=True)
class AudioTokens:
    """The bridge's answer: what the LLM reads in place of text, the mask True where a token is real."""

    embeds: Float[Tensor, "batch tokens llm_dim"]
    mask: Bool[Tensor, "batch tokens"]


@dataclass(frozen=True)
class Generation:
    """How a text came about; None is what nobody wrote down."""

    finished: bool | None = None
    """False where the limit of new tokens cut the text off."""
    tokens: int | None = None
    """How many were written, the end symbol among them."""
    seconds: float | None = None
    """How long encoders and LLM took, an equal share of the batch's time; frames from a cache take none."""


@dataclass(frozen=True)
class Prediction:
    """One line of predictions.jsonl."""

    id: str
    benchmark: str
    prompt: str
    text: str
    references: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest says of the example; under `generation`, how the text came about."""

    @property
    def generation(self) -> Generation:
        """How the text came about."""
        found = self.meta.get(GENERATION)
        known = found if isinstance(found, Mapping) else {}
        return Generation(known.get("finished"), known.get("tokens"), known.get("seconds"))


@dataclass(frozen=True)
class Score:
    """One number with its interval: `signature` says how it was made, and only equal signatures compare."""

    benchmark: str
    metric: str
    value: float
    low: float
    high: float
    count: int
    signature: str
