"""Examples to samples: audio read, prompt chosen, text tokenized."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from salmonn_lab.batch import ClipBatch, Example, Sample
from salmonn_lab.data.audio import OVERSHOOT_SECONDS, SAMPLE_RATE, AudioError, audio_seconds, read_audio
from salmonn_lab.data.decoding import shown
from salmonn_lab.data.features import Clip, FeatureStore, Reader, content_key, reading_settings, source_key
from salmonn_lab.data.prompts import PLACE, PromptPool

MAX_LOST = 100
"""So many unreadable examples in a row are no accident."""

SPEED = 1
"""Tells the draw of a speed from that of a prompt."""

log = logging.getLogger(__name__)


class ClipDataset(Dataset[ClipBatch]):
    """Waveforms alone, with the keys that the feature store knows them by."""

    def __init__(self, clips: Sequence[Clip], read: Reader, on_error: Literal["stop", "skip"]) -> None:
        self.clips, self.read, self.on_error = clips, read, on_error

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, indices: Sequence[int]) -> list[ClipBatch]:
        """Return the clips of one batch, each as a batch of its own; with `skip`, those that can be read."""
        batches = []
        for index in indices:
            clip = self.clips[index]
            source = source_key(clip, self.read)  # before the file is read: a later change of it must show
            try:
                waveform = self.read(clip.audio, speed=clip.speed)
                if not math.isnan(clip.seconds):
                    check_duration(clip, len(waveform), clip.seconds * clip.speed)
            except AudioError:
                if self.on_error == "stop":
                    raise
            else:
                lengths = torch.tensor([len(waveform)])
                batches.append(ClipBatch(waveform[None], lengths, [source], [content_key(waveform)]))
        return batches


def check_duration(clip: Clip, samples: int, stated: float, prefix: str = "") -> None:
    """Compare how long a clip is with the `duration` that its manifest states.

    Args:
        clip: that was read.
        samples: of its waveform at 16 kHz, padded or cut.
        stated: seconds, at full speed.
        prefix: what the message opens with.

    Raises:
        AudioError: they differ by more than `OVERSHOOT_SECONDS`; both are in the message.
    """
    if abs(samples / SAMPLE_RATE * clip.speed - stated) <= OVERSHOOT_SECONDS:
        return
    seconds = audio_seconds(clip.audio)  # which nothing has padded or cut
    if abs(seconds - stated) > OVERSHOOT_SECONDS:
        raise AudioError(f"{prefix}{duration_problem(clip, stated, seconds)}")


def duration_problem(clip: Clip, stated: float, seconds: float) -> str:
    """What is wrong with a `duration`, in words."""
    files = " + ".join(shown(segment.path) for segment in clip.audio)
    return f"'duration' is {stated:g} s, the audio {seconds:.2f} s: {files}"


def at_full_speed(index: int) -> Sequence[float]:
    """Play every clip as it is."""
    return (1.0,)


class SpeechDataset(Dataset[Sample]):
    """Samples by address (epoch, index): an address is all that the choice of a prompt depends on, besides the seed."""

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        prompts: PromptPool,
        template: str,
        *,
        mode: Literal["train", "validate", "predict"],
        seed: int = 0,
        max_target_tokens: int = 300,
        speeds: Callable[[int], Sequence[float]] = at_full_speed,
        read: Reader = read_audio,
        features: FeatureStore | None = None,
        on_error: Literal["stop", "skip"] = "stop",
    ) -> None:
        """Keep what is needed to make samples.

        Args:
            examples: in the order that indices mean.
            tokenizer: of the LLM; its `eos_token` ends every target, its `bos_token`, if any, starts every prompt.
            prompts: where prompts are drawn from.
            template: wraps a prompt, `{}` is the prompt.
            mode: `train` draws prompts, the others take the first; `predict` makes no targets.
            seed: of the draws.
            max_target_tokens: longer targets are cut; the end token counts and stays.
            speeds: how fast the clip of an index may be played in training.
            read: makes a waveform of an example's segments; takes `speed`.
            features: where the frames of all clips are; then no audio is read.
            on_error: `stop` raises where audio cannot be read; `skip` leaves the sample out of its batch.
        """
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no eos_token, so no target could end")
        if features is not None:
            reading_settings(read)  # refuses a reader that changes waveforms
        self.examples = examples
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.template = template
        self.mode = mode
        self.seed = seed
        self.max_target_tokens = max_target_tokens
        self.speeds = speeds
        self.read = read
        self.features = features
        self.on_error = on_error
        self.lost = 0

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, address: tuple[int, int]) -> Sample:
        epoch, index = address
        example = self.examples[index]
        draw = (self.seed, epoch, index) if self.mode == "train" else None
        prompt = self.prompts.ask(example, self.template, draw)
        before, after = prompt_ids(self.tokenizer, prompt, example.question or "")
        clip, features = Clip(example.audio, self._speed(index, draw)), self.features
        waveform = torch.empty(0)
        if features is None:
            waveform = self.read(clip.audio, speed=clip.speed)
            if example.duration is not None:
                check_duration(clip, len(waveform), example.duration, f"example '{example.id}': ")
        return Sample(
            id=example.id,
            waveform=waveform,
            before_ids=before,
            after_ids=after,
            target_ids=() if self.mode == "predict" else self._target(example),
            prompt=prompt,
            task=example.task,
            references=example.references or (example.target,),
            meta=example.meta,
            frames=() if features is None else features.frames(clip),
        )

    def _speed(self, index: int, draw: tuple[int, int, int] | None) -> float:
        """Return how fast to play an example: a draw that has nothing to do with that of its prompt."""
        if draw is None:
            return 1.0
        speeds = self.speeds(index)
        if len(speeds) == 1:
            return speeds[0]
        return speeds[int(np.random.default_rng((*draw, SPEED)).integers(len(speeds)))]

    def __getitems__(self, addresses: Sequence[tuple[int, int]]) -> list[Sample]:
        """Return the samples of one batch; with `skip`, those that can be read.

        A batch that lost every sample takes the first readable example after its last: ranks must make equal steps.
        """
        samples = [sample for address in addresses if (sample := self._try(address)) is not None]
        epoch, last = addresses[-1]
        for step in range(1, MAX_LOST):
            if samples:
                return samples
            spare = self._try((epoch, (last + step) % len(self)))
            samples = [] if spare is None else [spare]
        raise AudioError(
            f"{self.lost} examples could not be read, the last {MAX_LOST} in a row: see the warnings above"
        )

    def _try(self, address: tuple[int, int]) -> Sample | None:
        try:
            return self[address]
        except AudioError as error:
            if self.on_error == "stop":
                raise
            self.lost += 1
            log.warning("skipped an example, number %d of this loader process: %s", self.lost, error)
            return None

    def _target(self, example: Example) -> tuple[int, ...]:
        if not example.target:
            raise ValueError(f"example '{example.id}' has no target: it can be predicted, not trained or validated on")
        return target_ids(self.tokenizer, example.target, self.max_target_tokens)


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, question: str = ""
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens before and after the audio: each piece tokenized alone, as in the original, after a BOS token.

    A prompt that starts with the BOS token itself, as chat templates do, does not get another. Special tokens of the
    template are special; in the question, which comes from the data, they are text.
    """
    before, after = prompt.split(PLACE)
    bos = tokenizer.bos_token
    starts = () if bos is None or before.startswith(str(bos)) else (int(tokenizer.bos_token_id),)
    return (*starts, *around_question(tokenizer, before, question)), around_question(tokenizer, after, question)


