"""Files of tensors and plain values that may come from a stranger."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch


def read_plain(path: str | Path) -> dict[str, Any]:
    """Content of a file of tensors and plain values; one that holds anything else, such as code, is not run.

    The tensors are mapped into memory, so that what nobody looks at (two thirds of a released checkpoint are the state
    of its optimizer) takes none. The checksums that PyTorch writes into an archive, and does not compare, are compared.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is torn, damaged, foreign, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint {path}")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=can_be_mapped(path))
    except Exception as error:  # torch and zipfile raise many kinds for a torn or foreign file
        raise ValueError(f"{path} cannot be read as a checkpoint: {reason(error)}") from None
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} cannot be read as a checkpoint: it holds a {type(loaded).__name__}, not a dict")
    return loaded


def can_be_mapped(path: Path) -> bool:
    """Whether a file is an archive whose tensors lie in it as they are: PyTorch would map compressed bytes as numbers.

    Raises:
        ValueError: the bytes of an entry do not give its checksum.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        # Where `torch.serialization.set_crc32_options(False)` was in force, all of them are 0.
        if any(entry.CRC for entry in entries) and (damaged := archive.testzip()):
            raise ValueError(f"the file is damaged: the bytes of its entry {damaged} do not give the checksum stored")
    return all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)


def reason(error: Exception) -> str:
    """Why a library could not read a file, in one line; without torch's advice to run the code in it."""
    text = str(error)
    if "weights_only" in text or "Weights only load failed" in text:
        foreign = re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", text)
        what = f"it holds code ({foreign[1]})" if foreign else "it is torn, or holds more than tensors and plain values"
        return f"{what}; nothing of it was run"
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
