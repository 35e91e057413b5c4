"""Kills commands at random moments, alone and two at a time, and compares what they end with: `python tests/kills.py`.

The libraries are imported once: each command runs in a fork of this process, so that a kill meets its work, not its
imports. The sweep's runs are processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import soundfile
import torch
import yaml
from samples import WORDS, tiny_experiment, waveform, without_times

from salmonn_lab import assets, encode, evaluate, fit, runs, sweep, tiny
from salmonn_lab.assets.table import ASSETS, Asset
from salmonn_lab.batch import Example, Segment
from salmonn_lab.config import load_config
from salmonn_lab.console import run_command
from salmonn_lab.data.manifest import write_manifest
from salmonn_lab.experiment import load_experiment

CLIPS = 10
TOY = {f"part/{number}.bin": bytes([number]) * 50_000 for number in range(40)}
FINISHED = 600.0
"""Seconds after which a command that nobody kills is taken for stuck."""


@dataclass
class Kind:
    """A command, what it leaves behind, and what it says where another process is at the same work."""

    command: Callable[[Path], tuple[Callable[[], None], list[str]]]
    """Of a folder, its main and its arguments."""
    outcome: Callable[[Path], Any]
    """Of a folder, what must be as if nothing had happened."""
    refused: tuple[int, ...] = ()
    """Exit codes beside 0 with which the second of two may end."""
    prepare: Callable[[Path], None] = lambda folder: None


def build_toy(folder: Path, parts: Any, report: Callable[[str, int, int], None]) -> None:
    """Write the toy asset, slowly enough to be killed in it."""
    (folder / "part").mkdir()
    for number, (name, content) in enumerate(TOY.items()):
        (folder / name).write_bytes(content)
        report("writing", number, len(TOY))
        time.sleep(0.01)


def write_settings(folder: Path) -> tuple[Path, Path]:
    """Write the miniature model, a corpus and a config; return the config and the manifest."""
    tiny.write(folder)
    examples = []
    for index in range(CLIPS):
        seconds = 0.4 + 0.1 * index
        soundfile.write(folder / f"{index}.flac", waveform(seconds, index), 16_000)
        segment = Segment(str(folder / f"{index}.flac"))
        examples.append(Example(f"clip-{index}", (segment,), "asr", WORDS[index % len(WORDS)], duration=seconds))
    corpus = folder / "corpus.jsonl"
    write_manifest(corpus, examples)
    values = {
        "out_dir": "unset",
        "model": {
            "whisper": {"checkpoint": str(folder / "whisper")},
            "audio_encoder": {"kind": "yamnet", "checkpoint": str(folder / "yamnet")},
            "bridge": {"num_layers": 1, "hidden_dim": 32, "num_heads": 4, "span": "clip"},
            "llm": {"checkpoint": str(folder / "llm"), "dtype": "float32"},
            "lora": {"rank": 2},
        },
        "data": {
            "sources": [{"manifest": str(corpus)}],
            "validation": [{"manifest": str(corpus)}],
            "max_batch_size": 2,
            "num_workers": 0,
        },
        "evaluation": {"benchmarks": [str(corpus)], "before": []},
        "optim": {"lr": 0.01, "warmup_steps": 2},
        "trainer": {"max_steps": 12, "precision": "32-true", "accelerator": "cpu", "log_every_n_steps": 1},
        "loggers": {"tensorboard": None},
        "checkpoint_every": 3,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path, corpus


def kinds(config: Path, corpus: Path, trained: Path) -> dict[str, Kind]:
    """The commands by name."""

    def encoded(folder: Path) -> Any:
        settled = load_config([config], [f"features={folder / 'store'}"])
        store = encode.open_store(settled, encode.load_encoders(settled))
        left = [path.name for path in (folder / "store").rglob("*") if path.suffix in (".torn", ".foreign", ".tmp")]
        store.scan(verify=True)
        clips = encode.clips_of(settled)
        missing = store.find(clips, encode.reader(settled.data))
        frames = [[part.vectors.clone() for part in store.frames(clip)] for clip in clips] if not missing else []
        return left, len(missing), frames

    def measured(folder: Path) -> Any:
        place = folder / "run" / "predictions"
        return (
            sorted(path.name for path in place.iterdir()),
            sorted(path.name for path in (folder / "run").glob(".*")),
            sorted(path.name for path in (folder / "run").glob("report.*")),
            without_times(place / "corpus.jsonl"),
            (folder / "run" / "scores.json").read_text(),
        )

    def fitted(folder: Path) -> Any:
        run = runs.Run(folder / "run")
        weights = torch.load(run.checkpoint, weights_only=True)["state_dict"]
        best = torch.load(run.checkpoint.with_name("best.ckpt"), weights_only=True)["global_step"]
        rows = (run.folder / "metrics.csv").read_text().splitlines()
        return (
            sorted(weights),
            [weights[name] for name in sorted(weights)],
            best,
            len(rows),
            sorted(path.name for path in run.checkpoint.parent.iterdir()),
            sorted(run.provenance().keys() - {"seconds"}),
            measured(folder),
        )

    def fetched(folder: Path) -> Any:
        place = folder / "cache" / "toy-v1"
        stamp = json.loads((place / "asset.json").read_text())
        return (
            sorted(path.name for path in (folder / "cache").iterdir() if path.suffix != ".lock"),
            {name: (place / name).read_bytes() == content for name, content in TOY.items()},
            stamp["sha256"],
        )

    def swept(folder: Path) -> Any:
        planned = load_experiment(folder / "experiment").planned
        return [
            (run.done(), run.failure.exists(), without_times(run.folder / "predictions/corpus.jsonl"))
            for run in planned
        ]

    def fetch(folder: Path) -> tuple[Callable[[], None], list[str]]:
        def main() -> None:
            os.environ["SALMONN_LAB_CACHE"] = str(folder / "cache")
            ASSETS["toy"] = Asset("toy", "a toy", "CC0", (), build_toy, 1)
            assets.fetch("toy")

        return main, ["assets"]

    def runs_of(folder: Path) -> None:
        axes = "grid({'model.bridge.num_queries': [1, 2], 'seed': [0]})"
        tiny_experiment(folder / "experiment", config, corpus, axes, steps=40)

    def copy_run(folder: Path) -> None:
        shutil.copytree(trained, folder / "run")

    out = "out_dir={}/run".format
    return {
        "encode": Kind(
            lambda folder: (encode.main, ["encode", "--config", str(config), f"features={folder / 'store'}"]), encoded
        ),
        "evaluate": Kind(
            lambda folder: (evaluate.main, ["evaluate", "--run", f"{folder}/run", f"benchmarks=[{corpus}]"]),
            measured,
            (2,),
            copy_run,
        ),
        "fit": Kind(lambda folder: (fit.main, ["fit", "--config", str(config), out(folder), "--resume"]), fitted, (2,)),
        "assets": Kind(fetch, fetched),
        "sweep": Kind(
            lambda folder: (sweep.main, ["sweep", f"{folder}/experiment", "--run", "--no-probe"]),
            swept,
            prepare=runs_of,
        ),
    }


def start(kind: Kind, folder: Path, log: Path) -> int:
    """Start a command in a fork, in a session of its own; return its process."""
    main, arguments = kind.command(folder)
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        sys.stdout = sys.stderr = log.open("a", buffering=1)
        os.dup2(sys.stdout.fileno(), 1)
        os.dup2(sys.stdout.fileno(), 2)
        sys.argv = [f"{arguments[0]}.py", *arguments[1:]]
        run_command(main)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def end_of(process: int, seconds: float) -> int | None:
    """Exit code of a process, negative for a signal; None where it has not ended in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def family(process: int, *, whole: bool) -> list[psutil.Process]:
    """A process, and with `whole` those that it has started."""
    parent = psutil.Process(process)
    return [parent, *(parent.children(recursive=True) if whole else [])]


