"""A `sweep.py`: what it sets when it is run, and in which line of it a key or an argument stands."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

ENDINGS = (SystemExit, GeneratorExit)
"""What a file may raise beside errors."""


def execute(path: Path) -> ModuleType:
    """Module that a Python file makes when it is run.

    Raises:
        ValueError: the file is no Python, or running it ends in an error; file, line and error are named.
    """
    name = "experiment_" + re.sub(r"\W", "_", str(path.parent))
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ValueError(f"{path} cannot be read as Python")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses that the file defines look for their module there
    try:
        specification.loader.exec_module(module)
    except SyntaxError as error:
        inside = error.filename is None or Path(error.filename) == path
        line = error.lineno if inside else line_of_call(error, path)
        where = "" if inside else f"{error.filename}:{error.lineno}: "
        raise ValueError(f"{path}:{line or 1}: {where}{type(error).__name__}: {error.msg}") from None
    except (Exception, *ENDINGS) as error:
        text = " ".join(str(error).split())
        known = isinstance(error, ValueError | OSError) and bool(text)
        told = text if known else f"{type(error).__name__}{': ' if text else ''}{text}"
        raise ValueError(f"{path}:{line_of_call(error, path)}: {told}") from None
    finally:
        del sys.modules[name]
    return module


def line_of_call(error: BaseException, path: Path) -> int:
    """Line of a file that an error came through last, 1 where it did not come through it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return (lines[-1] if lines else None) or 1


def line_of_argument(path: Path, name: str | None) -> int:
    """Line on which an argument of the `SWEEP = Sweep(...)` of a file begins; its own where there is no such one."""
    tree = ast.parse(path.read_bytes())
    line = 1
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "SWEEP" for target in targets):
                arguments = node.value.keywords if isinstance(node.value, ast.Call) else []
                line = next((word.value.lineno for word in arguments if word.arg == name), node.lineno)
    return line


def line_of_key(path: Path, key: str, value: Any) -> int:
    """Line of a file on which a text stands as a dict's key: beside the value where that stands there, else the first.

    Where the file makes its keys of parts, it is the line of the argument `runs`.
    """
    lines = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Dict):
            for name, item in zip(node.keys, node.values, strict=True):
                if isinstance(name, ast.Constant) and name.value == key:
                    lines.append((value not in constants(item), name.lineno))
    return min(lines)[1] if lines else line_of_argument(path, "runs")


def constants(node: ast.expr) -> list[Any]:
    """Values that are written out within an expression, lists of them too."""
    found = []
    for inner in (part for part in ast.walk(node) if isinstance(part, ast.expr)):
        try:
            found.append(ast.literal_eval(inner))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return found
