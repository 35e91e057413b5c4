"""Commands that are stopped by a signal at any stage: one line, an exit code of their own, no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from samples import few_fast, tiny_experiment

from salmonn_lab.experiment import load_experiment
from salmonn_lab.jobs import state_of
from salmonn_lab.signals import Stopped, StopSignals

SIGNS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated"), signal.SIGHUP: (129, "hung up")}
TOY = """
import subprocess, sys, time
from pathlib import Path
from salmonn_lab.console import run_command
here = Path(sys.argv[1])

def ready():
    (here / "ready").touch()
    time.sleep(60)

def plain():
    ready()

def lightning():
    try:
        ready()
    except KeyboardInterrupt:
        sys.exit(1)

def workers():
    try:
        ready()
    except KeyboardInterrupt:
        raise RuntimeError("DataLoader worker (pid 7) exited unexpectedly")

def parent():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (here / "child").write_text(str(child.pid))
    ready()

def slow_to_end():
    try:
        ready()
    finally:
        (here / "ending").touch()
        time.sleep(1)
        (here / "ended").touch()

run_command(globals()[sys.argv[2]], "it goes on")
"""
"""A command that takes no time to start, and what libraries make of a stop."""
STAGES = """
import time
from pathlib import Path
here, stage, module = Path({here!r}), {stage!r}, {module!r}

def pause(owner, name, calls=1):
    original, count = getattr(owner, name), [0]
    def paused(*arguments, **options):
        count[0] += 1
        if count[0] == calls:
            (here / "ready").touch()
            time.sleep(120)
        return original(*arguments, **options)
    setattr(owner, name, paused)

from salmonn_lab import encode, evaluate, fit, report, runs
from salmonn_lab.salmonn import Salmonn
if stage == "preparation":
    pause(runs, "localize")
elif stage == "encoding":
    pause(encode.ClipEncoder, "predict_step")
elif stage == "training":
    pause(Salmonn, "training_step", 3)
elif stage == "validation":
    pause(Salmonn, "validation_step", 4)
elif stage == "checkpoint":
    pause(fit.DurableCheckpointIO, "save_checkpoint", 2)
elif stage == "measuring":
    pause(Salmonn, "predict_step")
elif stage == "report":
    pause(report, "write_report")
from importlib import import_module
from salmonn_lab.console import run_command
run_command(import_module(module).main, "it goes on")
"""
"""One of the kit's commands, which waits where it is to be stopped."""


