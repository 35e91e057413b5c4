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
import itertools
import json
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from salmonn_lab import runs
from salmonn_lab.config import MACHINE_KEYS, RunConfig, assignment, flatten, load_configs
from salmonn_lab.files import read_json_object
from salmonn_lab.sweep_file import execute, line_of_argument, line_of_key

SWEEP_FILE = "sweep.py"
SEED = "seed"
LABEL = "label"
"""Key of a run's overrides that names its setting, and is no key of the configuration."""
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
    baseline: Overrides | str
    """Values that one setting alone has, or its label: the one that the others are compared with."""
    compare: Sequence[tuple[Overrides | str, Overrides | str]] = ()
    """Pairs of settings, each given as the baseline is: how much higher the first scores than the second is tested
    beside the differences from the baseline, all corrected together."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What settings are called in tables, plots and LaTeX, by the names that they have without it, such as
    "level=window, num_queries=2"."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", as_files(self.base))
        for index, overrides in enumerate(as_list("runs must be a list of dicts of overrides", self.runs)):
            check_overrides(f"runs[{index}]", overrides)
        check_setting("baseline", self.baseline)
        for index, pair in enumerate(as_list("compare must be a list of pairs of settings", self.compare)):
            settings = as_list(f"compare[{index}] must be a pair of settings", pair)
            if len(settings) != 2:
                raise ValueError(f"Sweep: compare[{index}] must be a pair of settings, got {pair!r:.100}")
            for setting in settings:
                check_setting(f"compare[{index}]", setting)
        if not isinstance(self.labels, Mapping) or not all(map(is_text, (*self.labels, *self.labels.values()))):
            raise ValueError(f"Sweep: labels must be texts by the names of settings, got {self.labels!r:.100}")

    @property
    def files(self) -> tuple[str, ...]:
        """The YAML files."""
        return (self.base,) if isinstance(self.base, str) else tuple(self.base)


def as_files(base: Any) -> str | tuple[str, ...]:
    """Base of a sweep: a file, or several; paths become texts."""
    if isinstance(base, str | os.PathLike):
        return os.fspath(base)
    if isinstance(base, Sequence) and all(isinstance(file, str | os.PathLike) for file in base):
        return tuple(os.fspath(file) for file in base)
    raise ValueError(f"Sweep: base must be a YAML file or a list of them, got {base!r:.100}")


def as_list(wanted: str, value: Any) -> Sequence[Any]:
    """Value that is a list or a tuple; ValueError says what is wanted where it is neither."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"Sweep: {wanted}, got {value!r:.100}")
    return value


def check_setting(name: str, setting: Any) -> None:
    """Refuse what names no setting: neither overrides nor a label."""
    if not is_text(setting):
        check_overrides(name, setting)


def check_overrides(name: str, overrides: Any) -> None:
    """Refuse what is no mapping of values by dotted key."""
    if not isinstance(overrides, Mapping):
        raise ValueError(f"Sweep: {name} must be a dict of overrides by dotted key, got {overrides!r:.100}")
    for key, value in overrides.items():
        if not is_text(key):
            raise ValueError(f"Sweep: {name}: a key must be a dotted key of the configuration, got {key!r:.100}")
        if key == LABEL and not is_text(value):
            raise ValueError(f"Sweep: {name}: {LABEL} must be a text, got {value!r:.100}")
        if not is_value(value):
            raise ValueError(
                f"Sweep: {name}: {key} must be a number, a text, True, False, None, or a list or dict of them, "
                f"got {value!r:.100}"
            )


