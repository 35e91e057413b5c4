"""A run's whole configuration: composed from the parts' own dataclasses, read from YAML and `key=value` overrides."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from salmonn_lab.data.config import DataConfig, Heard, Storage
from salmonn_lab.library_options import logger_kind, trainer_kind
from salmonn_lab.model.config import ModelConfig
from salmonn_lab.optim import OptimConfig, precision_of
from salmonn_lab.typed_yaml import (
    DECIMAL,
    Interpolation,
    Options,
    Reader,
    Source,
    compose,
    field_kind,
    hints_of,
    is_plain,
    node_of,
    quoted,
    scalar,
    taken_apart,
)

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
TRAINER_LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "min_epochs": 0,
    "min_steps": 0,
}
"""Least values of trainer options that Lightning takes and fails at while it trains."""
TRAINER_FRACTIONS = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")
Value = TypeVar("Value")
Place = tuple[str | int, ...]
"""Keys and indices from the top of a configuration to a value."""


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
    trainer: Annotated[dict[str, Any], Options(trainer_kind)] = field(
        default_factory=lambda: {"max_steps": 90_000, "precision": "16-mixed"}
    )
    """Any option of Lightning's Trainer."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    loggers: Annotated[dict[str, Any], Options(logger_kind)] = field(
        default_factory=lambda: {"csv": {}, "tensorboard": {}}
    )
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
    """Of new parameters, of the order of the data, and of dropout."""
    out_dir: str = "runs/salmonn"
    """The run's folder."""

    def __post_init__(self) -> None:
        for key in self.trainer:
            trainer_kind(key, f"trainer.{key}")
        precision_of(self.trainer)
        for key, least in TRAINER_LEAST.items():
            value = self.trainer.get(key)
            if isinstance(value, int | float) and value < least:
                raise ValueError(f"trainer.{key} must be at least {least}, got {value}")
        for key in TRAINER_FRACTIONS:
            value = self.trainer.get(key)
            if isinstance(value, float) and not 0 <= value <= 1:
                raise ValueError(f"trainer.{key} must be a number of batches, or a fraction from 0 to 1, got {value}")
        if self.trainer.get("val_check_interval") == 0:
            raise ValueError("trainer.val_check_interval must be above 0, got 0")
        if self.trainer.get("barebones"):
            raise ValueError("trainer.barebones turns off the checkpoints and logs that make a run")
        for key in self.loggers:
            logger_kind(key, f"loggers.{key}")
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