def equal(first: Any, second: Any) -> bool:
    """Whether two outcomes are the same, tensors bit by bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


def kill_many(kind: Kind, folder: Path, count: int, together: int, moments: random.Random) -> int:
    """Kill a command so many times, each time going on with it to the end; return how often it was not as it should be.

    What falls short is printed, with the folder that shows it.
    """
    log = folder / "log.txt"
    straight = folder / "straight"
    straight.mkdir(parents=True)
    kind.prepare(straight)
    began = time.monotonic()
    code = end_of(start(kind, straight, log), FINISHED)
    assert code == 0, log.read_text()
    whole, wanted = time.monotonic() - began, kind.outcome(straight)
    kills = faults = number = 0
    while kills < count:
        number += 1
        place = folder / f"{number:03d}"
        place.mkdir()
        kind.prepare(place)
        log = place / "log.txt"
        problems, finished = [], False
        for _ in range(moments.randint(1, 4)):
            if finished:  # the next would find nothing to do
                break
            processes = [start(kind, place, log) for _ in range(together)]
            time.sleep(moments.uniform(0.0, whole * together))
            killed = moments.sample(processes, moments.randint(1, together))
            for process in killed:
                for member in family(process, whole=moments.random() < 0.5):
                    member.send_signal(signal.SIGKILL)
            for process in processes:
                code = end_of(process, FINISHED)
                kills += code == -signal.SIGKILL
                finished = finished or code == 0
                if code not in (0, *kind.refused, *([-signal.SIGKILL] if process in killed else [])):
                    problems.append(f"ended with {code}")
        code = end_of(start(kind, place, log), FINISHED)
        if code in kind.refused:  # what was killed may take a moment to be gone
            time.sleep(6.0)
            code = end_of(start(kind, place, log), FINISHED)
            problems.append("was refused by a dead process")
        if code != 0:
            problems.append(f"did not go on: {code}")
        elif not equal(kind.outcome(place), wanted):
            problems.append("ended with something else")
        if "Traceback" in log.read_text():
            problems.append("ended in a traceback")
        if problems:
            faults += 1
            print(f"{place}: {'; '.join(problems)}", flush=True)
        else:
            shutil.rmtree(place)
    print(f"{kills} kills in {number} times, {faults} with faults", flush=True)
    return faults


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="+", metavar="NAME", help="encode, evaluate, fit, assets or sweep")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--together", type=int, default=1, help="processes at a time on one folder")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    config, corpus = write_settings(options.folder)
    trained = options.folder / "trained" / "run"
    every = kinds(config, corpus, trained)
    if "evaluate" in options.names:
        trained.parent.mkdir()
        code = end_of(start(every["fit"], trained.parent, options.folder / "log.txt"), FINISHED)
        assert code == 0, (options.folder / "log.txt").read_text()
        shutil.rmtree(trained / "predictions")
    faults = 0
    for name in options.names:
        kind = every[name]
        place = options.folder / f"{name}-{options.together}"
        print(f"{name}, {options.together} at a time", flush=True)
        faults += kill_many(kind, place, options.count, options.together, random.Random(options.seed))
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
