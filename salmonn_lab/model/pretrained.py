"""Checkpoints in the layout of transformers, loaded whole or refused in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from torch import Tensor, nn

from salmonn_lab.plain import reason

MOST_WEIGHTS_PER_BYTE = 8
"""No format has less than a bit for each."""
SHOWN = 5
"""How many names an error lists."""


def load_pretrained(
    kind: Any, key: str, checkpoint: str, revision: str | None = None, part: str = "", **options: Any
) -> Any:
    """Model of a folder or hub name, every weight of which was in its files and is finite.

    Args:
        kind: a class of transformers with `from_pretrained`.
        key: the part of the config that names the checkpoint, such as `model.llm`; for errors.
        checkpoint: a folder or a hub name.
        revision: branch, tag or commit of a hub name; None is its main branch.
        part: what the names of the weights that are kept begin with, such as `encoder.`.
        options: passed on to `from_pretrained`.

    Raises:
        ValueError: the files are missing, torn or hold code; or a weight is missing, of another shape, left over from a
            larger model, or not finite. The key, the checkpoint and the weights are named.
    """
    check_revision(key, checkpoint, revision)
    try:
        model, info = kind.from_pretrained(
            checkpoint,
            revision=revision or "main",
            weights_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they can be named
            **options,
        )
    except Exception as error:  # transformers, safetensors and torch raise many kinds
        raise ValueError(f"{key}.checkpoint: {checkpoint} cannot be loaded: {reason(error)}") from error
    problems = [f"{name} is missing" for name in sorted(info["missing_keys"]) if name.startswith(part)]
    problems += [
        f"{name} is {tuple(stored)}, its config.json makes it {tuple(wanted)}"
        for name, stored, wanted in sorted(info["mismatched_keys"])
        if name.startswith(part)
    ]
    names = {name for name, _ in model.named_parameters()}
    problems += [
        f"{name} does not fit its config.json"
        for name in sorted(info["unexpected_keys"])
        if name.startswith(part) and belongs(name, names)
    ]
    weights = {name: weight for name, weight in model.named_parameters() if name.startswith(part)}
    problems += [f"{name} {fault}" for name, fault in not_finite(weights)]
    if problems:
        raise ValueError(f"{key}.checkpoint: {checkpoint} cannot be used: {listed(problems)}")
    return model


def check_size(key: str, checkpoint: str, model: nn.Module) -> None:
    """Refuse a folder whose config.json makes more weights than its files can hold, before memory is taken for them.

    Args:
        key: as in `load_pretrained`.
        checkpoint: a folder; hub names are not checked.
        model: as the config makes it, on the `meta` device.

    Raises:
        ValueError: names the checkpoint and both sizes.
    """
    files = [file for file in Path(checkpoint).glob("*") if file.suffix in (".safetensors", ".bin")]
    stored = sum(file.stat().st_size for file in files)
    weights = sum(weight.numel() for weight in model.parameters())
    if files and weights > MOST_WEIGHTS_PER_BYTE * stored:
        raise ValueError(
            f"{key}.checkpoint: {checkpoint} cannot be used: its config.json makes {weights:,} weights, "
            f"its files have {stored:,} bytes"
        )


def belongs(name: str, own: Iterable[str]) -> bool:
    """Whether a weight that a model does not take is one of a further layer, or of a layer that it has without it."""

    def numberless(text: str) -> str:
        return re.sub(r"\d+", "#", text)

    layers = {numberless(each.rpartition(".")[0]) for each in own}
    return numberless(name.rpartition(".")[0]) in layers and name.rpartition(".")[2] in ("weight", "bias")


def check_revision(key: str, checkpoint: str, revision: str | None) -> None:
    """Refuse a revision of what has none.

    Raises:
        ValueError: the checkpoint is a folder.
    """
    if revision is not None and Path(checkpoint).exists():
        raise ValueError(f"{key}.revision={revision} is for hub names; {checkpoint} is a folder, which has none")


def not_finite(weights: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Names of the tensors that hold NaN or infinity, each with what it holds; one pass over memory."""
    faults = []
    for name, weight in weights.items():
        if weight.is_meta or not weight.is_floating_point() or weight.element_size() < 2 or not weight.numel():
            continue  # types of 8 bits have no such reduction
        lowest, highest = torch.aminmax(weight.detach())
        if not bool(torch.isfinite(lowest)) or not bool(torch.isfinite(highest)):
            faults.append((name, "holds values that are not finite"))
    return faults


def check_weights(weights: Mapping[str, Any], source: str) -> None:
    """Refuse a state that holds anything but finite tensors of numbers.

    Raises:
        ValueError: the first few of them are named.
    """
    problems = []
    for name, weight in weights.items():
        if not isinstance(weight, Tensor):
            problems.append(f"{name} is a {type(weight).__name__}, not a tensor")
        elif weight.is_meta or weight.layout != torch.strided or not weight.is_floating_point():
            problems.append(f"{name} is a tensor of {weight.dtype} on {weight.device}, not of floating-point numbers")
    problems = problems or [f"{name} {fault}" for name, fault in not_finite(weights)]
    if problems:
        raise ValueError(f"{source} cannot be used: {listed(problems)}")


def listed(problems: list[str]) -> str:
    """The first few problems in one line, and how many more there are."""
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return "; ".join(problems[:SHOWN]) + more


def commit(checkpoint: str, revision: str | None) -> str | None:
    """Commit of the hub repository that a checkpoint came from, as the hub's cache knows it; None for a folder."""
    if Path(checkpoint).exists():
        return None
    cache = huggingface_hub.constants.HF_HUB_CACHE
    file = huggingface_hub.try_to_load_from_cache(checkpoint, "config.json", cache_dir=cache, revision=revision)
    return Path(file).parent.name if isinstance(file, str) else None