def load_stored(file: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Configuration that a run has stored, with `key=value` overrides.

    Raises:
        ValueError: as in `load_config`; what is wrong with the stored file names it.
    """
    try:
        config = load_config([file])
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(str(file)) else f"{file}: {error}") from None
    return load_config([file], overrides) if overrides else config


def load_configs(files: Sequence[str | Path], variants: Iterable[Iterable[str]]) -> list[RunConfig]:
    """Compose a configuration for each list of overrides, as `load_config` does; the files are read once for all."""
    tree = dict_defaults(RunConfig)
    for file in files:
        tree = merge(tree, read_yaml(Path(file)))
    return [with_overrides(tree, overrides) for overrides in variants]


def with_overrides(tree: dict[str, Any], overrides: Iterable[str]) -> RunConfig:
    """Configuration of a tree of values with overrides laid over it."""
    for text in overrides:
        tree = merge(tree, read_override(text))
    return cast(RunConfig, build(RunConfig, resolve(tree), ""))


@cache
def dict_defaults(owner: Any) -> dict[str, Any]:
    """Tree of the defaults of those keys whose values are dicts, which files and overrides add to."""
    tree: dict[str, Any] = {}
    for entry in fields(owner):
        default = default_of(entry)
        if isinstance(default, dict):
            tree[entry.name] = default
        elif is_dataclass(default) and not isinstance(default, type) and (inner := dict_defaults(type(default))):
            tree[entry.name] = inner
    return tree


def default_of(entry: Field[Any]) -> Any:
    """Default of a field, `MISSING` where it has none."""
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


def merge(tree: Mapping[str, Any], addition: Mapping[str, Any]) -> dict[str, Any]:
    """Tree with another laid over it: dicts merge, everything else is replaced; neither is changed."""
    merged = dict(tree)
    for key, value in addition.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """Tree of one YAML file, which must hold a mapping."""
    if not path.is_file():
        raise FileNotFoundError(f"no config file {path}")
    source = Source(str(path), lines=True)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    node = compose(text, source)
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{path}: expected `key: value` lines")
    return cast(dict[str, Any], read_node(Reader(source), node, RunConfig, ""))


def read_override(override: str) -> dict[str, Any]:
    """Tree of one `dotted.key=value`."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"expected key=value, got {override!r}")
    source = Source(shortened(override), lines=False)
    words = key.split(".")
    kind: Any = RunConfig
    for place, word in enumerate(words):
        kind = kind_within(kind, word, ".".join(words[: place + 1]), source)
    value = read_node(Reader(source), override_node(text, kind, key, source), kind, key)
    for word in reversed(words):
        value = {word: value}
    return cast(dict[str, Any], value)


def kind_within(kind: Any, name: str, full: str, source: Source) -> Any:
    """Type of a key within a type; errors as of `Reader.read`."""
    _, options, members = taken_apart(kind)
    for member in members:
        if is_dataclass(member):
            return field_kind(member, name, full, source.at())
    if options is not None:
        try:
            return options.kind_of(name, full)
        except ValueError as error:
            raise ValueError(f"{source.at()}: {error}") from None
    for member in members:
        if get_origin(member) is dict:
            return get_args(member)[1]
    if Any in members:
        return Any
    raise ValueError(f"{source.at()}: there is no {full}: {full.rpartition('.')[0]} holds no keys, set it as a whole")


def override_node(text: str, kind: Any, key: str, source: Source) -> yaml.Node:
    """Node of an override's value: where the key takes a text, all of what was written, unless it is in quotes."""
    members = taken_apart(kind)[2]
    lists = [member for member in members if get_origin(member) is list]
    texts = str in members or any(str in taken_apart(get_args(member)[0])[2] for member in lists)
    brackets = (text.startswith("[") and bool(lists)) or (
        text.startswith("{") and dict in [get_origin(member) for member in members]
    )
    if texts and not brackets and not text.startswith(("'", '"')):
        if text != text.strip() and text.strip():
            raise ValueError(f"{source.at()}: {key} has spaces at its ends: put the text in quotes, or leave them out")
        return scalar(text)
    node = compose(text, source)
    if node is None:
        return scalar("")
    if text[: node.start_mark.index].strip() or text[node.end_mark.index :].strip():
        raise ValueError(f"{source.at()}: {key}: what stands outside of the value would be lost: put a text in quotes")
    return node


def read_node(reader: Reader, node: yaml.Node, kind: Any, key: str) -> Any:
    """Tree of a node; errors as of `Reader.read`."""
    try:
        return reader.read(node, kind, key)
    except RecursionError:
        raise ValueError(f"{reader.source.name}: nested too deeply") from None


def shortened(text: str) -> str:
    """Text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:197]}..."


def build(owner: Any, tree: Mapping[str, Any], key: str) -> Any:
    """Dataclass of a tree.

    Raises:
        ValueError: a key that has no default is missing, or a value is out of range.
    """
    hints = hints_of(owner)
    for entry in fields(owner):
        if entry.default is MISSING and entry.default_factory is MISSING and entry.name not in tree:
            raise ValueError(f"{key}.{entry.name} is missing".lstrip("."))
    return owner(
        **{name: built(value, hints[name], f"{key}.{name}".lstrip(".")) for name, value in tree.items()},
    )


def built(value: Any, kind: Any, key: str) -> Any:
    """Value of a key, with dataclasses in place of their trees."""
    for member in taken_apart(kind)[2]:
        if isinstance(value, Mapping) and is_dataclass(member):
            return build(member, value, key)
        if isinstance(value, list) and get_origin(member) is list and is_dataclass(get_args(member)[0]):
            return [build(get_args(member)[0], item, f"{key}[{index}]") for index, item in enumerate(value)]
    return copy.deepcopy(value)


class Reference(str):
    """Text that names environment variables, as in `${oc.env:TOKEN}`: a run stores it so, and `revealed` resolves it.

    What it stands for may be a secret: it is not printed, and stands in no file.
    """


class Revealed(str):
    """Text that a reference stands for."""

    reference = Reference()
    """The reference."""


ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:")
HIDDEN = "salmonn_lab.environment"
"""Resolver that notes a reference to an environment variable in place of its value."""
OPEN, CLOSE = "\ue000", "\ue001"
"""Around such a note, until the text that it is part of is known."""


def resolve(tree: dict[str, Any]) -> dict[str, Any]:
    """Tree with every `${...}` replaced by its value; a text keeps its references to environment variables.

    Raises:
        ValueError: there is no such key or variable, or the value is not of the key's type.
    """
    places = list(interpolations(tree, RunConfig, ()))
    if not places:
        return tree
    OmegaConf.register_resolver(HIDDEN, note, replace=True)
    whole = with_defaults(RunConfig, tree)
    try:
        known, noted = OmegaConf.create(plain(whole)), OmegaConf.create(plain(whole, hide=True))
    except (OmegaConfBaseException, RecursionError) as error:
        raise ValueError(first_line(error)) from None
    for place, kind, text in places:
        key = dotted(place)
        source = Source(f"{key}={shortened(text)}", lines=False)
        is_text = kind is Any or not {str, Any}.isdisjoint(taken_apart(kind)[2])
        value = value_at(noted if is_text else known, place, source)
        value = read_node(Reader(source, resolved=True), node_of(value), kind, key)
        tree = replaced(tree, place, with_references(value))
    return tree


def interpolations(value: Any, kind: Any, place: Place) -> Iterator[tuple[Place, Any, str]]:
    """Place, type and text of every `${...}` in a tree."""
    if isinstance(value, Interpolation):
        yield place, kind, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from interpolations(item, kind_within(kind, key, key, Source(key, lines=False)), (*place, key))
    elif isinstance(value, list):
        lists = [member for member in taken_apart(kind)[2] if get_origin(member) is list]
        for index, item in enumerate(value):
            yield from interpolations(item, get_args(lists[0])[0] if lists else Any, (*place, index))


def with_defaults(owner: Any, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Tree in which every key of a dataclass has a value, for others to refer to."""
    filled: dict[str, Any] = {}
    for entry in fields(owner):
        value = tree.get(entry.name, MISSING)
        if value is MISSING:
            value = default_of(entry)
            value = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        elif isinstance(value, dict):
            inner = [member for member in taken_apart(hints_of(owner)[entry.name])[2] if is_dataclass(member)]
            value = with_defaults(inner[0], value) if inner else value
        if value is not MISSING:
            filled[entry.name] = value
    return filled


def plain(value: Any, *, hide: bool = False) -> Any:
    """Tree as OmegaConf takes it; with `hide`, references to the environment are noted and not resolved."""
    if isinstance(value, dict):
        return {key: plain(item, hide=hide) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item, hide=hide) for item in value]
    if isinstance(value, Interpolation):
        return ENVIRONMENT.sub(f"${{{HIDDEN}:", value) if hide else str(value)
    return escaped(value) if isinstance(value, str) else value


