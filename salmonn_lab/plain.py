"""Files of tensors and plain values that may come from a stranger."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch


def read_plain(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors and plain values; one that holds anything else, such as code, is refused and not run.

    The tensors are mapped into memory, so that what nobody looks at (two thirds of a released checkpoint are the state
    of its optimizer) is never read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is torn, foreign, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch raises many kinds for a torn or foreign file
        raise ValueError(f"{path} cannot be read as a checkpoint: {str(error).splitlines()[0]}") from None
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} cannot be read as a checkpoint: it holds a {type(loaded).__name__}, not a dict")
    return loaded