def start(script: str, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start a script in a process group of its own, whose signals do what they do in a terminal."""
    file = folder / "script.py"  # a file, for Lightning to start a second process with
    file.write_text(script)
    return subprocess.Popen(
        [sys.executable, str(file), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell in the background ignores it
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def start_command(folder: Path, stage: str, name: str, *arguments: object) -> subprocess.Popen[str]:
    """Start one of the kit's commands, which waits at a stage once it has made a file `ready` in a folder."""
    script = STAGES.format(here=str(folder), stage=stage, module=f"salmonn_lab.{name}")
    return start(script, folder, *arguments)


def wait_for(file: Path, process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{file} did not come"
        time.sleep(0.01)


def stop(process: subprocess.Popen[str], number: signal.Signals, *, whole_group: bool = False) -> tuple[int, str]:
    """Send a signal, and return the exit code and what the process said; nothing of its group may live on."""
    (os.killpg if whole_group else os.kill)(process.pid, number)
    said, _ = process.communicate(timeout=60)
    left = [other.pid for other in psutil.process_iter() if group_of(other.pid) == process.pid]
    psutil.wait_procs([psutil.Process(pid) for pid in left if psutil.pid_exists(pid)], timeout=8)
    left = [pid for pid in left if psutil.pid_exists(pid) and group_of(pid) == process.pid]
    assert not left, "processes were left behind"
    return process.returncode, said


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.parametrize("number", SIGNS)
def test_each_signal_has_its_exit_code_and_one_line(number: signal.Signals, tmp_path: Path) -> None:
    code, word = SIGNS[number]
    process = start(TOY, tmp_path, tmp_path, "plain")
    wait_for(tmp_path / "ready", process)
    assert stop(process, number) == (code, f"{word}; it goes on\n")


@pytest.mark.parametrize("command", ["lightning", "workers"])
def test_what_libraries_make_of_a_stop_is_still_a_stop(command: str, tmp_path: Path) -> None:
    process = start(TOY, tmp_path, tmp_path, command)
    wait_for(tmp_path / "ready", process)
    assert stop(process, signal.SIGTERM) == (143, "terminated; it goes on\n")


def test_the_processes_of_a_command_end_with_it(tmp_path: Path) -> None:
    process = start(TOY, tmp_path, tmp_path, "parent")
    wait_for(tmp_path / "ready", process)
    child = int((tmp_path / "child").read_text())
    assert stop(process, signal.SIGTERM)[0] == 143
    assert not psutil.pid_exists(child)


def test_a_second_signal_does_not_cut_the_ending_short(tmp_path: Path) -> None:
    process = start(TOY, tmp_path, tmp_path, "slow_to_end")
    wait_for(tmp_path / "ready", process)
    process.send_signal(signal.SIGINT)
    wait_for(tmp_path / "ending", process)
    assert stop(process, signal.SIGTERM) == (130, "interrupted; it goes on\n")
    assert (tmp_path / "ended").exists()


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(TOY)
    words = ["nohup", sys.executable, str(file), str(tmp_path), "plain"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(tmp_path / "ready", process)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.terminate()
    assert process.communicate()[0].endswith("terminated; it goes on\n")


QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


@pytest.mark.parametrize("number", few_fast(SIGNS, 1))
def test_a_command_that_is_still_importing_ends_with_one_line(number: signal.Signals) -> None:
    code, word = SIGNS[number]
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "salmonn_lab.encode", "--config", str(QUICKSTART), "features=store"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    while " torch." not in (line := process.stderr.readline()):
        assert line, "it ended before it was stopped"
    process.send_signal(number)
    said = [line for line in process.communicate()[1].splitlines() if not line.startswith("import time:")]
    assert (process.returncode, said) == (code, [word])


def test_the_library_leaves_the_signals_of_other_programs_alone() -> None:
    code = "import signal; before = signal.getsignal(15); import salmonn_lab; assert signal.getsignal(15) is before"
    subprocess.run([sys.executable, "-c", code, "-m", "salmonn_lab.fit"], check=True)


def test_a_stop_that_went_unheard_is_raised_at_the_next_look() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stops:
        stops.check()
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="SIGTERM"):
            stops.check()
    assert signal.getsignal(signal.SIGTERM) is before


# With the kit's commands


FIT = [
    ("preparation", {}),
    ("encoding", {"features": True}),
    ("training", {}),
    ("training", {"data.num_workers": 2}),
    ("validation", {}),
    ("checkpoint", {}),
    ("measuring", {"evaluation.before": "all"}),
    ("measuring", {}),
    ("report", {}),
]


def fit_words(settings: Path, corpus: Path, tmp_path: Path, options: dict[str, object]) -> list[object]:
    words: list[object] = ["--config", settings, f"evaluation.benchmarks=[{corpus}]"]
    if "evaluation.before" not in options:
        words.append("evaluation.before=[]")
    else:
        words.append(f"evaluation.before=[{corpus}]")
    if "features" in options:
        words.append(f"features={tmp_path / 'features'}")
    return [*words, *(f"{key}={value}" for key, value in options.items() if key.startswith("data."))]


@pytest.mark.slow
def test_training_that_is_terminated_says_so_and_is_no_success(settings: Path, corpus: Path, tmp_path: Path) -> None:
    words = fit_words(settings, corpus, tmp_path, {})
    process = start_command(tmp_path, "training", "fit", *words)
    wait_for(tmp_path / "ready", process)
    code, said = stop(process, signal.SIGTERM)
    assert (code, said.splitlines()[-1]) == (143, "terminated; it goes on")
    assert "Traceback" not in said
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, True], ids=["the process", "its group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("stage", "options"), FIT)
def test_fit_stopped_at_any_stage(
    stage: str,
    options: dict[str, object],
    number: signal.Signals,
    whole_group: bool,
    settings: Path,
    corpus: Path,
    tmp_path: Path,
) -> None:
    code, word = SIGNS[number]
    process = start_command(tmp_path, stage, "fit", *fit_words(settings, corpus, tmp_path, options))
    wait_for(tmp_path / "ready", process)
    ended, said = stop(process, number, whole_group=whole_group)
    assert (ended, said.splitlines()[-1]) == (code, f"{word}; it goes on")
    assert "Traceback" not in said
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["encoding", "measuring"])
def test_two_devices_stop_together(
    stage: str, number: signal.Signals, settings: Path, corpus: Path, tmp_path: Path
) -> None:
    code, word = SIGNS[number]
    options = {"features": True} if stage == "encoding" else {}
    words = [*fit_words(settings, corpus, tmp_path, options), "trainer.devices=2", "trainer.strategy=ddp"]
    process = start_command(tmp_path, stage, "fit", *words)
    wait_for(tmp_path / "ready", process)
    ended, said = stop(process, number)
    assert (ended, said.splitlines()[-1]) == (code, f"{word}; it goes on")
    assert said.count(word) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_encode_and_evaluate_stop_and_go_on(
    number: signal.Signals, settings: Path, corpus: Path, tmp_path: Path
) -> None:
    code, word = SIGNS[number]
    encode = ["--config", settings, f"features={tmp_path / 'features'}"]
    evaluate = ["--run", tmp_path / "run", f"benchmarks=[{corpus}]"]
    fit = subprocess.run([sys.executable, "-m", "salmonn_lab.fit", "--config", settings, "evaluation.before=[]"])
    assert fit.returncode == 0
    for stage, module, words in (("encoding", "encode", encode), ("measuring", "evaluate", evaluate)):
        process = start_command(tmp_path, stage, module, *words)
        wait_for(tmp_path / "ready", process)
        ended, said = stop(process, number)
        assert (ended, said.splitlines()[-1]) == (code, f"{word}; it goes on")
        assert "Traceback" not in said
        again = subprocess.run([sys.executable, "-m", f"salmonn_lab.{module}", *map(str, words)])
        assert again.returncode == 0
        (tmp_path / "ready").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_stopped_in_training_goes_on_with_the_same_command(
    number: signal.Signals, settings: Path, corpus: Path, tmp_path: Path
) -> None:
    code, word = SIGNS[number]
    folder = tiny_experiment(tmp_path / "queries", settings, corpus, "[{'model.bridge.num_queries': 1}]", steps=300)
    (planned,) = load_experiment(folder).planned
    process = start_command(tmp_path, "sweep", "sweep", folder, "--run", "--no-probe")
    wait_for(planned.run.checkpoint, process)
    assert state_of(planned) == "running"
    ended, said = stop(process, number)
    assert (ended, said.splitlines()[-1]) == (code, f"{word}; it goes on")
    assert ": done" not in said
    assert state_of(planned) == "begun"
    assert planned.log.read_text().splitlines()[-1].startswith("terminated; ")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_by_hand_is_no_failure_of_its_sweep(
    number: signal.Signals, settings: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = tiny_experiment(tmp_path / "queries", settings, corpus, "[{'model.bridge.num_queries': 1}]", steps=300)
    (planned,) = load_experiment(folder).planned
    process = start_command(tmp_path, "sweep", "sweep", folder, "--run", "--no-probe")
    wait_for(planned.run.checkpoint, process)
    (run,) = (child for child in psutil.Process(process.pid).children() if "salmonn_lab.fit" in child.cmdline())
    run.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"{planned.name}: stopped; the same command goes on with it" in said
    assert ": done" not in said
    assert state_of(planned) == "begun"
