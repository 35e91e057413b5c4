"""Manifests of corpora that `python -m salmonn_lab.prepare` has written on this machine, found by name."""

from __future__ import annotations

import os
from pathlib import Path

from salmonn_lab.data.corpora import readers

PREFIX = "data:"


def data_root() -> Path:
    """Return the folder of prepared manifests: `SALMONN_LAB_DATA`, or `data` in the working folder."""
    return Path(os.environ.get("SALMONN_LAB_DATA") or "data").expanduser()


def location(reference: str) -> Path:
    """Return where the manifest behind `data:CORPUS/SPLIT` is, or would be.

    Raises:
        ValueError: there is no such corpus or split.
    """
    corpus, _, split = reference.removeprefix(PREFIX).partition("/")
    readers.find_split(corpus, split)
    return data_root() / readers.manifest_name(corpus, split)


def locate(reference: str) -> Path:
    """Return the manifest behind `data:CORPUS/SPLIT`.

    Raises:
        ValueError: there is no such corpus or split.
        FileNotFoundError: it was not prepared; says what is missing, where to get it, and the command to type.
    """
    path = location(reference)
    if not path.is_file():
        corpus, _, split = reference.removeprefix(PREFIX).partition("/")
        raise FileNotFoundError(
            f"{path} is not there: get {corpus} ({readers.CORPORA[corpus].how_to_get}), then run "
            f"`python -m salmonn_lab.prepare {corpus} --root DIR --split {split}`, where DIR is "
            f"{readers.CORPORA[corpus].folder}. SALMONN_LAB_DATA names another folder of manifests than data/ "
            f"(licence: {readers.CORPORA[corpus].licence})"
        )
    return path
