"""Each part of a training step is told what it takes, and nobody else."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from salmonn_lab.clock import PART_SECONDS
from salmonn_lab.config import load_config
from salmonn_lab.fit import fit
from salmonn_lab.model.bridge import Bridge
from salmonn_lab.model.encoders import Encoders
from salmonn_lab.model.llm import LanguageModel
from salmonn_lab.runs import Run
from salmonn_lab.salmonn import Salmonn

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("short")]
STEPS = 2
BURNT = 0.2
"""CPU-seconds of every call; a whole step of the miniature takes a tenth of it."""


def burn() -> None:
    end = time.process_time() + BURNT
    while time.process_time() < end:
        pass


def slow(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, backwards: bool = False) -> None:
    """Make a method slow: when it is called, or when its gradient is made."""
    method: Callable[..., Any] = getattr(owner, name)

    def slowed(self: Any, *arguments: Any) -> Any:
        if not backwards:
            burn()
            return method(self, *arguments)
        losses: Tensor = method(self, *arguments)
        losses.register_hook(lambda gradient: burn())
        return losses

    monkeypatch.setattr(owner, name, slowed)


@pytest.mark.parametrize(
    ("owner", "name", "backwards", "part", "overrides"),
    [
        (Encoders, "forward", False, "encoders", []),
        (Bridge, "forward", False, "bridge", []),
        (LanguageModel, "token_losses", False, "LLM", []),
        (LanguageModel, "token_losses", True, "LLM", []),
        (Salmonn, "align", True, "bridge", [f"optim.align_steps={STEPS}"]),
        (Salmonn, "on_before_optimizer_step", False, "optimizer", []),
    ],
)
def test_what_makes_a_part_slow_counts_to_that_part(
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    backwards: bool,
    part: str,
    overrides: list[str],
) -> None:
    slow(monkeypatch, owner, name, backwards=backwards)
    options = [f"trainer.max_steps={STEPS}", "data.validation=[]", *overrides]
    seconds = fit(load_config([settings], options)).provenance()[PART_SECONDS]["CPU"]
    assert set(seconds) == {"encoders", "bridge", "LLM", "optimizer"} - ({"LLM"} if overrides else set())
    assert STEPS * BURNT < seconds[part] < (STEPS + 1) * BURNT
    assert max(value for other, value in seconds.items() if other != part) < BURNT


def test_validation_does_not_count_and_a_resumed_run_adds_to_what_it_had(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, Bridge, "forward")
    config = load_config([settings], [f"trainer.max_steps={STEPS}", "trainer.val_check_interval=1"])
    with monkeypatch.context() as patch:
        patch.setattr(Salmonn, "on_train_batch_start", lambda self, batch, index: 1 / (STEPS - 1 - self.global_step))
        with pytest.raises(ZeroDivisionError):
            fit(config)
    for resume, steps in ((False, STEPS - 1), (True, STEPS)):
        run = fit(config, resume=True) if resume else Run(Path(config.out_dir))
        assert steps * BURNT < run.provenance()[PART_SECONDS]["CPU"]["bridge"] < (steps + 1) * BURNT