def is_text(value: Any) -> bool:
    """Whether a value is a text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def is_value(value: Any) -> bool:
    """Whether a configuration can hold a value."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_value(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_value, value))
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


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

    @property
    def file(self) -> Path:
        """Its `sweep.py`."""
        return self.folder / SWEEP_FILE

    @cached_property
    def overrides(self) -> tuple[Overrides, ...]:
        """What each run changes in the base."""
        return tuple({key: value for key, value in run.items() if key != LABEL} for run in self.sweep.runs)

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
        folders = [self.runs_folder, *(other / self.runs_folder.name for other in others)]
        stored = Stored(folder for place in folders for folder in stored_folders(place))
        configs = self.configs()
        digests = [digest(config) for config in configs]
        names = name_runs(self.overrides)
        counts, seen = Counter(names), dict[str, str]()
        found: list[Planned] = []
        for overrides, config, mark, name in zip(self.overrides, configs, digests, names, strict=True):
            if mark in seen:
                raise self.error("runs", f"{name} and {seen[mark]} are the same run")
            seen[mark] = name
            if counts[name] > 1:
                name = f"{name}~{mark}"
            folder = self.runs_folder / name
            fitting = stored.fitting(config)
            if fitting:
                folder = folder if folder in fitting else fitting[0]
            elif (folder / runs.CONFIG).is_file():
                name = f"{name}~{mark}"
                folder = self.runs_folder / name
            found.append(Planned(name, overrides, self.name_of(overrides), config, folder, self.sweep.files))
        return tuple(found)

    def configs(self) -> list[RunConfig]:
        """Configuration of every run.

        Raises:
            ValueError, FileNotFoundError: one cannot be composed; the line of its key, or of the base, is named.
        """
        tried: Overrides = {}

        def variants() -> Iterator[list[str]]:
            nonlocal tried
            for tried in self.overrides:
                yield assignments(tried)

        try:
            return load_configs(self.sweep.files, variants())
        except (ValueError, OSError) as error:
            line = self.line_at_fault(tried)
            raise type(error)(f"{self.file}:{line}: {' '.join(str(error).split())}") from None

    def line_at_fault(self, overrides: Overrides) -> int:
        """Line of the first key with which a run cannot be composed; of the base where that cannot be read."""
        laid: dict[str, Any] = {}
        for key, value in (("", None), *overrides.items()):
            laid |= {key: value} if key else {}
            try:
                load_configs(self.sweep.files, [assignments(laid)])
            except (ValueError, OSError):
                return line_of_key(self.file, key, value) if key else line_of_argument(self.file, "base")
        return line_of_argument(self.file, "runs")

    def error(self, argument: str, text: str) -> ValueError:
        """Error about an argument of the sweep, which names its line."""
        return ValueError(f"{self.file}:{line_of_argument(self.file, argument)}: {text}")

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """The keys that not all runs set alike, the seed left out: the experiment's axes."""
        return varying_keys(self.overrides, without=(SEED,))

    @cached_property
    def names(self) -> dict[str, str]:
        """Name of each setting by what it sets (`setting_of`): its label where it has one.

        Raises:
            ValueError: a label is given to no setting, or to two; or a setting has two.
        """
        given: dict[str, str] = {}
        for run, overrides in zip(self.sweep.runs, self.overrides, strict=True):
            setting = self.setting_of(overrides)
            own = str(run.get(LABEL, setting))
            label = self.sweep.labels.get(setting, given.get(setting, own))
            if own != label and setting not in self.sweep.labels:
                raise self.error("runs", f"the setting {setting} has two labels, '{label}' and '{own}'")
            given[setting] = label
        for setting in self.sweep.labels:
            if setting not in given:
                raise self.error("labels", f"labels: there is no setting '{setting}'; there are: {'; '.join(given)}")
        for label, count in Counter(given.values()).items():
            if count > 1:
                same = " and ".join(setting for setting, name in given.items() if name == label)
                raise self.error("labels" if self.sweep.labels else "runs", f"{same} have the same label, '{label}'")
        return given

    def setting_of(self, overrides: Overrides) -> str:
        """What tells the setting of a run from the others."""
        return describe(overrides, self.varying) or "base"

    def name_of(self, overrides: Overrides) -> str:
        """Name of the setting of a run, as it is read in tables."""
        return self.names[self.setting_of(overrides)]

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
        return self.find_setting("baseline", self.sweep.baseline)

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of settings that are compared beside the baseline's."""
        found = []
        for index, pair in enumerate(self.sweep.compare):
            one, other = (self.find_setting(f"compare[{index}]", setting) for setting in pair)
            if one == other:
                raise self.error("compare", f"compare[{index}] must name two settings, and both are {one}")
            found.append((one, other))
        return tuple(found)

    def find_setting(self, name: str, wanted: Overrides | str) -> str:
        """Name of the one setting that has the given values, or the given label.

        Raises:
            ValueError: there is none, or several.
        """
        if isinstance(wanted, str):
            fits = {self.names[setting] for setting in self.names if wanted in (setting, self.names[setting])}
        else:
            sets = wanted.items()
            fits = {
                self.name_of(overrides)
                for run, overrides in zip(self.sweep.runs, self.overrides, strict=True)
                if all(run.get(key, ...) == value for key, value in sets)
            }
        if len(fits) != 1:
            problem = f"{len(fits)} settings have" if fits else "no setting has"
            told = f"the label '{wanted}'" if isinstance(wanted, str) else ", ".join(assignments(wanted))
            raise self.error(
                name.partition("[")[0],
                f"{name} must name one setting, and {problem} {told or 'nothing set'}; "
                f"there are: {'; '.join(dict.fromkeys(self.names.values()))}",
            )
        return fits.pop()


