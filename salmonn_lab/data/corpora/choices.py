"""Multiple-choice questions, written with lettered options."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.corpora.reading import Reading


def add_question(
    reading: Reading,
    id: str,
    audio: Path,
    question: str,
    choices: Sequence[str],
    answer: str,
    labels: Mapping[str, Any],
    mark: str = "({})",
    task: str = "audio_QA",
    any_case: bool = False,
) -> None:
    """Append an example whose question lists its choices, each behind its letter.

    A choice that is listed twice is offered once, and the reading says so; those that differ in case alone are two
    choices. Where none of the choices is the answer, or several may be, the question is left out.

    Args:
        reading: takes the example.
        id: of the example.
        audio: the recording.
        question: as published.
        choices: as published.
        answer: the text of one of the choices, whatever its case where only one of them is meant.
        labels: slice a report; they become `meta`, as texts, with `choices` and `answer_letter` added.
        mark: how a letter is set off from its choice.
        task: of the example.
        any_case: whether choices that differ in case alone are one listed twice, as for official rules that ignore it.
    """
    listed = [text for choice in choices if (text := choice.strip())]
    texts = list({text.casefold() if any_case else text: text for text in reversed(listed)}.values())[::-1]
    texts.sort(key=listed.index)
    alike = [number for number, text in enumerate(texts) if text.casefold() == answer.strip().casefold()]
    meant = [number for number in alike if texts[number] == answer.strip()] or alike
    if len(meant) != 1:
        reading.leave_out(id, "several choices may be the answer" if meant else "none of the choices is the answer")
        return
    if len(texts) < len(choices):
        reading.mend(id, "a choice listed twice or empty")
    plain = {key: plain_label(label) for key, label in labels.items()}
    if plain != labels:
        reading.mend(id, "a label that was a list")
    right = meant[0]
    options = [f"{mark.format(letter)} {text}" for letter, text in zip(ascii_uppercase, texts, strict=False)]
    reading.append(
        Example(
            id=id,
            audio=(Segment(str(audio)),),
            task=task,
            target=texts[right],
            question="\n".join([question.strip(), *options]),
            references=(texts[right],),
            meta={**plain, "choices": texts, "answer_letter": ascii_uppercase[right]},
        )
    )


def plain_label(label: Any) -> str:
    """Return a category as text: some items have it as a list, or as a list that was printed, `['Reasoning']`."""
    if isinstance(label, str) and label.startswith("["):
        try:
            label = ast.literal_eval(label)
        except (SyntaxError, ValueError):
            return str(label)
    return ", ".join(map(str, label)) if isinstance(label, list) else str(label)