def value_at(tree: DictConfig | ListConfig, place: Sequence[str | int], source: Source) -> Any:
    """Value of an interpolation.

    Raises:
        ValueError: it has none.
    """
    node: Any = tree
    try:
        for part in place:
            node = node[part]
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except (OmegaConfBaseException, RecursionError, TypeError, KeyError) as error:
        raise ValueError(f"{source.at()}: {first_line(error)}") from None


def note(*arguments: Any) -> str:
    """Stand-in for the value of an environment variable."""
    texts = ["null" if text is None else "'" + str(text).replace("'", "\\'") + "'" for text in arguments[1:]]
    return f"{OPEN}oc.env:{','.join([str(arguments[0]), *texts])}{CLOSE}"


def with_references(value: Any) -> Any:
    """Value with the notes in it turned into references."""
    if isinstance(value, dict):
        return {key: with_references(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_references(item) for item in value]
    if isinstance(value, str) and OPEN in value:
        return Reference(escaped(value).replace(OPEN, "${").replace(CLOSE, "}"))
    return value


def replaced(tree: Any, place: Sequence[str | int], value: Any) -> Any:
    """Tree with the value at a place replaced; the tree itself stays as it is."""
    if not place:
        return value
    changed = copy.copy(tree)
    changed[place[0]] = replaced(tree[place[0]], place[1:], value)
    return changed


def dotted(place: Sequence[str | int]) -> str:
    """Key of a place, as it is told to a user."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def revealed(value: Value) -> Value:
    """Value with its references to environment variables resolved, at the moment at which it is used.

    Raises:
        ValueError: a variable is not set.
    """
    result: Any = value
    if isinstance(value, Reference):
        try:
            result = Revealed(OmegaConf.create({"text": str(value)})["text"])
        except OmegaConfBaseException as error:
            raise ValueError(f"{value}: {first_line(error)}") from None
        result.reference = value
    elif isinstance(value, dict):
        result = {key: revealed(item) for key, item in value.items()}
    elif isinstance(value, list):
        result = [revealed(item) for item in value]
    return cast(Value, result)


def hidden(value: Any) -> Any:
    """Value with the references in place of what `revealed` made of them, for files and terminals."""
    if isinstance(value, dict):
        return {key: hidden(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hidden(item) for item in value]
    return value.reference if isinstance(value, Revealed) else value


def concealed(message: str, value: Any) -> str:
    """Message of a library with the references in place of what they stand for, as in an address with a password."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            message = concealed(message, item)
    return message.replace(value, value.reference) if isinstance(value, Revealed) and value else message


def check_references(config: RunConfig) -> None:
    """Refuse a reference to an environment variable that is not set, naming the key; better now than after training."""
    for key, value in flatten(asdict(config)).items():
        try:
            revealed(value)
        except ValueError as error:
            raise ValueError(f"{key}={error}") from None


def first_line(error: BaseException) -> str:
    """First line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def escaped(text: str) -> str:
    """Text in which `${` means itself."""
    return re.sub(r"(\\*)\$\{", lambda found: f"{found[1]}{found[1]}\\${{", text)


LINE_ENDS = "\r\x85\u2028\u2029"


class Writer(yaml.SafeDumper):
    """YAML that `load_config` reads back equal."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal lists in full."""
        return True


def write_text(writer: Writer, text: str) -> yaml.ScalarNode:
    """Node of a text, in quotes where it would be read as something else."""
    written = str(text) if isinstance(text, Reference) else escaped(text)
    node = writer.represent_str(written)
    if DECIMAL.fullmatch(written):
        node.style = "'"
    elif any(letter in written for letter in LINE_ENDS):
        node.style = '"'  # with escapes: read back, they would all be spaces
    return node


Writer.add_multi_representer(str, write_text)
Writer.add_representer(str, write_text)


def to_yaml(config: RunConfig) -> str:
    """YAML of the whole configuration that `load_config` reads back equal; secrets stay references."""
    tree = asdict(config)
    return yaml.dump(tree, Dumper=Writer, sort_keys=False, allow_unicode=True, width=100_000, default_flow_style=False)


def assignment(key: str, value: Any) -> str:
    """Override as the command line takes it, which reads back equal.

    Raises:
        ValueError: the value is of no type that a config has.
    """
    if isinstance(value, str) and is_plain(value):
        return f"{key}={value}"
    try:
        return f"{key}={quoted(value)}"
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


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