def around_question(tokenizer: PreTrainedTokenizerBase, text: str, question: str) -> tuple[int, ...]:
    """Tokens of a text, those of the question in it as of plain text where it holds what looks like a special token."""
    if not question or question not in text or not any(token in question for token in special_tokens(tokenizer)):
        return text_ids(tokenizer, text)
    head, _, tail = text.partition(question)
    return (*text_ids(tokenizer, head), *text_ids(tokenizer, question, plain=True), *text_ids(tokenizer, tail))


@lru_cache(maxsize=10)
def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """How the special tokens of a tokenizer are written."""
    return tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)


def target_ids(tokenizer: PreTrainedTokenizerBase, text: str, most: int | None = None) -> tuple[int, ...]:
    """Tokens of an answer, at most `most` with the EOS token, which is never cut off.

    A special token that is written in the text, such as `</s>`, is text like any other: it does not end the answer.
    """
    ids = text_ids(tokenizer, text, plain=True)
    return (*(ids if most is None else ids[: most - 1]), int(tokenizer.eos_token_id))


@lru_cache(maxsize=10_000)
def text_ids(tokenizer: PreTrainedTokenizerBase, text: str, *, plain: bool = False) -> tuple[int, ...]:
    """Tokens of a text, none added around it; prompts recur all the time.

    With `plain`, what looks like a special token is split into ordinary ones; prompts may hold special tokens, as those
    of chat templates do.
    """
    if not text:
        return ()
    return tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"])
