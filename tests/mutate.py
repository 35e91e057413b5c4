"""Damaged inputs by seed: what a kill, a disk, an editor or a stranger may make of a file."""

from __future__ import annotations

import json
import random
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

MOST_SECONDS = 5.0
MOST_BYTES = 2**30
STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\ud800",
    "\x00",
    "a\nb",
    "=1+1",
    "../../x",
    "x" * 5000,
    "٣",
    "(A)",
    [],
    [[]],
    {},
    {"": None},
    ["a", 1],
    "1e-4",
    "${oc.env:HOME}",
)


def damaged(content: bytes, seed: int, header: int | None = None) -> bytes:
    """Content with a few bytes flipped, dropped, doubled, cut off or replaced; `header` keeps to the first bytes."""
    rng = random.Random(seed)
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        end = min(len(data), header or len(data))
        if not end:
            break
        place = rng.randrange(end)
        kind = rng.randrange(6)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.choice((0, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del data[place : place + rng.randint(1, 8)]
        elif kind == 3:
            data[place:place] = data[place : place + rng.randint(1, 16)]
        elif kind == 4:
            data[place : place + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\1\0\0\0"))
        else:
            del data[place:]
    return bytes(data)


def strange(value: Any, seed: int) -> Any:
    """A JSON value with one of its parts replaced, dropped, renamed, doubled or nested in itself."""
    rng = random.Random(seed)
    parents: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            parents.append((node, key))
            walk(node[key])

    copy = json.loads(json.dumps(value))
    walk(copy)
    if not parents:
        return rng.choice(STRANGE)
    node, key = rng.choice(parents)
    kind = rng.randrange(5)
    if kind <= 1:
        node[key] = rng.choice(STRANGE)
    elif kind == 2:
        del node[key]
    elif kind == 3 and isinstance(node, dict):
        node[f"{key}x"] = node.pop(key)
    else:
        node[key] = [node[key]] if rng.random() < 0.5 else {"x": node[key]}
    return copy


def deep(seed: int) -> bytes:
    """JSON nested some thousand levels deep."""
    depth = 3000 + seed
    return b"[" * depth + b"]" * depth


def ends_well(read: Callable[[], object], names: Sequence[str], known: tuple[type[Exception], ...]) -> str | None:
    """Message of the error that a reader ends with, None where it ends without one.

    Args:
        read: reads a file.
        names: the file's, and others by which a message may tell what is wrong.
        known: errors that commands tell in one line.

    Raises:
        AssertionError: it raises anything else, names nothing, or takes more than five seconds or another GiB.
    """
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = None
    try:
        read()
    except known as error:
        message = str(error)
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {str(error)[:300]}") from error
    if message is not None and not any(name in message for name in names):
        raise AssertionError(f"nothing is named in: {message[:300]!r}")
    assert "weights_only=False" not in (message or "")
    assert time.monotonic() - start < MOST_SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES
    return message
