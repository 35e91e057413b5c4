"""What encoders, bridge and LLM take of training."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from salmonn_lab.batch import AudioTokens
from salmonn_lab.runs import Run
from salmonn_lab.salmonn import Salmonn

PART_SECONDS = "part_seconds"
"""The key of a run's provenance under which they stand: by CPU or GPU, by part."""

Instant = Any
"""CPU-seconds of this process so far, or an event on the GPU's stream."""
MOST_LAPS = 1000
"""So many may wait to be added up; a GPU's are only known when it has come so far."""


class PartClock(Callback):
    """Adds up the seconds of CPU, all threads counted, or of GPU that each part takes of training steps.

    Forwards, the bridge begins and ends where it is called; backwards, the LLM's part ends where the gradient reaches
    the audio tokens. Losses count to what they are of: the LLM, or in steps of alignment the bridge. Reading and
    validation lie between steps and are not counted, nor are the encoders where a feature store answers for them.
    A process times its own device; of several, each counts as the first.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._on_gpu = False
        self._last: Instant = 0.0
        self._laps: list[tuple[str, Instant, Instant]] = []
        self._seconds: dict[str, float] = defaultdict(float)
        self._hooks: list[RemovableHandle] = []

    def on_train_start(self, trainer: Trainer, module: Salmonn) -> None:  # type: ignore[override]
        """Be told whenever the bridge begins and ends."""
        self._on_gpu = module.device.type == "cuda"

        def enter(*_: Any) -> None:
            if torch.is_grad_enabled():  # not validation
                self._lap("encoders")

        def leave(bridge: nn.Module, inputs: Any, tokens: AudioTokens) -> None:
            if torch.is_grad_enabled():
                self._lap("bridge")
                tokens.embeds.register_hook(arrive)  # type: ignore[no-untyped-call]

        def arrive(gradient: Tensor) -> None:
            self._lap("bridge" if module.aligning else "LLM")

        self._hooks = [module.bridge.register_forward_pre_hook(enter), module.bridge.register_forward_hook(leave)]

    def on_train_batch_start(self, *_: Any) -> None:
        """Start a step."""
        self._last = self._now()

    def on_after_backward(self, *_: Any) -> None:
        """End the bridge's part."""
        self._lap("bridge")

    def on_train_batch_end(self, *_: Any) -> None:
        """End a step."""
        self._lap("optimizer")
        if len(self._laps) > MOST_LAPS:
            self._settle()

    def on_save_checkpoint(self, trainer: Trainer, *_: Any) -> None:
        """Write down what the steps until then took, beside what is known of earlier ones."""
        self._settle()
        record = self.run.provenance().get(PART_SECONDS, {})
        processor = "GPU" if self._on_gpu else "CPU"
        known = record.get(processor, {})
        new = {part: trainer.world_size * seconds for part, seconds in self._seconds.items()}
        seconds = {part: round(known.get(part, 0.0) + new[part], 3) for part in new}
        self._seconds.clear()
        self.run.record(**{PART_SECONDS: record | {processor: known | seconds}})

    def teardown(self, trainer: Trainer, module: Any, stage: str) -> None:
        """Leave the bridge alone."""
        for hook in self._hooks:
            hook.remove()

    def _now(self) -> Instant:
        if not self._on_gpu:
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _lap(self, part: str) -> None:
        now = self._now()
        self._laps.append((part, self._last, now))
        self._last = now

    def _settle(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()
        for part, start, end in self._laps:
            self._seconds[part] += start.elapsed_time(end) / 1000 if self._on_gpu else end - start
        self._laps.clear()
