"""Options of Lightning's Trainer and loggers: read from its source, since to import it takes seconds."""

from __future__ import annotations

import ast
import importlib.util
import re
import typing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args

from salmonn_lab.typed_yaml import Options, suggest, taken_apart

TRAINER = "trainer/trainer.py", "Trainer"
LOGGERS = {
    "tensorboard": ("loggers/tensorboard.py", "TensorBoardLogger"),
    "wandb": ("loggers/wandb.py", "WandbLogger"),
    "mlflow": ("loggers/mlflow.py", "MLFlowLogger"),
}
PRECISION = "fabric/plugins/precision/precision.py"


class Opaque:
    """Type of an option that only an object of Lightning's can be."""


@dataclass(frozen=True)
class Option:
    """One option."""

    kind: Any
    """Its type, as far as YAML can write it."""
    default: str
    """As Lightning writes it."""
    meaning: str


CSV = {
    "flush_logs_every_n_steps": Option(int, "10", "Rows wait in memory for at most so many steps."),
    "prefix": Option(str, '""', "Put before the name of every column, with a hyphen."),
}
"""Options of our own logger, `training/metrics_csv.py`."""
SUMMARY_WRITER = {"max_queue": int, "flush_secs": int, "filename_suffix": str}
REST = "**"
"""Stands for the options that a class hands on."""
RESERVED = ("logger", "callbacks", "default_root_dir", "enable_checkpointing", "use_distributed_sampler")
SET_BY_THE_KIT = {"tensorboard": ("save_dir", "name", "version"), "csv": ("folder",)}


class Names(dict[str, Any]):
    """What the annotations of Lightning's signatures mean; what is not known is `Opaque`."""

    def __missing__(self, name: str) -> Any:
        return Opaque


def source_of(file: str) -> ast.Module:
    """Syntax tree of a file of Lightning's, which is not imported."""
    specification = importlib.util.find_spec("lightning")
    assert specification is not None
    assert specification.submodule_search_locations is not None
    path = Path(specification.submodule_search_locations[0]) / file
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def names() -> Names:
    """Meaning of the names in annotations."""
    known = Names(
        {name: getattr(typing, name) for name in ("Any", "Optional", "Union", "Literal", "Iterable", "Sequence")}
    )
    known |= {"int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict, "_PATH": str}
    known["_LITERAL_WARN"] = Literal["warn"]
    for node in source_of(PRECISION).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and "_INPUT" in node.targets[0].id:
            known[node.targets[0].id] = evaluated(node.value, known)
    return known


def evaluated(annotation: ast.expr, known: Names) -> Any:
    """Type of an annotation; `Opaque` where it is none that is known."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return Opaque
    try:
        return eval(compile(ast.Expression(annotation), "annotation", "eval"), {"__builtins__": {}}, known)
    except (TypeError, AttributeError, SyntaxError):
        return Opaque


def writable(kind: Any) -> Any:
    """Type without the members that YAML cannot write; anything where nothing is left."""
    members = [member for member in taken_apart(kind)[2] if not unwritable(member)]
    known = [member for member in members if not any(map(unwritable, get_args(member)))]
    if not [member for member in known if member is not type(None)]:
        return Any
    return Union[tuple(known)]  # noqa: UP007  (made of a list)


def unwritable(kind: Any) -> bool:
    """Tell whether only an object of a library is of this type."""
    return kind is Opaque or isinstance(kind, typing.ForwardRef)


@cache
def options_of(file: str, name: str) -> dict[str, Option]:
    """Options of a class of Lightning's, by name."""
    for node in ast.walk(source_of(f"pytorch/{file}")):
        if isinstance(node, ast.ClassDef) and node.name == name:
            owner = node
            break
    else:
        raise ValueError(f"this version of Lightning has no {name} in {file}")
    made = next(item for item in owner.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")
    meanings = arguments_of(ast.get_docstring(made) or ast.get_docstring(owner) or "")
    spec, found = made.args, {}
    positional = spec.args[1:]
    pairs: list[tuple[ast.arg, ast.expr | None]] = list(
        zip(positional, [None] * (len(positional) - len(spec.defaults)) + list(spec.defaults), strict=True)
    )
    pairs += zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    for argument, default in pairs:
        kind = Any if argument.annotation is None else writable(evaluated(argument.annotation, names()))
        text = "" if default is None else ast.unparse(default).strip("'\"")
        found[argument.arg] = Option(kind, "null" if text == "None" else text, meanings.get(argument.arg, ""))
    if spec.kwarg is not None:
        found[REST] = Option(Any, "", "")
    return found


def arguments_of(docstring: str) -> dict[str, str]:
    """What a docstring says of each argument, on one line each."""
    _, _, text = docstring.partition("Args:\n")
    text = re.split(r"\n(?=\S)", text)[0]
    indent = len(text) - len(text.lstrip())
    parts = re.split(rf"(?m)^ {{{indent}}}(?=\w+:)", text)
    pairs = (part.partition(":") for part in parts if ":" in part)
    return {name: " ".join(meaning.replace("``", "`").split()) for name, _, meaning in pairs}


def trainer_options() -> dict[str, Option]:
    """Options of the Trainer that a config may set."""
    return {name: option for name, option in options_of(*TRAINER).items() if name not in RESERVED}


def logger_options(name: str) -> dict[str, Option]:
    """Options of a logger that a config may set; of `csv`, the kit's own."""
    if name == "csv":
        return dict(CSV)
    options = options_of(*LOGGERS[name])
    if name == "tensorboard":  # hands the rest on to torch's SummaryWriter
        writer = {key: Option(kind, "", "Of torch's SummaryWriter.") for key, kind in SUMMARY_WRITER.items()}
        options = {key: option for key, option in options.items() if key != REST} | writer
    return {key: option for key, option in options.items() if key not in SET_BY_THE_KIT.get(name, ())}


def trainer_kind(name: str, full: str) -> Any:
    """Type of a Trainer option.

    Raises:
        ValueError: there is none of that name, or the kit sets it.
    """
    if name in RESERVED:
        raise ValueError(f"trainer.{name} is set by the kit")
    options = trainer_options()
    if name not in options:
        raise ValueError(f"Key '{name}' not in Lightning's Trainer.{suggest(name, options)} Full key: {full}")
    # Lightning has precisions that this kit does not train in: `optim.precision_of` says which it takes.
    return str | int | None if name == "precision" else options[name].kind


def logger_kind(name: str, full: str) -> Any:
    """Type of a logger's options, each of its own type; null turns it off.

    Raises:
        ValueError: there is no such logger.
    """
    known = ("csv", *LOGGERS)
    if name not in known:
        raise ValueError(f"loggers.{name}: there are {', '.join(known)}.{suggest(name, known)}")
    return LOGGER_KINDS[name]


def logger_option_kind(logger: str, name: str, full: str) -> Any:
    """Type of a logger's option.

    Raises:
        ValueError: there is none of that name, or the kit sets it.
    """
    options = logger_options(logger)
    if name in SET_BY_THE_KIT.get(logger, ()):
        raise ValueError(f"{full} is set by the kit")
    if name in options:
        return options[name].kind
    if REST in options:
        return options[REST].kind
    raise ValueError(f"Key '{name}' not in loggers.{logger}.{suggest(name, options)} Full key: {full}")


def kind_of_logger(logger: str) -> Any:
    """Type of a logger in a config: a mapping of its options, or null."""
    return Annotated[dict[str, Any] | None, Options(lambda name, full: logger_option_kind(logger, name, full))]


LOGGER_KINDS = {logger: kind_of_logger(logger) for logger in ("csv", *LOGGERS)}
