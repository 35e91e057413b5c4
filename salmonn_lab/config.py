"""A run's whole configuration: composed from the parts' own dataclasses, read from YAML and `key=value` overrides."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import yaml
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from salmonn_lab.data.counterfactual import Heard
from salmonn_lab.data.features import Storage
from salmonn_lab.data.modules import DataConfig
from salmonn_lab.salmonn import ModelConfig, OptimConfig, precision_of

LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")
RESERVED_TRAINER_KEYS = ("logger", "callbacks", "default_root_dir", "enable_checkpointing", "use_distributed_sampler")
MACHINE_KEYS = (
    "out_dir",
    "features",
    "data.num_workers",
    "data.predict_scale",
    "trainer.devices",
    "trainer.accelerator",
    "trainer.num_nodes",
)
"""Keys that say where a run happens, not what it is."""


@dataclass
class EvaluationConfig:
    """What is measured after training, and before it."""

    benchmarks: list[str] = field(default_factory=list)
    """Names from `salmonn_lab.benchmarks`, or manifests."""
    before: list[str] | None = None
    """Those of them that the untrained model is measured on as well, for comparison; null is all."""
    likelihood: bool = False
    """Note beside each answer how likely the reference and each choice is to the model: the perplexity of the one, and
    whether the right one of the others is the likeliest, are then measured too."""
    audio: Heard = "clip"
    """What is heard in place of clips (data/counterfactual.py), to see how much of a score comes from hearing."""

    @property
    def compared(self) -> list[str]:
        """The benchmarks that are measured before training too."""
        return [name for name in self.benchmarks if self.before is None or name in self.before]


@dataclass
class RunConfig:
    """Everything that makes a run. The defaults are the published recipe for SALMONN-13B."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: dict[str, Any] = field(default_factory=lambda: {"max_steps": 90_000, "precision": "16-mixed"})
    """Any option of Lightning's Trainer."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    loggers: dict[str, Any] = field(default_factory=lambda: {"csv": {}, "tensorboard": {}})
    """csv, tensorboard, wandb, mlflow, each with the options of Lightning's logger; one that is null is off. The last
    two need their packages, and MLflow a database, such as `mlflow: {tracking_uri: "sqlite:///mlflow.db"}`."""
    features: str | None = None
    """Folder of the feature store (data/features.py): what the frozen encoders answer to each clip is written there
    first, unless it is there, and read from there ever after; runs may share it. Null encodes a clip at every use."""
    features_dtype: Storage = "float32"
    """Type in which the store keeps it. See data/features.py for what the shorter ones change."""
    checkpoint_every: int = 1000
    """Optimizer steps between checkpoints."""
    init_from: str | None = None
    """Start the weights that learn from those of a run's folder, a checkpoint of one, or a checkpoint of the original
    SALMONN; this is how stages are chained."""
    seed: int = 42
    out_dir: str = "runs/salmonn"
    """The run's folder."""

    def __post_init__(self) -> None:
        options = inspect.signature(Trainer).parameters
        for key in self.trainer:
            if key in RESERVED_TRAINER_KEYS:
                raise ValueError(f"trainer.{key} is set by the kit")
            if key not in options:
                raise ValueError(
                    f"Key '{key}' not in Lightning's Trainer.{suggest(key, options)} Full key: trainer.{key}"
                )
        precision_of(self.trainer)
        for key in self.loggers:
            if key not in LOGGERS:
                raise ValueError(f"loggers.{key}: there are {', '.join(LOGGERS)}.{suggest(key, LOGGERS)}")
        if self.model.bridge.span == "thirty_seconds" and self.data.max_seconds > 30:
            raise ValueError(
                f"data.max_seconds={self.data.max_seconds:g} does not fit model.bridge.span=thirty_seconds, in which "
                "SALMONN hears 30 s; set model.bridge.span=clip"
            )
        if self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be at least 1, got {self.checkpoint_every}")


