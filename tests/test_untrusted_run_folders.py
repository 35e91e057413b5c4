"""Predictions and run folders from anywhere are read, or refused in one line that names the file: never a traceback."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from salmonn_lab import benchmarks, evaluate, runs
from salmonn_lab.batch import GENERATION, LIKELIHOOD, Prediction
from salmonn_lab.config import RunConfig, to_yaml
from salmonn_lab.console import MENDABLE
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.predictions import Answers, read_predictions, write_predictions
from salmonn_lab.report import measure, read_scores, write_report, write_scores

pytestmark = pytest.mark.filterwarnings("ignore")
DEEP, LONG, LONGER = "@deep@", "@long@", "@longer@"
RAW = {f'"{DEEP}"': 3000 * "[" + 3000 * "]", f'"{LONG}"': 400 * "9", f'"{LONGER}"': 5000 * "9"}
"""What stands in a file where a value was replaced by one of these marks."""
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 0.5, 2**60, -1e308, float("nan"), float("inf"), "", "text", "\ud800", "\0", "ü🙂"),
    *([], {}, [None], ["a", "b"], [[]], {"a": 1}, [1, 2], {"": {}}, DEEP, LONG, LONGER, "=1+1", "\n", [0.5, 3]),
)
BYTES = (b"\0", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b"{", b"]", b'"', b"1e999", b"NaN", b"\\ud800", b"null", b",")


def mutate_json(random_: random.Random, value: Any) -> Any:
    """Replace, drop, add or double one value somewhere in a value of JSON."""
    places: list[tuple[Any, Any]] = []
    rest = [value]
    while rest:
        item = rest.pop()
        keys = list(item) if isinstance(item, dict) else list(range(len(item))) if isinstance(item, list) else []
        places += [(item, key) for key in keys]
        rest += [item[key] for key in keys]
    if not places:
        return random_.choice(ODD)
    owner, key = random_.choice(places)
    action = random_.random()
    if action < 0.7:
        owner[key] = random_.choice(ODD)
    elif action < 0.8:
        del owner[key]
    elif isinstance(owner, dict):
        owner[random_.choice(["generation", "likelihood", "choices", "extra", "", "seconds"])] = random_.choice(ODD)
    else:
        owner.append(owner[key])
    return value


def mutate_bytes(random_: random.Random, content: bytes) -> bytes:
    """Cut, flip, insert, repeat or replace some bytes of a file."""
    place, end = sorted(random_.randrange(len(content) + 1) for _ in range(2))
    return random_.choice(
        (
            content[:place],
            content[place:],
            content[:place] + bytes([random_.randrange(256)]) + content[place + 1 :],
            content[:place] + random_.choice(BYTES) + content[place:],
            content[:end] + content[place:],
            content[:place] + random_.choice(BYTES) + content[end:],
            b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"),
            pickle.dumps({"a": [1, 2]}),
            content.decode().encode("utf-16"),
            b"",
            b"\0" * 100,
        )
    )


def mutate(random_: random.Random, path: Path) -> None:
    """Change a file in one or two places."""
    content = path.read_bytes()
    if path.suffix in (".json", ".jsonl") and random_.random() < 0.7:
        lines = content.decode().splitlines() if path.suffix == ".jsonl" else [content.decode()]
        index = random_.randrange(len(lines))
        lines[index] = json.dumps(mutate_json(random_, json.loads(lines[index])))
        for mark, raw in RAW.items():
            lines[index] = lines[index].replace(mark, raw)
        path.write_text("\n".join(lines) + "\n")
        return
    path.write_bytes(mutate_bytes(random_, content))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A run's folder with predictions, their provenance, and scores of before and after training."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    (folder / "predictions" / "before").mkdir(parents=True)
    config = RunConfig(out_dir="run")
    config.evaluation.benchmarks = [str(corpus)]
    (folder / "config.yaml").write_text(to_yaml(config))
    facts = {"git": "abc", "seconds": {"training": 2.5}, "peak_memory_gib": 1.25, "part_seconds": {"CPU": {"llm": 1.0}}}
    (folder / "provenance.json").write_text(json.dumps(facts))
    predictions = [
        Prediction(example.id, "corpus", "<SpeechHere> What?", f"{example.target} x", (example.target,), {
            "speaker": f"s{index % 2}",
            "choices": [example.target, "other"],
            GENERATION: {"finished": True, "tokens": 3, "seconds": 0.5},
            LIKELIHOOD: {"reference": [-2.5, 3], "choices": [[-1.0, 2], [-2.0, 2]]},
        })
        for index, example in enumerate(read_manifest(corpus))
    ]  # fmt: skip
    for name, scores in (("", "scores.json"), ("before", "before.json")):
        path = folder / "predictions" / name / "corpus.jsonl"
        write_predictions(path, predictions)
        path.with_suffix(".provenance.json").write_text(json.dumps({"manifest": "0", "weights.learned": "1"}))
        write_scores(folder / scores, [measure(benchmarks.find(str(corpus)), predictions)])
    return folder


def refused(call: Callable[[], object], folder: Path) -> str:
    """Call what may refuse; the message, of one line that names a file of the folder, or nothing where all was well."""
    try:
        call()
    except MENDABLE as error:
        message = str(error)
        assert "\n" not in message
        assert str(folder) in message, message
        assert len(message) < 1000
        assert "weights_only" not in message
        return message
    return ""


def open_answers(folder: Path) -> None:
    answers = Answers(folder / "predictions" / "corpus.jsonl", {"manifest": "0", "weights.learned": "1"}, "corpus")
    answers.prepare([f"clip-{index}" for index in range(5)])
    answers.read()


READERS: dict[str, tuple[Callable[[Path], object], ...]] = {
    "predictions/corpus.jsonl": (
        lambda folder: read_predictions(folder / "predictions" / "corpus.jsonl", "corpus"),
        open_answers,
    ),
    "predictions/corpus.provenance.json": (open_answers,),
    "scores.json": (lambda folder: read_scores(folder / "scores.json"),),
    "before.json": (lambda folder: read_scores(folder / "before.json"),),
    "provenance.json": (lambda folder: runs.Run(folder).facts(),),
    "config.yaml": (lambda folder: runs.Run(folder).config(), lambda folder: runs.Run(folder).config_text()),
}


def check_readers(whole: Path, folder: Path, seeds: range) -> int:
    """Read mutated folders; the number of inputs that were refused."""
    count = 0
    for seed in seeds:
        random_ = random.Random(seed)
        name = random_.choice(list(READERS))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        mutate(random_, folder / name)
        try:
            messages = [refused(lambda read=read: read(folder), folder) for read in READERS[name]]  # type: ignore[misc]
            count += any(messages)
        except BaseException:
            print(f"seed {seed}: {name}: {(folder / name).read_bytes()[:300]!r}")
            raise
    return count


def check_commands(whole: Path, folder: Path, seeds: range) -> int:
    """Report on, and score again, mutated folders; the number of inputs that were refused."""
    count = 0
    for seed in seeds:
        random_ = random.Random(seed)
        name = random_.choice(list(READERS))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        mutate(random_, folder / name)
        try:
            command = random_.choice(
                [lambda: write_report(folder, players=0), lambda: evaluate.evaluate_stored(folder, None, ())]
            )
            count += bool(refused(command, folder))
        except BaseException:
            print(f"seed {seed}: {name}: {(folder / name).read_bytes()[:300]!r}")
            raise
    return count


def test_a_mutated_run_folder_is_read_or_refused_with_the_file(whole: Path, tmp_path: Path) -> None:
    assert 30 < check_readers(whole, tmp_path / "run", range(100)) < 100


def test_reports_of_a_mutated_run_folder_are_made_or_refused(whole: Path, tmp_path: Path) -> None:
    assert check_commands(whole, tmp_path / "run", range(12))


@pytest.mark.slow
def test_a_thousand_mutated_run_folders_are_read_or_refused_with_the_file(whole: Path, tmp_path: Path) -> None:
    assert check_readers(whole, tmp_path / "run", range(1000, 3000)) > 600
    assert check_commands(whole, tmp_path / "run", range(1000, 1300)) > 60
