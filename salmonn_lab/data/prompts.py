"""Prompt pools: what is asked about a clip, by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from salmonn_lab.batch import Example
from salmonn_lab.files import read_json

PLACE = "<SpeechHere>"
"""Where the audio goes; `<Speech>` and `</Speech>` around it are plain text, as in the original (models/salmonn.py)."""
OWN_PROMPTS = Path(__file__).with_name("prompts.yaml")


@dataclass(frozen=True)
class PromptPool:
    """The prompts of each task; `{}` in one stands for the example's question, other braces for themselves."""

    prompts: Mapping[str, Sequence[str]]
    source: str = "prompts"
    """Named in errors."""

    def __post_init__(self) -> None:
        for task, prompts in self.prompts.items():
            if not prompts:
                raise ValueError(f"{self.source}: task '{task}' has no prompts")
            for prompt in prompts:
                if prompt.count(PLACE) != 1 or prompt.count("{}") > 1:
                    raise ValueError(
                        f"{self.source}: task '{task}': a prompt must hold {PLACE} exactly once, "
                        f"and {{}} at most once, got {prompt!r}"
                    )

    @classmethod
    def load(cls, path: str | Path | None = None) -> PromptPool:
        """Read a YAML or JSON file of `task: [prompts]` or `task: prompt`, as the original's are; null is our own."""
        path = OWN_PROMPTS if path is None else Path(path)
        if not path.is_file():
            raise ValueError(f"{path}: no such prompt file")
        loaded = read_json(path) if path.suffix == ".json" else read_yaml(path)
        if not isinstance(loaded, dict):
            raise ValueError(f"{path}: expected a mapping of tasks to prompts")
        pool: dict[str, list[str]] = {}
        for task, prompts in loaded.items():
            pool[str(task)] = [prompts] if isinstance(prompts, str) else prompts
            if not isinstance(prompts, str | list) or not all(isinstance(prompt, str) for prompt in pool[str(task)]):
                raise ValueError(f"{path}: task '{task}': expected a prompt or a list of prompts")
        return cls(pool, str(path))

    def check_tasks(self, tasks: Sequence[str], where: str) -> None:
        """Raise ValueError if a task has no prompts."""
        for task in tasks:
            if task not in self.prompts:
                known = ", ".join(sorted(self.prompts))
                raise ValueError(f"{where}: task '{task}' has no prompts in {self.source}; it has {known}")

    def around(self, question: str) -> str:
        """Return a prompt for a free question: as the first prompt with a `{}` has it, or else after the audio.

        A question that says itself where the audio goes is returned as it is.
        """
        if PLACE in question:
            return question
        open_prompts = (prompt for prompts in self.prompts.values() for prompt in prompts if "{}" in prompt)
        return next(open_prompts, f"<Speech>{PLACE}</Speech> {{}}").replace("{}", question)

    def ask(self, example: Example, template: str, draw: tuple[int, int, int] | None = None) -> str:
        """Return the whole prompt for an example, `<SpeechHere>` where the audio goes.

        Args:
            example: gives the task, and the question for prompts with a `{}`; other prompts ignore a question.
            template: wraps the prompt, `{}` is the prompt.
            draw: (seed, epoch, index), which alone decide the choice among the task's prompts; None is the first.
        """
        self.check_tasks([example.task], f"example '{example.id}'")
        prompts = self.prompts[example.task]
        prompt = prompts[0 if draw is None else int(np.random.default_rng(draw).integers(len(prompts)))]
        if "{}" in prompt:
            if not example.question:
                raise ValueError(f"example '{example.id}': task '{example.task}' needs a 'question', it has none")
            prompt = prompt.replace("{}", example.question)
        whole = template.replace("{}", prompt)
        if whole.count(PLACE) != 1:
            raise ValueError(f"example '{example.id}': its prompt must hold {PLACE} exactly once, got {whole!r}")
        return whole


def read_yaml(path: Path) -> Any:
    """Value of a YAML file.

    Raises:
        ValueError: it is not UTF-8, malformed, or nested too deeply; the file is named.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path}: its YAML is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
