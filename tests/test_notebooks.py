"""The notebooks run from top to bottom, and are stored without what they printed."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped_and_the_reader_is_told_what_to_learn(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert book.cells[0].cell_type == "markdown"
    assert book.cells[0].source.startswith("# ")
    assert "You will " in book.cells[0].source


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("PATH", os.defpath)  # a notebook runs the Python of its kernel, wherever that is installed
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=900, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert not [out for cell in book.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    outputs = [out for cell in book.cells for out in cell.get("outputs", [])]
    said = [out.text for out in outputs if out.output_type == "stream" and out.name == "stderr"]
    assert not [text for text in said if "Warning" in text or "warn(" in text]
    shown = {kind for cell in book.cells for out in cell.get("outputs", []) for kind in out.get("data", {})}
    assert "image/png" in shown or "text/html" in shown


def test_there_are_four() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04"]
