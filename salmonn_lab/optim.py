"""How training is configured: the optimizer, the learning rate at each step, and the precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Objective = Literal["ctc", "bag"]
"""`ctc` where the target says what is heard in order (Graves et al. 2006); `bag` where the audio has no such order, as
with the name of a steady sound: each of its word pieces should be found somewhere among the clip's tokens (the
aggregation cross-entropy of Xie et al. 2019, arXiv:1904.08364, without its blank)."""
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""What `trainer.precision` may be, as Lightning writes it. Its other precisions change every tensor to one type, the
waveforms among them: in bfloat16 they have 8 bits, and the encoders' Fourier transforms are for float32 alone."""
PRECISION_NAMES = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
"""Lightning's short names."""


@dataclass
class OptimConfig:
    """AdamW with linear warm-up and cosine decay. The defaults are the published recipe."""

    lr: float = 3e-5
    """Peak rate of the bridge."""
    lora_lr: float | None = None
    """Peak rate of LoRA; null is `lr`."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Decay of AdamW's running means of the gradient and of its square."""
    weight_decay: float = 0.05
    """On matrices and query tokens; biases and layer norms have none."""
    warmup_steps: int = 3000
    """Optimizer steps over which the rate rises to its peak."""
    warmup_start_lr: float = 1e-6
    """Rate of the bridge at step 0."""
    min_lr: float = 1e-5
    """Rate of the bridge at the last step."""
    align_steps: int = 0
    """First steps: the bridge alone is trained, to speak in the LLM's embeddings (model/alignment.py). The schedule
    starts anew after them. Ours, not the paper's."""
    align_lr: float | None = None
    """Peak rate in these steps; null is `lr`."""
    align: dict[str, str] = field(default_factory=lambda: {"asr": "ctc"})
    """The tasks that these steps train on, and how: `ctc` where the target says what is heard in order, `bag` where it
    names it. Their batches hold no other tasks."""
    align_weight: float = 0.0
    """What a nat of alignment weighs beside one of the LLM's in the steps that follow, on clips of those tasks."""

    def __post_init__(self) -> None:
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.betas must be two numbers in [0, 1), got {self.betas}")
        if not self.lr > 0:
            raise ValueError(f"optim.lr must be above 0, got {self.lr}")
        for name in (
            "lora_lr",
            "warmup_start_lr",
            "min_lr",
            "weight_decay",
            "warmup_steps",
            "align_steps",
            "align_weight",
        ):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"optim.{name} must not be negative, got {getattr(self, name)}")
        for task, objective in self.align.items():
            if objective not in get_args(Objective):
                raise ValueError(
                    f"optim.align.{task} must be one of {', '.join(get_args(Objective))}, got {objective!r}"
                )


def learning_rate_factor(step: int, config: OptimConfig, total_steps: int) -> float:
    """Return the rate at an optimizer step as a fraction of `lr`.

    Linear from `warmup_start_lr`, then a cosine that reaches `min_lr` at `total_steps`. The cosine runs over all
    steps, as in the original (optims.py); the warm-up counts optimizer steps from the start of training, which the
    original restarts in every epoch. Steps of alignment have such a schedule to themselves.
    """
    peak = config.lr
    if step < config.align_steps:
        peak, total_steps = config.align_lr or config.lr, config.align_steps
    else:
        step, total_steps = step - config.align_steps, total_steps - config.align_steps
    if step < config.warmup_steps:
        start = config.warmup_start_lr / peak
        share = start + (1.0 - start) * step / config.warmup_steps
    else:
        end = min(config.min_lr / peak, 1.0)
        done = min(step / max(total_steps, 1), 1.0)
        share = end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * done))
    return peak / config.lr * share


def precision_of(options: Mapping[str, Any]) -> str:
    """Precision that options of a trainer ask for, as Lightning writes it.

    Raises:
        ValueError: there is no such precision, or this kit does not train in it.
    """
    asked = options.get("precision")
    name = "32-true" if asked is None else PRECISION_NAMES.get(str(asked), str(asked))
    if name not in PRECISIONS:
        raise ValueError(
            f"trainer.precision must be one of {', '.join(PRECISIONS)}, got {asked!r}; "
            "the type of the frozen LLM is model.llm.dtype"
        )
    return name
