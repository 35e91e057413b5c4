"""Manifests of corpora that `python -m salmonn_lab.prepare` has written on this machine, found by name."""

from __future__ import annotations

import os
from pathlib import Path

PREFIX = "data:"


def data_root() -> Path:
    """Return the folder of prepared manifests: `SALMONN_LAB_DATA`, or `data` in the working folder."""
    return Path(os.environ.get("SALMONN_LAB_DATA") or "data").expanduser()


# The table of corpora is imported when a manifest is asked for: it brings the libraries of all readers with it.


def location(reference: str) -> Path:
    """Return where the manifest behind `data:CORPUS/SPLIT` is, or would be.

    Raises:
        ValueError: there is no such corpus or split.
    """
    from salmonn_lab.data.corpora import readers

    corpus, split = parse(reference)
    readers.find_split(corpus, split)
    return data_root() / readers.manifest_name(corpus, split)


def locate(reference: str) -> Path:
    """Return the manifest behind `data:CORPUS/SPLIT`.

    Raises:
        ValueError: there is no such corpus or split.
        FileNotFoundError: it was not prepared; says what is missing, where to get it, and the command to type.
    """
    from salmonn_lab.data.corpora import readers

    path = location(reference)
    if not path.is_file():
        name, split = parse(reference)
        corpus = readers.CORPORA[name]
        raise FileNotFoundError(
            f"{path} is not there: get {name} ({corpus.how_to_get}; licence: {corpus.licence}), then run "
            f"`python -m salmonn_lab.prepare {name} --root DIR --split {split}`, where DIR is {corpus.folder}. "
            "SALMONN_LAB_DATA names another folder of manifests than data/"
        )
    return path


def parse(reference: str) -> tuple[str, str]:
    """Return the corpus and the split that a reference names."""
    corpus, _, split = reference.removeprefix(PREFIX).partition("/")
    return corpus, split
