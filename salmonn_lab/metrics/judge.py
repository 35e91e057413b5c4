"""Ratings by another model: what it is asked, how its answer is read, and a file that keeps every answer."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salmonn_lab.files import parse_json
from salmonn_lab.metrics.item import ItemMetric, Statistics, check_items, per_item, ratio

Judge = Callable[[str], str]
"""Returns a model's raw answer to a prompt."""
NUMBER = r"([+-]?\d+(?:\.\d+)?)"
RATINGS = (
    re.compile(rf"\[\[\s*{NUMBER}\s*\]\]"),
    re.compile(rf"\b(?:rating|score)\b[^\w+-]*(?:-\s+|is|of)?[^\w+-]*{NUMBER}\b(?!\s*(?:-|to)\s*\d)", re.IGNORECASE),
    re.compile(rf"\A[^\w+-]*{NUMBER}\s*(?:(?:/|out of)\s*\d+)?\W*\Z", re.IGNORECASE),
)
"""Where a judge may write its rating, the plainest first: `[[4]]`, `Rating: 4`, a number alone, perhaps `4/5`."""
PLACES = re.compile(r"\{(question|references|output)\}")


@dataclass(frozen=True)
class RatingRule:
    """How a judge's answer becomes a number, with the name and version that signatures show."""

    name: str
    version: int
    """Raised whenever any answer would be read differently."""
    function: Callable[[str], float | None]
    """Returns the rating, or None where the answer is not understood."""

    @property
    def label(self) -> str:
        """What stands in a signature, as in `one_to_ten@1`."""
        return f"{self.name}@{self.version}"


def read_number(answer: str, lowest: float, highest: float) -> float | None:
    """Return the one rating in an answer; None where there is none, or two differ, or it is out of range."""
    for pattern in RATINGS:
        found = {float(match) for match in pattern.findall(answer)}
        if found:
            value = found.pop()
            return value if not found and lowest <= value <= highest else None
    return None


def read_verdict(answer: str) -> float | None:
    """Return 1 for an answer that begins with yes or correct, 0 for one that begins with no or incorrect."""
    word = re.match(r"\W*(yes|no|correct|incorrect)\b", answer, re.IGNORECASE)
    return None if word is None else float(word[1].lower() in ("yes", "correct"))


RULES = {
    rule.name: rule
    for rule in (
        RatingRule("zero_to_five", 1, lambda answer: read_number(answer, 0, 5)),
        RatingRule("one_to_five", 1, lambda answer: read_number(answer, 1, 5)),
        RatingRule("one_to_ten", 1, lambda answer: read_number(answer, 1, 10)),
        RatingRule("verdict", 1, read_verdict),
    )
}


class AnswerCache:
    """A judge's raw answers in a JSONL file, a line each, written as they come.

    A run that was cut off goes on where it was; a last line that is torn is dropped, and asked for again. Each process
    that writes needs a file of its own.
    """

    def __init__(self, path: str | Path, model: str) -> None:
        """Read the answers that are there.

        Args:
            path: of the file, which need not exist.
            model: name of the judge: the answers of another one in the same file are left alone.

        Raises:
            ValueError: a line before the last is not an answer.
        """
        self.path, self.model = Path(path), model
        self.answers: dict[str, str] = {}
        if self.path.exists():
            whole = self._read()
            # The next answer must not be appended to half of another.
            if whole < self.path.stat().st_size:
                warnings.warn(f"{self.path}: cut off the last line, which is torn", stacklevel=2)
                with self.path.open("r+b") as file:
                    file.truncate(whole)

    def _read(self) -> int:
        """Fill the answers, and return how many bytes of the file are whole lines."""
        data = self.path.read_bytes()
        lines = data.split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            try:
                record = parse_json(line)
            except ValueError as error:
                raise ValueError(f"{self.path}:{number}: not an answer of a judge: {error}") from None
            keys = ("model", "prompt", "answer")
            if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in keys):
                raise ValueError(f"{self.path}:{number}: not an answer of a judge: {', '.join(keys)} must be strings")
            if record["model"] == self.model:
                self.answers[record["prompt"]] = record["answer"]
        return len(data) - len(lines[-1])

    def ask(self, judge: Judge, prompt: str) -> str:
        """Return the answer to a prompt, the judge's only where the file has none."""
        if prompt not in self.answers:
            answer = judge(prompt)
            if not isinstance(answer, str):
                raise TypeError(f"a judge must answer with a text, got {answer!r}")
            record = {"model": self.model, "prompt": prompt, "answer": answer}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:  # ASCII, so that lone surrogates survive
                file.write(json.dumps(record) + "\n")
            self.answers[prompt] = answer
        return self.answers[prompt]


class JudgeRating(ItemMetric):
    """The mean rating that a judge gives, over answers that could be read, and the share of those that could.

    An answer that the rule cannot read says nothing of the output, so it lowers `judge_parsed` and not the rating.
    """

    columns = ("rating", "parsed", "items")
    keys = ("judge_rating", "judge_parsed")
    higher_is_better = True

    def __init__(
        self,
        judge: Judge,
        model: str,
        template: str,
        cache: str | Path,
        rule: str | RatingRule = "one_to_ten",
        **options: Any,
    ) -> None:
        """Build the metric.

        Args:
            judge: returns a raw answer to a prompt.
            model: its name and settings, which signature and cache show.
            template: the prompt, where `{question}`, `{references}` (a line each) and `{output}` are filled in.
            cache: a JSONL file that keeps the raw answers.
            rule: name of a rule, or one: how an answer is read.
            options: of torchmetrics.

        Raises:
            ValueError: the template has no place for the output, or there is no such rule.
        """
        if "{output}" not in template:
            raise ValueError(f"the template of a judge must hold {{output}}, got {template!r}")
        if isinstance(rule, str) and rule not in RULES:
            raise ValueError(f"no rating rule '{rule}'; there are {', '.join(RULES)}")
        super().__init__(**options)
        self.judge, self.model, self.template = judge, model, template
        self.rule = RULES[rule] if isinstance(rule, str) else rule
        self.cache = AnswerCache(cache, model)

    @property
    def signature(self) -> str:
        """Name, judge, hash of the template, rule, aggregation, version."""
        digest = hashlib.blake2b(self.template.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        return f"judge|model:{self.model}|prompt:{digest}|rule:{self.rule.label}|agg:mean-of-parsed|v1"

    def update(
        self,
        preds: Sequence[str],
        references: Sequence[Sequence[str]],
        ids: Sequence[str],
        questions: Sequence[str] | None = None,
    ) -> None:
        """Add items; what was asked about each may be shown to the judge."""
        check_items(preds, references, ids)
        asked = per_item("questions", questions, ids)
        rows = [self.rate(*item) for item in zip(preds, references, asked, strict=True)]
        self.add(ids, rows)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Have one item rated without its question."""
        return self.rate(prediction, references, None)

    def rate(self, prediction: str, references: Sequence[str], question: str | None) -> Sequence[float]:
        """Return the row of one item."""
        texts = {"question": question or "", "references": "\n".join(references), "output": prediction}
        # In one pass: an output that holds "{references}" must stay as it is.
        prompt = PLACES.sub(lambda place: texts[place[1]], self.template)
        rating = self.rule.function(self.cache.ask(self.judge, prompt))
        return (0.0, 0.0, 1.0) if rating is None else (rating, 1.0, 1.0)

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over parsed answers; nan where there is none."""
        rating, parsed, items = (stats[..., index] for index in range(3))
        return {"judge_rating": ratio(rating, parsed), "judge_parsed": ratio(parsed, items)}
