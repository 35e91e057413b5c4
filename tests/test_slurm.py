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

from salmonn_lab.experiment import Experiment, load_experiment
from salmonn_lab.jobs import state_of
from salmonn_lab.slurm import read_options, submit

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol", "mungekey")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
FIT = """
import json, os, pathlib, sys, time
values = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
folder = pathlib.Path(values["out_dir"])
with (folder.parent / "starts.txt").open("a") as file:
    file.write(folder.name + (" resumed" if "--resume" in sys.argv else " new") + chr(10))
assert os.environ["SLURM_JOB_NAME"] == "interactive"
(folder / "config.yaml").write_text(pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
if "--resume" not in sys.argv and "seed=3" in sys.argv:
    time.sleep(600)
time.sleep(1)
(folder / "provenance.json").write_text(json.dumps({"seconds": {"measuring after": 1.0}}))
(folder / "scores.json").write_text("[]")
"""
"""What stands for `salmonn_lab.fit` in a job: the run with seed 3 works until it is stopped, and is quick when it comes
back."""


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
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Return an experiment of six runs; in jobs, `fit` is the stand-in, everything else of the kit is real."""
    package = Path(__file__).parents[1] / "salmonn_lab"
    shadow = tmp_path / "shadow" / "salmonn_lab"
    shadow.mkdir(parents=True)
    for entry in package.iterdir():
        if entry.name not in ("fit.py", "__pycache__"):
            (shadow / entry.name).symlink_to(entry)
    (shadow / "fit.py").write_text(FIT)
    path = os.pathsep.join([str(shadow.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.chdir(tmp_path)  # `python -m` looks there first
    folder = tmp_path / "seeds"
    folder.mkdir()
    (folder / "base.yaml").write_text("checkpoint_every: 7\n")
    (folder / "sweep.py").write_text(
        '"""Which seed?"""\nfrom salmonn_lab.experiment import Sweep, grid\n'
        f"SWEEP = Sweep(base={str(folder / 'base.yaml')!r}, baseline={{}}, runs=grid({{'seed': [0, 1, 2, 3, 4, 5]}}))\n"
    )
    return load_experiment(folder)


def starts(experiment: Experiment) -> list[str]:
    return sorted((experiment.runs_folder / "starts.txt").read_text().splitlines())


def wait_until(condition: object, seconds: float = 300.0) -> None:
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
    assert starts(experiment) == ["seed=0 new", "seed=1 new"]


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
def test_six_runs_of_an_array_are_done_though_one_is_preempted(experiment: Experiment, cluster: Path) -> None:
    pytest.importorskip("submitit")
    options = {"partition": "main", "time": 30, "cpus": 1}
    submitted = submit(experiment.planned, experiment.runs_folder / ".slurm", options, 2)
    slow = experiment.planned[3]
    wait_until(slow.run.config_file.is_file)
    assert state_of(slow) == "running"
    (job,) = [job for job, run in zip(submitted, experiment.planned, strict=True) if run is slow]
    job._interrupt()  # SIGTERM, then the signal of preemption, as Slurm sends them
    wait_until(lambda: all(run.done() for run in experiment.planned))
    assert starts(experiment) == [
        *(f"seed={seed} new" for seed in range(4)),
        "seed=3 resumed",
        "seed=4 new",
        "seed=5 new",
    ]
    assert [json.loads(run.run.scores.read_text()) for run in experiment.planned] == [[]] * 6
    again = submit(experiment.planned[:1], experiment.runs_folder / ".slurm", options, 2)
    assert again[0].result() == "done"
    assert len(starts(experiment)) == 7
