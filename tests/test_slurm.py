"""Runs as Slurm jobs: what `--slurm` takes, submitit's local executor, and a real cluster of one node."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from samples import tiny_experiment

from salmonn_lab.experiment import Experiment, Planned, load_experiment
from salmonn_lab.jobs import PROMPT, state_of, work
from salmonn_lab.slurm import read_options, submit

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol", "mungekey")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]


def test_options_are_read_and_mistakes_named() -> None:
    assert read_options("partition=gpu,gpus=1,time=240") == {"partition": "gpu", "gpus": 1, "time": 240}
    assert read_options("") == {}
    assert read_options("cluster=local") == {"cluster": "local"}
    for text, message in {
        "partiton=gpu": "Did you mean 'partition'",
        "time=soon": "time must be a whole number, got 'soon'",
        "gpus": "got 'gpus'",
        "cluster=moon": "cluster must be slurm or local",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_options(text)


@pytest.fixture
def experiment(settings: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Return an experiment of six runs."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return load_experiment(six_runs(tmp_path / "seeds", settings, corpus))


def six_runs(folder: Path, settings: Path, corpus: Path) -> Path:
    runs = "grid({'model.bridge.num_queries': [1], 'seed': [0, 1, 2, 3, 4, 5]})"
    return tiny_experiment(folder, settings, corpus, runs, steps=100)


def starts(run: Planned) -> list[bool]:
    """Return for each time that a run was started whether it was resumed, as its log has it."""
    return ["--resume" in line for line in run.log.read_text().splitlines() if line.startswith(PROMPT)]


def wait_until(condition: object, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.5)


@pytest.mark.slow
def test_the_local_executor_takes_the_same_path(experiment: Experiment) -> None:
    pytest.importorskip("submitit")
    pending = experiment.planned[:2]
    submitted = submit(pending, experiment.runs_folder / ".slurm", {"cluster": "local", "time": 10}, 2)
    assert [job.result() for job in submitted] == ["done", "done"]
    assert [starts(run) for run in pending] == [[False], [False]]
    assert all(run.done() for run in pending)


CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={first}
SlurmdPort={second}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=2,requeue_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Start munged, slurmctld and slurmd for this test alone; stop them afterwards."""
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    text = CONFIGURATION.format(
        host=socket.gethostname().split(".")[0], folder=folder, first=free_port(), second=free_port()
    )
    (folder / "slurm.conf").write_text(text)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    subprocess.run(["mungekey", "--create", "--force", f"--keyfile={folder}/munge.key"], check=True)
    munged = ["munged", "--force", "--foreground", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"]
    munged += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    processes = [subprocess.Popen(munged)]
    try:
        wait_until((folder / "munge.socket").exists, 60)
        processes.append(subprocess.Popen(["slurmctld", "-D"], stderr=subprocess.DEVNULL))
        processes.append(subprocess.Popen(["slurmd", "-D"], stderr=subprocess.DEVNULL))
        wait_until(lambda: "idle" in told("sinfo", "-h", "-o", "%t"), 120)
        yield folder
        subprocess.run(["scancel", "--user=root"], check=False)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(60)


def told(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs Debian's slurm-wlm and munge; there is no {', '.join(MISSING)}")
@pytest.mark.skipif(os.geteuid() != 0, reason="slurmd is started as root")
def test_six_runs_of_an_array_are_done_though_one_is_preempted(
    experiment: Experiment, cluster: Path, settings: Path, corpus: Path, tmp_path: Path
) -> None:
    pytest.importorskip("submitit")
    options = {"partition": "main", "time": 30, "cpus": 1}
    submitted = submit(experiment.planned, experiment.runs_folder / ".slurm", options, 2)
    preempted = experiment.planned[3]
    wait_until(preempted.run.checkpoint.is_file)
    assert state_of(preempted) == "running"
    (job,) = [job for job, run in zip(submitted, experiment.planned, strict=True) if run is preempted]
    job._interrupt()  # SIGTERM, then the signal of preemption, as Slurm sends them
    wait_until(lambda: state_of(preempted) == "begun")
    reached = torch.load(preempted.run.checkpoint, weights_only=True)["global_step"]
    assert 0 < reached < 100, "it was stopped too late to show anything"
    wait_until(lambda: all(run.done() for run in experiment.planned))
    assert [starts(run) for run in experiment.planned] == [[False]] * 3 + [[False, True]] + [[False]] * 2
    assert [json.loads(run.run.scores.read_text())[0]["benchmark"] for run in experiment.planned] == ["corpus"] * 6

    straight = load_experiment(six_runs(tmp_path / "straight", settings, corpus)).planned[3]
    work([straight])
    weights, wanted = (torch.load(run.run.checkpoint, weights_only=True)["state_dict"] for run in (preempted, straight))
    assert weights.keys() == wanted.keys()
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)

    again = submit(experiment.planned[:1], experiment.runs_folder / ".slurm", options, 2)
    assert again[0].result() == "done"
    assert starts(experiment.planned[0]) == [False]
