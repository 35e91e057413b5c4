"""Scores of ten thousand made-up pairs, and of the bare library beside them: `python benchmarks/metrics.py`.

Prints the seconds of each metric from texts to scores, the least of some rounds, and how WER compares with rapidfuzz's
distances alone. What it draws is always the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from salmonn_lab.console import console, table
from salmonn_lab.metrics.caption import RougeL
from salmonn_lab.metrics.cider import CiderD
from salmonn_lab.metrics.item import ItemMetric
from salmonn_lab.metrics.normalize import whisper_en
from salmonn_lab.metrics.statistics import bootstrap
from salmonn_lab.metrics.translation import Bleu
from salmonn_lab.metrics.treebank import tokenize_piece
from salmonn_lab.metrics.wer import ErrorRate

VOCABULARY, WORDS = 5000, 18
SPEECH, CAPTIONS = 0.1, 0.3
"""The share of words that an output has otherwise."""


def draw(count: int, references: int, edited: float) -> tuple[list[str], list[list[str]]]:
    """Return outputs, and the references of each, of words as frequent as in a language."""
    generator = np.random.default_rng(0)
    letters = generator.choice(list("abcdefghijklmnopqrstuvwxyz"), size=(VOCABULARY, 7))
    words = np.array(["".join(row[: generator.integers(2, 8)]) for row in letters])
    frequencies = 1 / np.arange(1, VOCABULARY + 1)
    frequencies /= frequencies.sum()
    texts = words[generator.choice(VOCABULARY, size=(count, WORDS), p=frequencies)]

    def edit(share: float) -> list[str]:
        other = words[generator.choice(VOCABULARY, size=texts.shape, p=frequencies)]
        changed = np.where(generator.random(texts.shape) < share, other, texts)
        return [" ".join(row[generator.random(WORDS) >= share / 5]) for row in changed]

    columns = [edit(edited * number) for number in range(references)]
    return edit(edited), [list(row) for row in zip(*columns, strict=True)]


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the least seconds that a piece of work took."""
    times = []
    for _ in range(rounds):
        tokenize_piece.cache_clear()  # or a later round would find the words tokenized
        whisper_en.cache_clear()
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--references", type=int, default=5, help="of captions and translations")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    heard, spoken = draw(options.pairs, 1, SPEECH)
    captions, references = draw(options.pairs, options.references, CAPTIONS)
    ids = [str(number) for number in range(options.pairs)]
    filled: dict[type[ItemMetric], ItemMetric] = {}

    def score(
        make: Callable[[], ItemMetric], outputs: Sequence[str], texts: Sequence[Sequence[str]]
    ) -> Callable[[], object]:
        def work() -> object:
            metric = make()
            metric.update(outputs, texts, ids)
            filled[type(metric)] = metric
            return metric.compute()

        return work

    pairs = [(texts[0], output) for texts, output in zip(spoken, heard, strict=True)]
    bare = seconds(lambda: [Levenshtein.distance(a.split(), b.split()) for a, b in pairs], options.rounds)
    steps = seconds(lambda: [Levenshtein.editops(a.split(), b.split()).as_list() for a, b in pairs], options.rounds)
    exact = seconds(score(lambda: ErrorRate("word", "exact"), heard, spoken), options.rounds)
    metrics: dict[str, Callable[[], object]] = {
        "WER": score(ErrorRate, heard, spoken),
        "BLEU": score(lambda: Bleu(references_per_item=options.references), captions, references),
        "ROUGE-L": score(RougeL, captions, references),
        "CIDEr-D": score(lambda: CiderD(dict(zip(ids, references, strict=True))), captions, references),
    }
    taken = {name: seconds(work, options.rounds) for name, work in metrics.items()}

    def draw_intervals() -> None:
        for metric in filled.values():
            bootstrap(metric.items().stats.numpy(), metric.score, samples=1000)

    drawn = seconds(draw_intervals, options.rounds)
    rows = [
        ["rapidfuzz, distances alone", "1", f"{bare:.3f} s"],
        ["rapidfuzz, kinds of edits", "1", f"{steps:.3f} s"],
        [f"WER, not normalized ({exact / bare:.2f} and {exact / steps:.2f} times these)", "1", f"{exact:.3f} s"],
        ["WER, Whisper's normalizer", "1", f"{taken['WER']:.2f} s"],
        *[[name, str(options.references), f"{taken[name]:.2f} s"] for name in ("BLEU", "ROUGE-L", "CIDEr-D")],
        ["WER + BLEU + ROUGE-L + CIDEr-D", "", f"{sum(taken.values()):.2f} s"],
        ["their intervals, 1,000 draws", "", f"{drawn:.2f} s"],
    ]
    console.print(table(f"{options.pairs} pairs", ["from texts to scores", "references", "least time"], rows))


if __name__ == "__main__":
    main()
