"""Sweeps do every run once, whatever stops them: failures, Ctrl-C, kills, a full disk, another sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from samples import tiny_experiment, without_times

from salmonn_lab import estimate, jobs, sweep
from salmonn_lab.config import RunConfig, to_yaml
from salmonn_lab.console import run_command
from salmonn_lab.estimate import Pace, Work, estimates
from salmonn_lab.experiment import Experiment, Planned, load_experiment
from salmonn_lab.jobs import Lock, begin, is_locked, last_words, share_of_machine, state_of, work
from salmonn_lab.model.config import ModelConfig
from salmonn_lab.model.cost import part_costs
from salmonn_lab.salmonn import Salmonn
from salmonn_lab.slurm import Attempt

FAKE = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder.parent / "starts.txt").open("a") as file:
    file.write(folder.name + chr(10))
(folder / "config.yaml").write_text(pathlib.Path(sys.argv[3]).read_text())
{body}
(folder / "provenance.json").write_text(json.dumps({{"seconds": {{"measuring after": 1.0}}, "peak_memory_gib": 1.0}}))
(folder / "scores.json").write_text("[]")
"""
"""What stands for `fit` where only the sweep is tested: it takes no time to start."""
Fake = Callable[[str], None]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    folder = tmp_path / "queries"
    folder.mkdir()
    (folder / "base.yaml").write_text("checkpoint_every: 7\n")
    (folder / "sweep.py").write_text(
        '"""How many?"""\nfrom salmonn_lab.experiment import Sweep, grid\n'
        f"SWEEP = Sweep(base={str(folder / 'base.yaml')!r}, baseline={{'model.bridge.num_queries': 1}},"
        " runs=grid({'model.bridge.num_queries': [1, 2], 'seed': [0, 1]}))\n"
    )
    return load_experiment(folder)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(jobs, "POLL", 0.01)

    def replace(body: str) -> None:
        code = FAKE.format(body=body)

        def command(self: Planned, *, resume: bool) -> list[str]:
            config = self.folder.parent.parent / f"{self.name}.yaml"
            config.write_text(to_yaml(self.config))
            return ["-c", code, str(self.folder), str(resume), str(config)]

        monkeypatch.setattr(Planned, "command", command)

    replace("")
    return replace


def starts(experiment: Experiment) -> list[str]:
    return (experiment.runs_folder / "starts.txt").read_text().split()


def names(experiment: Experiment) -> list[str]:
    return [run.name for run in experiment.planned]


def states(experiment: Experiment) -> list[str]:
    return [state_of(run) for run in experiment.planned]


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def test_every_run_is_done_once_and_a_second_call_does_nothing(experiment: Experiment, fake: Fake) -> None:
    assert states(experiment) == ["missing"] * 4
    work(experiment.planned, 2)
    assert states(experiment) == ["done"] * 4
    work(experiment.planned)
    assert sorted(starts(experiment)) == sorted(names(experiment))


def test_a_run_that_fails_does_not_stop_the_others_and_its_last_words_stay(experiment: Experiment, fake: Fake) -> None:
    fake("if folder.name == 'num_queries=1,seed=1': print('step 1'); print('error: no room\\nfor it'); sys.exit(2)")
    work(experiment.planned)
    assert states(experiment) == ["done", "failed", "done", "done"]
    record = json.loads(experiment.planned[1].failure.read_text())
    assert record == {"code": 2, "error": "error: no room\nfor it"}


def test_failed_runs_are_tried_again_only_where_that_is_asked_for(experiment: Experiment, fake: Fake) -> None:
    fake("sys.exit(3)")
    work(experiment.planned[:1])
    fake("")
    work(experiment.planned[:1])
    assert states(experiment)[0] == "failed"
    assert len(starts(experiment)) == 1
    work(experiment.planned[:1], retry=True)
    assert states(experiment)[0] == "done"
    assert not experiment.planned[0].failure.exists()


def test_a_run_that_was_begun_is_resumed_and_a_new_one_is_not(experiment: Experiment, fake: Fake) -> None:
    fake("(folder / 'resumed.txt').write_text(sys.argv[2])")
    begun = experiment.planned[1]
    begun.folder.mkdir(parents=True)
    begun.run.config_file.write_text("seed: 1\n")
    assert state_of(begun) == "begun"
    work(experiment.planned[:2])
    assert [(run.folder / "resumed.txt").read_text() for run in experiment.planned[:2]] == ["False", "True"]