def grid(axes: Mapping[str, Sequence[Any]], label: str | None = None) -> list[dict[str, Any]]:
    """One mapping of overrides for every combination of values, the last axis turning fastest.

    Args:
        axes: values by dotted key.
        label: what the setting is called in tables and plots; `{num_queries}` in it stands for the value of the axis
            that ends so.

    Raises:
        ValueError: for an axis that is no list of values, or a label that names no axis.
    """
    if not isinstance(axes, Mapping):
        raise ValueError(f"grid: axes must be lists of values by dotted key, got {axes!r:.100}")
    for key, values in axes.items():
        if isinstance(values, str | Mapping) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"grid: {key} must be a list of values, got {values!r:.100}")
    found = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return found if label is None else [{**overrides, LABEL: filled(label, overrides)} for overrides in found]


def filled(label: str, overrides: Overrides) -> str:
    """Label with the values of a run in place of the ends of their keys in braces."""

    def value(match: re.Match[str]) -> str:
        fits = [key for key in overrides if f".{key}".endswith(f".{match[1]}")]
        if len(fits) != 1:
            raise ValueError(
                f"grid: label: {{{match[1]}}} must be the end of one axis; there are {', '.join(overrides)}"
            )
        return value_text(overrides[fits[0]])

    if not is_text(label):
        raise ValueError(f"grid: label must be a text, got {label!r:.100}")
    return re.sub(r"\{([^{}]*)\}", value, label)


def value_text(value: Any) -> str:
    """Value of an override as it is read in tables."""
    return assignment("", value)[1:].replace('"', "")


def load_experiment(folder: str | Path) -> Experiment:
    """Read an experiment's `sweep.py`; every run of it is composed, so that a mistake is told before anything starts.

    The file is Python, and is run.

    Raises:
        FileNotFoundError: the folder has no such file, or a base of its sweep is not there.
        ValueError: the file has an error, no `SWEEP`, no docstring, no runs, equal runs, an unknown key, or a baseline
            that is not one setting; the line is named.
    """
    path = Path(folder) / SWEEP_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no experiment: it has no {SWEEP_FILE}")
    module = execute(path)
    sweep = getattr(module, "SWEEP", None)
    if not isinstance(sweep, Sweep):
        line = line_of_argument(path, None)
        raise ValueError(f"{path}:{line}: the file must set SWEEP = Sweep(...), got {sweep!r:.100}")
    if not isinstance(module.__doc__, str) or not module.__doc__.strip():
        raise ValueError(f"{path}:1: the file must open with the question that it asks, as its docstring")
    question, _, background = module.__doc__.strip().partition("\n\n")
    experiment = Experiment(path.parent, " ".join(question.split()), " ".join(background.split()), sweep)
    if not sweep.runs:
        raise experiment.error("runs", "runs is empty")
    assert experiment.planned
    assert experiment.baseline in experiment.settings
    assert len(experiment.pairs) == len(sweep.compare)
    return experiment


Facts = frozenset[tuple[str, Any]]
"""Everything in a configuration but where it runs: of two, equal where `runs.changes` finds nothing."""
DTYPE = "model.llm.dtype"


class Stored:
    """Runs that are stored, to be found by their configurations; one that cannot be read satisfies no request."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.by_facts: dict[Facts, list[Path]] = {}
        self.by_all_but_dtype: dict[Facts, list[Path]] = {}
        for folder in folders:
            if (config := read_stored(folder)) is not None:
                facts = facts_of(config)
                self.by_facts.setdefault(facts, []).append(folder)
                self.by_all_but_dtype.setdefault(without_dtype(facts), []).append(folder)

    def fitting(self, config: RunConfig) -> list[Path]:
        """Folders of the runs in which `runs.changes` finds nothing."""
        facts = facts_of(config)
        if config.model.llm.dtype == "fastest":  # which was for the machine to decide
            return self.by_all_but_dtype.get(without_dtype(facts), [])
        return self.by_facts.get(facts, [])


def facts_of(config: RunConfig) -> Facts:
    """Facts of a configuration; a key that is None is as one that is not there."""
    flat = flatten(asdict(runs.with_stride(config)))
    return frozenset(
        (key, frozen(value)) for key, value in flat.items() if value is not None and key not in MACHINE_KEYS
    )


def without_dtype(facts: Facts) -> Facts:
    """Facts without the type of the LLM's weights."""
    return frozenset(fact for fact in facts if fact[0] != DTYPE)


def frozen(value: Any) -> Any:
    """Value that can be hashed, equal where the values are."""
    if isinstance(value, dict):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(frozen, value))
    return value


def stored_folders(folder: Path) -> list[Path]:
    """Folders of the runs in a folder."""
    return [file.parent for file in sorted(folder.glob(f"*/{runs.CONFIG}"))]


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
