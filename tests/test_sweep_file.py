"""Whatever is wrong with a `sweep.py`, one line names the file, the line and the reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from salmonn_lab.experiment import load_experiment

HEAD = '"""How many?"""\nfrom salmonn_lab.experiment import Sweep, grid\n'
QUERIES = "grid({'model.bridge.num_queries': [1, 2]})"
BASELINE = "{'model.bridge.num_queries': 1}"


def write(folder: Path, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "base.yaml").write_text("checkpoint_every: 7\n")
    (folder / "sweep.py").write_text(HEAD + body.replace("BASE", repr(str(folder / "base.yaml"))))
    return folder


def sweep(runs: str = QUERIES, baseline: str = BASELINE, base: str = "BASE", more: str = "") -> str:
    """Body of a file whose SWEEP stands on line 3, its base on 4, its runs on 5 and its baseline on 6."""
    return f"SWEEP = Sweep(\n    base={base},\n    runs={runs},\n    baseline={baseline},\n{more})\n"


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        ("SWEEP = Sweep(\n    runs=[\n", 4, "SyntaxError: '"),
        ("x = 1\n  y = 2\n", 4, "IndentationError: unexpected indent"),
        ("import math\nSWEEP = Swep()\n", 4, "NameError: name 'Swep' is not defined"),
        ("import of_nobody\n", 3, "ModuleNotFoundError: No module named 'of_nobody'"),
        ("def axes():\n    return 1 / 0\n\nSWEEP = axes()\n", 4, "ZeroDivisionError: division by zero"),
        ("raise ValueError\n", 3, "ValueError"),
        ("def f():\n    f()\nf()\n", 4, "RecursionError: maximum recursion"),
        ("import sys\nsys.exit(0)\n", 4, "SystemExit: 0"),
        ("SWEEP = {'base': 'x.yaml'}\n", 3, "the file must set SWEEP = Sweep(...), got {'base'"),
        ("SWEEP = Sweep('x.yaml', [])\n", 3, "TypeError: Sweep.__init__() missing 1 required"),
        (sweep(runs="grid({'model.lora': []})"), 5, "grid: model.lora must be a list of values, got []"),
        (sweep(runs="grid([1])"), 5, "grid: axes must be lists of values by dotted key, got [1]"),
        (sweep(runs="grid({'seed': [0]}, label='{queries}')"), 5, "grid: label: {queries} must be the end of one axis"),
        (sweep(runs="[]"), 5, "runs is empty"),
        (sweep(runs="7"), 3, "Sweep: runs must be a list of dicts of overrides, got 7"),
        (sweep(runs="['seed=1']"), 3, "Sweep: runs[0] must be a dict of overrides by dotted key, got 'seed=1'"),
        (sweep(runs="[{1: 2}]"), 3, "Sweep: runs[0]: a key must be a dotted key of the configuration, got 1"),
        (sweep(runs="[{'seed': {1}}]"), 3, "Sweep: runs[0]: seed must be a number, a text, True"),
        (sweep(runs="[{'optim.lr': float('nan')}]"), 3, "Sweep: runs[0]: optim.lr must be a number"),
        (sweep(runs="[{'seed': print}]"), 3, "Sweep: runs[0]: seed must be a number"),
        (sweep(base="5"), 3, "Sweep: base must be a YAML file or a list of them, got 5"),
        (sweep(base="'nothing.yaml'"), 4, "no config file nothing.yaml"),
        (sweep(baseline="7"), 3, "Sweep: baseline must be a dict of overrides by dotted key, got 7"),
        (sweep(baseline="{'model.bridge.num_queries': 3}"), 6, "baseline must name one setting, and no setting has"),
        (sweep(baseline="'nobody'"), 6, "no setting has the label 'nobody'; there are: num_queries=1; num_queries=2"),
        (sweep(more="    compare=3,\n"), 3, "Sweep: compare must be a list of pairs of settings, got 3"),
        (sweep(more="    compare=[('a',)],\n"), 3, "Sweep: compare[0] must be a pair of settings, got ('a',)"),
        (sweep(more="    compare=['ab'],\n"), 3, "Sweep: compare[0] must be a pair of settings, got 'ab'"),
        (sweep(more="    compare=[('num_queries=1', 'b')],\n"), 7, "compare[0] must name one setting, and no setting"),
        (
            sweep(more="    compare=[({}, {})],\n"),
            7,
            "compare[0] must name one setting, and 2 settings have nothing set",
        ),
        (sweep(more="    compare=[('num_queries=1',) * 2],\n"), 7, "compare[0] must name two settings, and both are"),
        (sweep(more="    labels={'num_queries=3': 'x'},\n"), 7, "labels: there is no setting 'num_queries=3'"),
        (sweep(more="    labels={'num_queries=1': 'x', 'num_queries=2': 'x'},\n"), 7, "have the same label, 'x'"),
        (sweep(more="    labels={'num_queries=1': 3},\n"), 3, "labels must be texts by the names of settings"),
        (sweep(runs="[\n        *grid({'model.bridge.num_querys': [1, 2]}),\n    ]"), 6, "num_querys"),
        (sweep(runs="[\n        {'seed': 1},\n        {'seed': 'many'},\n    ]", baseline="{'seed': 1}"), 7, "many"),
        (sweep(runs="[{'model.bridge.num_queries': -1}]"), 5, "num_queries"),
        ("KEY = 'model.bridge.' + 'num_querys'\n" + sweep(runs="[{KEY: 1}]"), 6, "num_querys"),
        (sweep(runs="[{'seed': 1}, {'seed': 1}]", baseline="{}"), 5, "seed=1 and seed=1 are the same run"),
    ],
)
def test_an_error_names_the_file_and_the_line(tmp_path: Path, body: str, line: int, message: str) -> None:
    folder = write(tmp_path / "bad", body)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load_experiment(folder)
    text = str(caught.value)
    assert text.startswith(f"{folder / 'sweep.py'}:{line}: ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"""A?"""\nx = "\xff"\n', "SyntaxError"),
        (b'"""A?"""\n\0', "null bytes"),
        (b"SWEEP = 1\n", ":1: the file must set SWEEP"),
        (b"from salmonn_lab.experiment import Sweep\nSWEEP = Sweep('x', [{}], {})\n", ":1: the file must open with"),
    ],
)
def test_a_file_that_is_no_python_or_asks_nothing_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "sweep.py").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        load_experiment(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'sweep.py'}:")
    assert message in str(caught.value)


def test_what_a_file_defines_may_be_a_dataclass(tmp_path: Path) -> None:
    body = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n"
    folder = write(tmp_path / "good", "")
    text = f'"""How many?"""\n{body}from salmonn_lab.experiment import Sweep, grid\n{sweep()}'
    (folder / "sweep.py").write_text(text.replace("BASE", repr(str(folder / "base.yaml"))))
    assert len(load_experiment(folder).planned) == 2
    assert not [name for name in sys.modules if name.startswith("experiment_")]


def test_the_command_ends_with_one_line_and_code_2(tmp_path: Path) -> None:
    folder = write(tmp_path / "bad", "SWEEP = Swep()\n")
    ended = subprocess.run(
        [sys.executable, "-m", "salmonn_lab.sweep", str(folder)], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2
    assert ended.stderr == f"error: {folder / 'sweep.py'}:3: NameError: name 'Swep' is not defined\n"