def test_the_run_of_a_slurm_job_does_not_take_itself_for_the_jobs_task(
    experiment: Experiment, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("import os; (folder / 'job.txt').write_text(os.environ['SLURM_JOB_NAME'])")
    monkeypatch.setenv("SLURM_JOB_NAME", "salmonn_lab")
    assert Attempt(experiment.planned[0], retry=False)() == "done"
    assert (experiment.planned[0].folder / "job.txt").read_text() == "interactive"
    fake("sys.exit(2)")
    with pytest.raises(RuntimeError, match="failed; see "):
        Attempt(experiment.planned[1], retry=False)()


def test_two_sweeps_at_once_share_the_runs(experiment: Experiment, fake: Fake) -> None:
    fake("time.sleep(0.2)")
    threads = [threading.Thread(target=work, args=(load_experiment(experiment.folder).planned,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(experiment) == ["done"] * 4
    assert sorted(starts(experiment)) == sorted(names(experiment))


def test_a_run_keeps_its_lock_when_the_process_that_started_it_is_gone(experiment: Experiment, fake: Fake) -> None:
    """As when a sweep is killed: the run goes on, and no other sweep may start it a second time."""
    fake("time.sleep(1.0)")
    planned = experiment.planned[0]
    job = begin(planned)
    assert job is not None
    job.lock.release()  # what the operating system does for a process that dies
    assert is_locked(planned.lock)
    assert state_of(planned) == "running"
    assert begin(planned) is None
    job.process.wait()
    assert state_of(planned) == "done"


def test_a_lock_that_is_only_looked_at_leaves_no_trace(experiment: Experiment) -> None:
    path = experiment.planned[0].lock
    assert not is_locked(path)
    assert not path.parent.exists()
    lock, other = Lock(path), Lock(path)
    assert lock.acquire()
    assert not other.acquire()
    assert is_locked(path)
    lock.release()
    assert other.acquire()
    other.release()


def test_an_interrupted_sweep_stops_its_runs_and_goes_on_with_them(experiment: Experiment, fake: Fake) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that a shell put into the background ignore it
    fake("if not (folder / 'again').exists(): (folder / 'again').touch(); time.sleep(60)")
    planned = experiment.planned[0]
    timer = threading.Thread(
        target=lambda: (wait_for((planned.folder / "again").exists), os.kill(os.getpid(), signal.SIGINT))
    )
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        work(experiment.planned[:1])
    timer.join()
    assert state_of(planned) == "begun"
    assert not planned.failure.exists()
    work(experiment.planned[:1])
    assert state_of(planned) == "done"


def test_a_run_whose_process_ends_well_before_it_is_done_has_failed(
    experiment: Experiment, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake("print('step 1'); sys.exit(0)")
    work(experiment.planned[:1])
    assert states(experiment)[0] == "failed"
    record = json.loads(experiment.planned[0].failure.read_text())
    lines = record.pop("error").splitlines()
    assert record == {"code": 0}
    assert (lines[0], lines[-1]) == ("its process ended with code 0 before the run was done", "step 1")
    assert ": done" not in capsys.readouterr().err


@pytest.mark.parametrize("code", [129, 130, 143])
def test_a_run_that_was_stopped_by_a_signal_is_no_failure(experiment: Experiment, fake: Fake, code: int) -> None:
    fake(f"sys.exit({code})")
    work(experiment.planned[:1])
    assert state_of(experiment.planned[0]) == "begun"


def test_a_run_that_was_stopped_after_its_end_is_done(
    experiment: Experiment, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake("import atexit, os\natexit.register(os._exit, 143)")
    work(experiment.planned[:1])
    assert state_of(experiment.planned[0]) == "done"
    assert f"{experiment.planned[0].name}: done" in capsys.readouterr().err


def test_a_run_that_somebody_looks_at_is_not_forgotten(
    experiment: Experiment, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A glance holds the lock for a moment: no reason to leave the run out."""
    begun, calls = jobs.begin, []

    def begin(planned: Planned, *arguments: object, **options: object) -> object:
        calls.append(planned)
        return None if len(calls) == 1 else begun(planned, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "begin", begin)
    work(experiment.planned[:1])
    assert state_of(experiment.planned[0]) == "done"


@pytest.mark.parametrize("sign", ["SIGKILL", "SIGTERM"])
def test_a_run_that_is_killed_is_no_failure_and_goes_on(
    experiment: Experiment, fake: Fake, sign: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(f"import os, signal\nif len(list(folder.parent.glob('num*'))) == 1: os.kill(os.getpid(), signal.{sign})")
    work(experiment.planned[:2])
    assert states(experiment)[:2] == ["begun", "done"]
    assert ("memory" in capsys.readouterr().err) == (sign == "SIGKILL")
    fake("")
    work(experiment.planned[:2])
    assert states(experiment)[:2] == ["done", "done"]


def test_a_full_disk_stops_the_sweep_and_is_no_failure_of_the_run(experiment: Experiment, fake: Fake) -> None:
    fake("if len(list(folder.parent.glob('num*'))) == 2: sys.exit('error: [Errno 28] No space left on device')")
    with pytest.raises(OSError, match=r"No space left on device; make room"):
        work(experiment.planned)
    assert states(experiment) == ["done", "begun", "missing", "missing"]
    fake("")
    work(experiment.planned)
    assert states(experiment) == ["done"] * 4


def test_no_run_is_started_that_the_disk_has_no_room_for(experiment: Experiment, fake: Fake) -> None:
    with pytest.raises(OSError, match=r"a run needs 1073741824\.00 GiB"):
        work(experiment.planned, needed=2.0**60)
    assert states(experiment) == ["missing"] * 4


def test_the_last_words_are_those_of_the_last_attempt(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert last_words(log) == ""
    log.write_text("$ python -m salmonn_lab.fit\nerror: old\n$ python -m salmonn_lab.fit\n" + "step\n" * 40)
    assert last_words(log) == "\n".join(["step"] * jobs.LAST_LINES)
    log.write_bytes(b"$ python -m x\nerror: \xff new\n\nand more\n")
    assert last_words(log) == "error: \ufffd new\nand more"


def test_runs_at_the_same_time_share_threads_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert share_of_machine(0, 1) == {}
    assert share_of_machine(1, 2) == {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "5,7"}
    assert [share_of_machine(place, 6)["CUDA_VISIBLE_DEVICES"] for place in range(6)] == ["4", "5", "6", "7", "4", "5"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert share_of_machine(1, 2) == {}


WORKS = {
    "num_queries=1": Work({"Bridge": 10, "LanguageModel": 90}, 30, 0.5, 7),
    "num_queries=2": Work({"Bridge": 20, "LanguageModel": 180}, 60, 0.5, 7),
}


def test_what_a_probe_took_is_scaled_by_operations(experiment: Experiment) -> None:
    experiment.planned[0].config.optim.align_steps = experiment.planned[2].config.optim.align_steps = 10
    for run in experiment.planned:
        run.config.trainer["max_steps"] = 110
    found = estimates(experiment, WORKS, Pace(0.5, 2.0, 3.0, 1.25, 1000))
    assert [cost.seconds for cost in found.values()] == [3 + 5 + 200, 3 + 2 * 205]
    assert {(cost.memory_gib, cost.disk_bytes, cost.source) for cost in found.values()} == {(1.25, 1000, "probe")}
    for run in experiment.planned:
        run.config.evaluation.benchmarks, run.config.evaluation.before = ["a", "data/b.jsonl"], ["a"]
        run.config.features = "runs/features"
    measured = Pace(0.5, 2.0, 3.0, 1.25, 1000, {"a": 7.0, "b": 11.0, "c": 100.0}, 50.0)
    found = estimates(experiment, WORKS, measured)
    assert [cost.measuring for cost in found.values()] == [7 + 11 + 7, 2 * (7 + 11 + 7)]
    assert [cost.seconds for cost in found.values()] == [3 + 5 + 200 + 25, 3 + 2 * (205 + 25)]
    assert {cost.encoding for cost in found.values()} == {50.0}
    assert estimates(experiment, {}, Pace(0.5, 2.0, 3.0, 1.25, 1000)) == {}
    assert estimates(experiment, WORKS, None) == {}


def test_what_finished_runs_took_is_known_and_tells_of_the_others(experiment: Experiment, fake: Fake) -> None:
    work(experiment.planned[:2])
    found = estimates(experiment, WORKS, None)
    assert [(cost.seconds, cost.source) for cost in found.values()] == [(1, "finished runs"), (2, "finished runs")]
    assert found["num_queries=1"].disk_bytes > 50


@pytest.fixture
def command(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process; return its exit code, and what it printed."""
    monkeypatch.setattr(sweep, "work_of", lambda config: WORKS[f"num_queries={config.model.bridge.num_queries}"])
    monkeypatch.setattr(sweep, "probe", lambda experiment: Pace(0.5, 2.0, 3.0, 1.25, 1000))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sweep", str(experiment.folder), *arguments])
        code = 0
        try:
            run_command(sweep.main)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_list_shows_states_costs_and_the_last_words_of_failures(
    experiment: Experiment, fake: Fake, command: Callable[..., tuple[int, str, str]]
) -> None:
    _, _, listed = command()
    assert "How many?" in listed
    assert listed.count("missing") == 5
    assert "4 runs to do: about" in listed
    assert "by probe (with 0 s of measuring; validation and checkpoints come on top); " in listed
    assert states(experiment) == ["missing"] * 4
    fake("if 'seed=1' in folder.name: sys.exit('error: no [b]luck[/b]')")
    code, _, listed = command("--run", "--jobs", "2")
    assert code == 1
    assert "2 failed: num_queries=1,seed=1, num_queries=2,seed=1" in listed
    code, _, listed = command()
    assert code == 0
    assert "num_queries=1,seed=1: error: no [b]luck[/b]" in listed
    assert "2 done, 2 failed" in listed


def test_only_some_runs_may_be_asked_for(
    experiment: Experiment, fake: Fake, command: Callable[..., tuple[int, str, str]]
) -> None:
    assert command("--run", "--only", "*seed=1")[0] == 0
    assert states(experiment) == ["missing", "done", "missing", "done"]
    code, _, said = command("--only", "seed=7")
    assert code == 2
    assert "--only seed=7: no run has such a name" in said
    assert command("--jobs", "0")[0] == 2


def test_the_commands_of_what_is_to_do_can_be_printed_and_typed(
    experiment: Experiment, command: Callable[..., tuple[int, str, str]]
) -> None:
    _, printed, _ = command("--print")
    assert printed.splitlines() == [run.typed() for run in experiment.planned]
    assert printed.startswith("python -m salmonn_lab.fit --config ")
    assert "model.bridge.num_queries=1 seed=0 out_dir=" in printed


def test_a_probe_that_fails_is_told_and_nothing_else_ends(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(experiment: Experiment) -> Pace:
        raise ValueError("error: no such data")

    monkeypatch.setattr(sweep, "probe", fails)
    code, _, listed = command()
    assert code == 0
    assert "no estimate of time: the probe failed: error: no such data" in listed
    assert "0.5 GiB" in listed


def test_features_are_encoded_before_the_first_run_once_for_each_set_of_encoders(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def call(words: list[str]) -> int:
        called.append(words)
        return 0

    monkeypatch.setattr(sweep, "call", call)
    sweep.encode_features(experiment, experiment.planned)
    assert called == []
    monkeypatch.setattr(sweep, "asdict", lambda config: {sweep.STORE: "store"})
    sweep.encode_features(experiment, experiment.planned)
    assert [words[1:] for words in called] == [
        ["-m", "salmonn_lab.encode", "--config", str(experiment.folder / "base.yaml")]
    ]


def test_what_a_model_costs_is_that_of_its_skeleton_and_equal_parts_are_made_once(
    tiny_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    language_model = estimate.LanguageModel

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append("LLM")
        return language_model(*arguments, **options)

    monkeypatch.setattr(estimate, "LanguageModel", counted)
    monkeypatch.setattr(estimate, "SKELETONS", {})
    for queries in (1, 2, 3):
        config = RunConfig(model=replace(tiny_config, bridge=replace(tiny_config.bridge, num_queries=queries)))
        model = Salmonn.skeleton(config.model)
        parts = part_costs(model.encoders, model.bridge, model.llm, None, estimate.CLIP)
        work_found = estimate.work_of(config)
        assert work_found.flops == {part.name: part.flops + part.backward for part in parts}
        assert work_found.tokens == 30 * queries
        assert work_found.trainable == sum(part.trainable for part in parts)
    assert made == ["LLM"]


# With real runs


@pytest.mark.slow
def test_a_sweep_killed_twice_with_its_runs_ends_as_one_that_was_never_stopped(
    settings: Path, corpus: Path, tmp_path: Path
) -> None:
    """Once the sweep alone, whose run goes on; once both."""
    runs = "grid({'model.bridge.num_queries': [1, 2], 'seed': [0]})"
    folder = tiny_experiment(tmp_path / "killed", settings, corpus, runs, steps=60)
    straight = tiny_experiment(tmp_path / "straight", settings, corpus, runs, steps=60)
    words = [sys.executable, "-m", "salmonn_lab.sweep", "--run", "--no-probe"]
    experiment = load_experiment(folder)
    first, second = experiment.planned
    for _ in range(2):
        process = subprocess.Popen([*words, str(folder)], stderr=subprocess.DEVNULL)
        run = second if first.done() else first
        wait_for(lambda run=run: run.run.checkpoint.is_file() or run.done(), 300)  # type: ignore[misc]
        process.kill()
        process.wait()
    orphans = subprocess.run(["pgrep", "-f", f"out_dir={folder}"], capture_output=True, text=True).stdout.split()
    for orphan in orphans:
        os.kill(int(orphan), signal.SIGKILL)
    for target in (folder, straight):
        ended = subprocess.run([*words, str(target)], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
    assert [state_of(run) for run in load_experiment(folder).planned] == ["done", "done"]
    assert len(list((folder / "runs").glob("*/config.yaml"))) == 2
    for run, other in zip(load_experiment(folder).planned, load_experiment(straight).planned, strict=True):
        answers = [without_times(one.folder / "predictions/corpus.jsonl") for one in (run, other)]
        assert answers[0] == answers[1]
        assert (run.folder / "scores.json").read_text() == (other.folder / "scores.json").read_text()


@pytest.mark.slow
def test_a_probe_of_the_baseline_measures_its_steps_once(
    settings: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "PROBE_SECONDS", 2)
    experiment = load_experiment(
        tiny_experiment(tmp_path / "x", settings, corpus, "[{'model.bridge.num_queries': 1}]", steps=100_000)
    )
    pace = estimate.probe(experiment)
    assert 0 < pace.step_seconds < 2
    assert pace.checkpoint_bytes == (experiment.runs_folder / ".probe/training/checkpoints/last.ckpt").stat().st_size
    assert pace.memory_gib > 0.2
    assert [state_of(run) for run in experiment.planned] == ["missing"]
    monkeypatch.setattr(jobs, "start", None)  # nothing may be started any more
    assert estimate.probe(experiment) == pace
    monkeypatch.undo()
    (experiment.folder / "base.yaml").write_text(
        (experiment.folder / "base.yaml").read_text().replace(str(corpus), "absent.jsonl")
    )
    with pytest.raises(ValueError, match=r"absent\.jsonl"):
        estimate.probe(load_experiment(experiment.folder))


@pytest.mark.slow
def test_the_estimate_of_a_probe_holds_measuring_and_encoding(
    settings: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "PROBE_SECONDS", 4)
    folder = tiny_experiment(tmp_path / "queries", settings, corpus, "grid({'model.bridge.num_queries': [1, 2]})", 40)
    base = yaml.safe_load((folder / "base.yaml").read_text())
    base["evaluation"] = {"benchmarks": [str(corpus)]}
    base["features"], base["checkpoint_every"] = str(tmp_path / "features"), 1000
    base["data"]["validation"] = []
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    experiment = load_experiment(folder)
    pace = estimate.probe(experiment)
    found = estimates(experiment, sweep.works_of(experiment), pace)["num_queries=1"]
    assert pace.measuring["corpus"] > 0.01, "seconds; a bound that no machine is too fast for"
    assert found.encoding > 0
    assert found.measuring == pytest.approx(2 * pace.measuring["corpus"]), "before training and after"
    assert found.seconds > found.measuring + pace.start_seconds
