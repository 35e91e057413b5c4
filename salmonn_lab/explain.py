"""What the keys of a configuration mean, from the docstrings of their dataclasses: `fit --explain [KEY]`."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from salmonn_lab.config import RunConfig, load_config
from salmonn_lab.library_options import LOGGERS, Option, logger_options, trainer_options
from salmonn_lab.typed_yaml import hints_of, is_plain, quoted, suggest, taken_apart

ITEM = "[]"
"""Stands for each item of a list in a key."""
FAR_NUMBERS = ("-1000000", "1000000", "-1", "0")
"""Tried on a key to learn its limits."""


@dataclass(frozen=True)
class Key:
    """One key of a configuration."""

    name: str
    """Dotted."""
    kind: str
    """Its type, as a user writes it."""
    default: str
    """As YAML."""
    meaning: str

    def limits(self) -> str:
        """What a number must be, as the configuration says it of numbers that are out of range; empty where all fit."""
        if ITEM not in self.name and "number" in self.kind.split(" | ")[0] + self.kind.split(" | ")[-1]:
            for number in FAR_NUMBERS:
                try:
                    load_config([], [f"{self.name}={number}"])
                except ValueError as error:
                    message = str(error).partition(", got")[0]
                    if message.startswith(f"{self.name} must"):
                        return message.removeprefix(f"{self.name} ")
        return ""


def keys(owner: Any = RunConfig, prefix: str = "") -> Iterator[Key]:
    """Every key of a configuration, in the order of their dataclasses."""
    meanings = docstrings(owner)
    for entry in fields(owner):
        kind = hints_of(owner)[entry.name]
        name = f"{prefix}{entry.name}"
        members = taken_apart(kind)[2]
        inner: Any = next((member for member in members if is_dataclass(member)), None)
        listed = next((get_args(member)[0] for member in members if get_origin(member) is list), None)
        meaning = meanings.get(entry.name, "")
        if inner is not None:
            meaning = " ".join(filter(None, (meaning, summary(inner))))
        yield Key(name, written_kind(kind), default_of(entry), meaning)
        if inner is not None:
            yield from keys(inner, f"{name}.")
        elif listed is not None and is_dataclass(listed):
            yield from keys(listed, f"{name}{ITEM}.")
        elif name == "trainer":
            yield from option_keys(trainer_options(), f"{name}.")
        elif name == "loggers":
            for logger in ("csv", *LOGGERS):
                yield from option_keys(logger_options(logger), f"{name}.{logger}.")


def option_keys(options: dict[str, Option], prefix: str) -> Iterator[Key]:
    """Keys of a library's options."""
    for name, option in options.items():
        if name.isidentifier():
            yield Key(f"{prefix}{name}", written_kind(option.kind), option.default, option.meaning)


@cache
def docstrings(owner: type) -> dict[str, str]:
    """Docstring under each field of a dataclass, on one line."""
    tree = ast.parse(inspect.getsource(sys.modules[owner.__module__]))
    body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == owner.__name__)
    meanings = {}
    for node, following in pairwise(body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            meanings[node.target.id] = " ".join(str(following.value.value).split())
    return meanings


def summary(owner: type) -> str:
    """Docstring of a dataclass, on one line."""
    return " ".join((owner.__doc__ or "").split())


def default_of(entry: Field[Any]) -> str:
    """Default of a field as YAML; of one without a default, that it must be given."""
    if entry.default is MISSING and entry.default_factory is MISSING:
        return "must be given"
    default = entry.default if entry.default_factory is MISSING else entry.default_factory()
    if is_dataclass(default):
        return ""
    return default if isinstance(default, str) and is_plain(default) else quoted(default)


def written_kind(kind: Any) -> str:
    """Type as a user writes values of it."""
    kind, _, members = taken_apart(kind)
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null", Any: "any"}
    texts: list[str] = []
    for member in members:
        if get_origin(member) is Literal:
            texts += [text for text in map(str, get_args(member)) if text not in texts]
        elif get_origin(member) is list:
            texts.append(f"list of {written_kind(get_args(member)[0])}")
        elif get_origin(member) is dict or member is dict or is_dataclass(member):
            texts.append("mapping")
        else:
            texts.append(words.get(member, getattr(member, "__name__", str(member))))
    return " | ".join(dict.fromkeys(texts))


def explain(wanted: str | None) -> list[Key]:
    """Keys that a text names: one key, all below it, or every key where it is None.

    Raises:
        ValueError: there is none; the nearest is named.
    """
    known = list(keys())
    if wanted is None:
        return known
    name = wanted.replace("[0]", ITEM).rstrip(".")
    found = [key for key in known if key.name == name or key.name.startswith((f"{name}.", f"{name}{ITEM}"))]
    if not found:
        raise ValueError(f"there is no key {wanted}.{nearest(name, [key.name for key in known])}")
    return found


def nearest(name: str, known: list[str]) -> str:
    """Hint at the keys that end as a name does, or are spelled like it."""
    word = name.rpartition(".")[2]
    same = [key for key in known if key.rpartition(".")[2] == word]
    if same:
        return f" Did you mean {' or '.join(same[:5])}?"
    return suggest(name, known) or suggest(word, [key.rpartition(".")[2] for key in known])


def lines(found: list[Key]) -> Iterator[str]:
    """Text of keys for a terminal: one with its meaning in full, several a line and a meaning each."""
    for key in found:
        default = f" = {key.default}" if key.default else ""
        limits = f"; {limits}" if (limits := key.limits()) else ""
        yield f"{key.name}{default}  ({key.kind}{limits})"
        if key.meaning:
            yield f"    {key.meaning}"
