"""Two commands on one run: the second is told who is at work, or waits; neither loses what the other has done."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from salmonn_lab import evaluate, fit, runs
from salmonn_lab.config import load_config
from salmonn_lab.console import run_command
from salmonn_lab.locks import Lock


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_second_fit_is_refused_and_writes_nothing(
    resume: list[str],
    settings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Lock(tmp_path / "run" / runs.LOCK)
    assert other.acquire()
    monkeypatch.setattr(sys, "argv", ["fit", "--config", str(settings), *resume])
    with pytest.raises(SystemExit) as ended:
        run_command(fit.main)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'run'}: ")
    assert line.endswith(" is at work on it; wait for its end with --wait, or stop it")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    other.release()


@pytest.mark.parametrize("how", [[], ["--rescore"]])
def test_a_second_evaluation_is_refused_before_a_model_is_loaded(
    how: list[str], settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.start(load_config([settings]), resume=False)
    other = Lock(run.folder / runs.LOCK)
    assert other.acquire()
    monkeypatch.setattr(runs, "load_model", None)
    monkeypatch.setattr(sys, "argv", ["evaluate", "--run", str(run.folder), *how])
    with pytest.raises(SystemExit) as ended:
        run_command(evaluate.main)
    assert ended.value.code == 2
    assert f"error: {run.folder}: " in (said := capsys.readouterr().err)
    assert "is at work on it" in said
    other.release()


def test_a_variant_may_be_measured_while_its_run_is_trained(settings: Path) -> None:
    run = runs.start(load_config([settings]), resume=False)
    with (
        runs.locked(run.folder),
        runs.locked(evaluate.destination(run, None, ["model.lora.scale=2.0"])),
        pytest.raises(BlockingIOError),
        runs.locked(evaluate.destination(run, None, ["evaluation.benchmarks=[x]"])),
    ):
        pass


def start(module: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", f"salmonn_lab.{module}", *map(str, arguments)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def ends(processes: list[subprocess.Popen[str]]) -> tuple[list[int], str]:
    """Sorted exit codes of processes, and what they said."""
    said = [process.communicate(timeout=300)[1] for process in processes]
    return sorted(process.returncode for process in processes), "".join(said)


@pytest.mark.slow
@pytest.mark.parametrize("wait", [False, True])
def test_two_fits_and_two_evaluations_of_one_run(wait: bool, settings: Path, corpus: Path, tmp_path: Path) -> None:
    run, more = tmp_path / "run", ["--wait"] if wait else []
    words = ["--config", settings, f"evaluation.benchmarks=[{corpus}]", "evaluation.before=[]", "--resume", *more]
    codes, said = ends([start("fit", *words) for _ in range(2)])
    assert codes == [0, 0 if wait else 2]
    assert "Traceback" not in said
    assert ("waiting for fit" if wait else "fit (host") in " ".join(said.split())
    with (run / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train_loss"]]
    assert steps == list(range(8))
    codes, said = ends([start("evaluate", "--run", run, f"benchmarks=[{corpus}]", "--again", *more) for _ in range(2)])
    assert codes == [0, 0 if wait else 2]
    assert "Traceback" not in said
    names = sorted(path.name for path in (run / "predictions").iterdir())
    assert names == ["corpus.jsonl", "corpus.provenance.json"]
    assert len((run / "predictions/corpus.jsonl").read_text().splitlines()) == 5
    assert [row["benchmark"] for row in json.loads((run / "scores.json").read_text())] == ["corpus"]


@pytest.mark.slow
@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("name", ["encode", "evaluate", "fit", "assets", "sweep"])
def test_killed_at_random_moments_a_command_ends_as_if_nothing_had_happened(
    name: str, together: int, tmp_path: Path
) -> None:
    """A handful; `python tests/kills.py` takes a count."""
    words = [
        sys.executable,
        str(Path(__file__).with_name("kills.py")),
        name,
        "--count",
        "2" if name == "sweep" else "4",
    ]
    ended = subprocess.run(
        [*words, "--together", str(together), "--folder", str(tmp_path / "kills")], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
