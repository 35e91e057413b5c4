"""An experiment: the question, the runs that its `sweep.py` asks for, and which of them are there.

    SWEEP = Sweep(
        base="configs/ablation.yaml",
        baseline={"model.bridge.level": "window"},
        runs=[
            *grid({"model.bridge.level": ["window"], "model.bridge.num_queries": [1], "seed": [0, 1, 2]}),
            *grid({"model.bridge.level": ["sequence"], "model.bridge.num_queries": [1, 8], "seed": [0, 1, 2]}),
        ],
    )

An axis that exists under another alone, as the second grid's queries do, is a grid of its own: lists add up.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from salmonn_lab import runs
from salmonn_lab.config import MACHINE_KEYS, RunConfig, assignment, flatten, load_configs
from salmonn_lab.files import read_json_object

SWEEP_FILE = "sweep.py"
SEED = "seed"
Overrides = Mapping[str, Any]
"""Values by dotted key; None turns a part off."""
State = Literal["done", "running", "failed", "begun", "missing"]
LONGEST_NAME = 120


@dataclass(frozen=True)
class Sweep:
    """What an experiment runs."""

    base: str | Sequence[str]
    """A YAML file, or several that are merged in order; relative to where the commands are started."""
    runs: Sequence[Overrides]
    """What each run changes in it."""
    baseline: Overrides
    """Values that one setting alone has: the one that the others are compared with."""

    @property
    def files(self) -> tuple[str, ...]:
        """The YAML files."""
        return (self.base,) if isinstance(self.base, str) else tuple(self.base)


@dataclass(frozen=True)
class Planned:
    """A run that an experiment asks for, and the folder that holds it or will."""

    name: str
    overrides: Overrides
    setting: str
    """What it changes, its seed left out, as it is read in tables."""
    config: RunConfig
    folder: Path
    files: tuple[str, ...]

    @property
    def run(self) -> runs.Run:
        """The places in its folder."""
        return runs.Run(self.folder)

    @property
    def log(self) -> Path:
        """What its process printed."""
        return self.folder / "log.txt"

    @property
    def failure(self) -> Path:
        """How it failed; there is no such file where it did not."""
        return self.folder / "failed.json"

    @property
    def lock(self) -> Path:
        """The file that the process at work on it holds locked."""
        return self.folder / runs.LOCK

    def command(self, *, resume: bool) -> list[str]:
        """Return the command that does this run, without the interpreter."""
        files = [word for file in self.files for word in ("--config", file)]
        changes = [assignment(key, value) for key, value in self.overrides.items()]
        rest = ["--resume"] if resume else []
        return ["-m", "salmonn_lab.fit", *files, *changes, f"out_dir={self.folder}", *rest]

    def typed(self) -> str:
        """Return the command as a person would type it."""
        return shlex.join(["python", *self.command(resume=self.run.config_file.is_file())])

    def done(self) -> bool:
        """Tell whether it was trained and measured to the end."""
        return not self.failure.is_file() and self.run.finished()

    def error(self) -> str:
        """Return the last words of a run that failed."""
        error = read_json_object(self.failure).get("error")
        if not isinstance(error, str) or not error.strip():
            raise ValueError(f"{self.failure}: key 'error' must be a text; remove the file to have the run tried again")
        return error


@dataclass(frozen=True)
class Experiment:
    """A folder with a `sweep.py`."""

    folder: Path
    question: str
    """The first paragraph of its docstring."""
    background: str
    """The others, in one."""
    sweep: Sweep

    @property
    def runs_folder(self) -> Path:
        """Where its runs are."""
        return self.folder / "runs"

    @cached_property
    def planned(self) -> tuple[Planned, ...]:
        """Every run that is asked for.

        A stored run, in whatever folder, is the one that is asked for where `runs.changes` finds nothing; those of the
        experiments beside this one count too, so that a setting which several share is trained once. A folder of the
        right name that holds another configuration is left alone: the new run is named with a digest of its own.
        """
        others = [
            file.parent for file in sorted(self.folder.parent.glob(f"*/{SWEEP_FILE}")) if file.parent != self.folder
        ]
        stored = stored_runs(self.runs_folder)
        for other in others:
            stored |= stored_runs(other / self.runs_folder.name)
        configs = load_configs(self.sweep.files, map(assignments, self.sweep.runs))
        digests = [digest(config) for config in configs]
        names = name_runs(self.sweep.runs)
        found: list[Planned] = []
        for index, (overrides, config) in enumerate(zip(self.sweep.runs, configs, strict=True)):
            name = names[index]
            if digests[index] in digests[:index]:
                twin = names[digests.index(digests[index])]
                raise ValueError(f"{self.folder / SWEEP_FILE}: {name} and {twin} are the same run")
            if names.count(name) > 1:
                name = f"{name}~{digests[index]}"
            folder = self.runs_folder / name
            fitting = [place for place, made in stored.items() if not runs.changes(made, config)]
            if fitting:
                folder = folder if folder in fitting else fitting[0]
            elif (folder / runs.CONFIG).is_file():
                name = f"{name}~{digests[index]}"
                folder = self.runs_folder / name
            found.append(Planned(name, overrides, self.setting_of(overrides), config, folder, self.sweep.files))
        return tuple(found)

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """The keys that not all runs set alike, the seed left out: the experiment's axes."""
        return varying_keys(self.sweep.runs, without=(SEED,))

    def setting_of(self, overrides: Overrides) -> str:
        """Return how the setting of a run is told in tables."""
        return describe(overrides, self.varying) or "base"

    @cached_property
    def settings(self) -> dict[str, list[Planned]]:
        """The runs of each setting, which differ in their seeds, in the order of the file."""
        found: dict[str, list[Planned]] = {}
        for run in self.planned:
            found.setdefault(run.setting, []).append(run)
        return found

    @cached_property
    def baseline(self) -> str:
        """The setting that the others are compared with."""
        wanted = self.sweep.baseline.items()
        fits = [
            run.setting for run in self.planned if all(run.overrides.get(key, ...) == value for key, value in wanted)
        ]
        if len(set(fits)) != 1:
            problem = f"{len(set(fits))} settings have" if fits else "no setting has"
            raise ValueError(
                f"{self.folder / SWEEP_FILE}: baseline must name one setting, and {problem} "
                f"{', '.join(assignments(self.sweep.baseline)) or 'nothing set'}; there are: {'; '.join(self.settings)}"
            )
        return fits[0]


def grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return one mapping of overrides for every combination of values, the last axis turning fastest.

    Raises:
        ValueError: for an axis that is no list of values.
    """
    for key, values in axes.items():
        if isinstance(values, str | Mapping) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"grid: {key} must be a list of values, got {values!r}")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def load_experiment(folder: str | Path) -> Experiment:
    """Read an experiment's `sweep.py`; every run of it is composed, so that a mistake is told before anything starts.

    Raises:
        FileNotFoundError: the folder has no such file.
        ValueError: it has no `SWEEP`, no docstring, no runs, equal runs, an unknown key, or a baseline that is not one
            setting.
    """
    path = Path(folder) / SWEEP_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no experiment: it has no {SWEEP_FILE}")
    name = "experiment_" + re.sub(r"\W", "_", str(path.parent))
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    sweep = getattr(module, "SWEEP", None)
    if not isinstance(sweep, Sweep):
        raise ValueError(f"{path} must set SWEEP = Sweep(...), got {sweep!r}")
    if not (module.__doc__ or "").strip():
        raise ValueError(f"{path} must open with the question that it asks, as its docstring")
    if not sweep.runs:
        raise ValueError(f"{path}: runs is empty")
    question, _, background = (module.__doc__ or "").strip().partition("\n\n")
    experiment = Experiment(path.parent, " ".join(question.split()), " ".join(background.split()), sweep)
    try:
        assert experiment.baseline in experiment.settings
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(str(path)) else f"{path}: {message}") from None
    return experiment


def stored_runs(folder: Path) -> dict[Path, RunConfig]:
    """Return the runs in a folder with their configurations; one that this code cannot read satisfies no request."""
    files = sorted(folder.glob(f"*/{runs.CONFIG}"))
    return {file.parent: config for file in files if (config := read_stored(file.parent)) is not None}


def read_stored(folder: Path) -> RunConfig | None:
    """Return the configuration of a run, None where it has keys that there are no more, or is none."""
    try:
        return runs.Run(folder).config()
    except ValueError:
        return None


def assignments(overrides: Overrides) -> list[str]:
    """Return overrides as the command line takes them."""
    return [assignment(key, value) for key, value in overrides.items()]


def varying_keys(overrides: Sequence[Overrides], without: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the keys that not all of them set to the same, in the order in which they first appear."""
    keys = dict.fromkeys(key for one in overrides for key in one if key not in set(without))
    return tuple(key for key in keys if any(one.get(key, ...) != overrides[0].get(key, ...) for one in overrides))


def name_runs(overrides: Sequence[Overrides]) -> list[str]:
    """Return for each run a name that is a folder's and is read at once, such as `level=window,seed=0`."""
    keys = (*varying_keys(overrides, without=(SEED,)), SEED)
    names = []
    for one in overrides:
        name = re.sub(r"[^\w.,=+-]+", "_", describe(one, keys, ",")) or "base"
        names.append(name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME].rstrip("_,="))
    return names


def describe(overrides: Overrides, keys: Sequence[str], separator: str = ", ") -> str:
    """Return what overrides set, each key by as few of its last words as tell it from the others."""
    return separator.join(
        assignment(short(key, keys), overrides[key]).replace('"', "") for key in keys if key in overrides
    )


def short(key: str, keys: Iterable[str]) -> str:
    """Return the shortest end of a dotted key that is the end of no other."""
    words = key.split(".")
    for count in range(1, len(words)):
        end = ".".join(words[-count:])
        if not any(other != key and f".{other}".endswith(f".{end}") for other in keys):
            return end
    return key


def digest(config: RunConfig) -> str:
    """Return a short hash of everything in a configuration but where it runs."""
    facts = {key: value for key, value in flatten(asdict(config)).items() if key not in MACHINE_KEYS}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