def load_config(files: Sequence[str | Path] = (), overrides: Iterable[str] = ()) -> RunConfig:
    """Compose a configuration: defaults, then the YAML files in order, then `dotted.key=value` overrides.

    Dicts merge, lists replace.

    Raises:
        ValueError: in one line, for an unknown key (with the nearest known one), a wrong type, a value out of range, a
            malformed file or override.
        FileNotFoundError: for a missing file.
    """
    return load_configs(files, [overrides])[0]


def load_configs(files: Sequence[str | Path], variants: Iterable[Iterable[str]]) -> list[RunConfig]:
    """Compose a configuration for each list of overrides, as `load_config` does; the files are read once for all."""
    config = copy.deepcopy(defaults())
    for file in files:
        config = merge(config, read_yaml(Path(file)), str(file))
    return [override(copy.deepcopy(config), overrides) for overrides in variants]


@cache
def defaults() -> Any:
    """Return the configuration without files or overrides, to be copied: making it anew takes 20 ms longer."""
    return OmegaConf.structured(RunConfig)


def override(config: Any, overrides: Iterable[str]) -> RunConfig:
    """Return a composed configuration with overrides laid over it; it is of no use itself afterwards."""
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals or not key:
            raise ValueError(f"expected key=value, got {text!r}")
        try:
            parsed = OmegaConf.from_dotlist([text])
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise ValueError(f"{text}: {first_line(error)}") from None
        config = merge(config, parsed, text)
    try:
        return cast(RunConfig, OmegaConf.to_object(config))
    except OmegaConfBaseException as error:
        raise ValueError(first_line(error)) from None


def read_yaml(path: Path) -> DictConfig:
    """Read one YAML file, which must hold a mapping."""
    if not path.is_file():
        raise FileNotFoundError(f"no config file {path}")
    try:
        loaded = OmegaConf.load(path)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or no such day
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ValueError(f"{path}: {reason}") from None
    if not isinstance(loaded, DictConfig):
        raise ValueError(f"{path}: expected `key: value` lines")
    return loaded


def merge(config: Any, addition: DictConfig, source: str) -> Any:
    """Merge one layer, with errors in the user's words; neither argument is of use afterwards."""
    check_keys(addition, RunConfig, "", source)
    try:
        return OmegaConf.unsafe_merge(config, addition)  # without copies, which took a third of the time
    except OmegaConfBaseException as error:
        full_key = getattr(error, "full_key", "")
        raise ValueError(f"{source}: {first_line(error)}" + (f" (key {full_key})" if full_key else "")) from None


def check_keys(node: Any, kind: Any, prefix: str, source: str) -> None:
    """Refuse the first key that its dataclass does not have, naming the nearest that it has."""
    owner = next((arg for arg in (kind, *get_args(kind)) if is_dataclass(arg)), None)
    if isinstance(node, DictConfig) and owner is not None and not node._is_none():
        hints = get_type_hints(owner)
        for key in map(str, node):
            name = f"{prefix}{key}"
            if key not in hints:
                known = [entry.name for entry in fields(owner)]
                raise ValueError(
                    f"{source}: Key '{key}' not in '{cast(type, owner).__name__}'.{suggest(key, known)} "
                    f"Full key: {name}"
                )
            if not OmegaConf.is_missing(node, key):
                check_keys(node._get_node(key), hints[key], f"{name}.", source)
    elif OmegaConf.is_list(node) and not node._is_none():
        for index in range(len(node)):
            check_keys(node._get_node(index), kind, f"{prefix[:-1]}[{index}].", source)


def suggest(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def to_yaml(config: RunConfig) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back equal."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


def differences(one: RunConfig, other: RunConfig, ignore: Iterable[str] = MACHINE_KEYS) -> list[str]:
    """Return the dotted keys at which two configurations differ, machine facts left out."""
    first, second = flatten(asdict(one)), flatten(asdict(other))
    skipped = set(ignore)
    return sorted(
        key for key in first.keys() | second.keys() if key not in skipped and first.get(key) != second.get(key)
    )


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
