"""Files of tensors: compressed ones are read right, damaged ones and code are refused in one line."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from salmonn_lab.plain import read_plain

WEIGHTS = {"state": {"a": torch.arange(1000.0), "b": torch.ones(3, dtype=torch.bfloat16)}, "step": 3}


def repack(source: Path, target: Path, method: int) -> Path:
    """Write an archive's entries into another archive."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return target


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(WEIGHTS, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_repacked_checkpoint_gives_the_numbers_that_were_saved(file: Path, method: int) -> None:
    loaded = read_plain(repack(file, file.with_name("b.ckpt"), method))
    assert loaded["step"] == 3
    for name, weight in WEIGHTS["state"].items():  # type: ignore[attr-defined]
        assert torch.equal(loaded["state"][name], weight)


def test_one_flipped_bit_is_refused(file: Path) -> None:
    content = bytearray(file.read_bytes())
    place = content.index(torch.arange(1000.0).numpy().tobytes()) + 2000
    content[place] ^= 64
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ckpt cannot be read .*the bytes of its entry a/data/0 do not give the"):
        read_plain(file)


def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(WEIGHTS, tmp_path / "a.ckpt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_plain(tmp_path / "a.ckpt")["state"]["a"], torch.arange(1000.0))


class Attack:
    """Makes a file when a careless reader unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (__import__("os").mkdir, (str(self.path),))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", ["code", "a model", "torn"])
def test_what_cannot_be_read_is_refused_without_advice_to_run_it(content: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    values: Any = {"model": Attack(tmp_path / "made")} if content == "code" else {"model": WEIGHTS}
    if content == "a model":
        values = {"model": torch.nn.Linear(2, 2)}
    torch.save(values, path, _use_new_zipfile_serialization=zipped)
    if content == "torn":
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=re.escape(f"{path} cannot be read as a checkpoint: ")) as raised:
        read_plain(path)
    assert "weights_only" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "made").exists()
    if content == "code":
        assert "it holds code (posix.mkdir)" in str(raised.value)
