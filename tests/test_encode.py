"""Runs that share a feature store encode each clip once, and learn from it what they would learn from audio."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from samples import waveform

from salmonn_lab import encode, evaluate
from salmonn_lab.batch import Batch, ClipBatch, Example, Segment
from salmonn_lab.config import RunConfig, load_config
from salmonn_lab.console import run_command
from salmonn_lab.data import features
from salmonn_lab.data.manifest import read_manifest, write_manifest
from salmonn_lab.data.modules import SpeechDataModule, reader
from salmonn_lab.encode import ClipEncoder, clips_of, fill, load_encoders
from salmonn_lab.evaluate import data_module
from salmonn_lab.fit import fit
from salmonn_lab.model.whisper import WhisperSpeechEncoder
from salmonn_lab.model.yamnet import Yamnet
from salmonn_lab.salmonn import Salmonn

pytestmark = pytest.mark.filterwarnings("ignore")
Load = Callable[..., RunConfig]


@pytest.fixture
def load(settings: Path, tmp_path: Path) -> Load:
    """Return what composes the miniature run, with a store beside its folder, and overrides."""
    return lambda *overrides: load_config([settings], [f"features={tmp_path / 'store'}", *overrides])


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how many clips each encoder has seen since."""
    seen: Counter[str] = Counter()
    for kind in (WhisperSpeechEncoder, Yamnet):

        def forward(
            self: Any, waveforms: torch.Tensor, lengths: torch.Tensor, kind: Any = kind, original: Any = kind.forward
        ) -> Any:
            seen[kind.__name__] += len(lengths)
            return original(self, waveforms, lengths)

        monkeypatch.setattr(kind, "forward", forward)
    return seen


@pytest.mark.slow
def test_twelve_runs_encode_each_clip_once(
    load: Load, corpus: Path, tmp_path: Path, encoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on, validated on and measured, by all runs and once more; a third of them has one encoder of the two."""
    levels = ["model.bridge.level=window", "model.bridge.level=sequence"]
    queries = ["model.bridge.num_queries=1", "model.bridge.num_queries=2"]
    runs = [*product(levels, queries, ["seed=0", "seed=1", "model.audio_encoder=null"])]
    assert len(runs) == 12
    for number, axes in enumerate(runs):
        common = ["evaluation.before=[]", "trainer.max_steps=3", f"out_dir={tmp_path / str(number)}"]
        fit(load(*common, *axes, f"evaluation.benchmarks=[{corpus}]"))
    assert encoded == {"WhisperSpeechEncoder": 5, "Yamnet": 5}
    monkeypatch.setattr(sys, "argv", ["evaluate", "--run", str(tmp_path / "0"), f"benchmarks=[{corpus}]"])
    evaluate.main()
    assert encoded == {"WhisperSpeechEncoder": 5, "Yamnet": 5}


def batches_of(config: RunConfig, model: Salmonn, stored: bool) -> list[Batch]:
    data = data_module(config, model)
    if stored:
        data.features = fill(config, model.encoders, clips_of(config))
    data.setup("fit")
    return list(data.train_dataloader())


def losses(config: RunConfig, model: Salmonn, stored: bool) -> list[torch.Tensor]:
    """Return the token losses of every training batch."""
    with torch.no_grad():
        return [model.token_losses(batch) for batch in batches_of(config, model, stored)]


ENCODERS = {
    "both": [],
    "whisper": ["model.audio_encoder=null"],
    "yamnet": ["model.whisper=null"],
    "beats": ["model.audio_encoder.kind=beats", "model.audio_encoder.checkpoint={beats}"],
}


@pytest.mark.parametrize("span", ["clip", pytest.param("thirty_seconds", marks=pytest.mark.slow)])
@pytest.mark.parametrize("level", ["window", "sequence"])
@pytest.mark.parametrize("encoders", ENCODERS)
def test_losses_from_the_store_are_those_from_audio(
    load: Load, tiny: Path, span: str, level: str, encoders: str
) -> None:
    """To the bit where a clip is encoded alone; beside others, matrix products round differently."""
    changes = [change.format(beats=tiny / "beats.pt") for change in ENCODERS[encoders]]
    config = load(f"model.bridge.span={span}", f"model.bridge.level={level}", *changes, "data.max_batch_size=1")
    model = Salmonn(config.model).eval()
    for stored, wanted in zip(losses(config, model, True), losses(config, model, False), strict=True):
        assert torch.equal(stored, wanted)
    config.data.max_batch_size = 3
    for stored, wanted in zip(losses(config, model, True), losses(config, model, False), strict=True):
        torch.testing.assert_close(stored, wanted, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(("storage", "error"), [("float16", 1e-3), ("bfloat16", 1e-2)])
def test_shorter_storage_moves_losses_a_little(load: Load, storage: str, error: float) -> None:
    config = load(f"features_dtype={storage}")
    model = Salmonn(config.model).eval()
    pairs = list(zip(losses(config, model, True), losses(config, model, False), strict=True))
    for stored, wanted in pairs:
        torch.testing.assert_close(stored, wanted, rtol=0, atol=error)
    assert any(not torch.equal(stored, wanted) for stored, wanted in pairs)


@pytest.mark.parametrize("encoders", ["both", pytest.param("beats", marks=pytest.mark.slow)])
def test_a_clip_longer_than_thirty_seconds_is_stored_across_its_seams(
    load: Load, tiny: Path, tmp_path: Path, encoders: str
) -> None:
    examples = []
    for index, seconds in enumerate((31.3, 2.0)):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, waveform(seconds, index), 16_000)
        examples.append(Example(f"long-{index}", (Segment(str(path)),), "asr", "one", duration=seconds))
    write_manifest(tmp_path / "long.jsonl", examples)
    changes = [change.format(beats=tiny / "beats.pt") for change in ENCODERS[encoders]]
    config = load(
        f"data.sources=[{{manifest: {tmp_path / 'long.jsonl'}}}]",
        "data.validation=[]",
        "data.max_seconds=60",
        *changes,
    )
    model = Salmonn(config.model).eval()
    (stored,), (audio,) = (batches_of(config, model, stored) for stored in (True, False))
    for got, wanted in zip(model.encode(stored), model.encode(audio), strict=True):
        count = got.mask.shape[1]  # what comes after the last frame is not stored
        assert torch.equal(got.mask, wanted.mask[:, :count])
        assert not wanted.mask[:, count:].any()
        torch.testing.assert_close(got.features, wanted.features[:, :count], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.token_losses(stored), model.token_losses(audio), rtol=1e-5, atol=1e-5)


def test_no_audio_is_decoded_once_it_is_encoded(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load("data.speeds=[0.9,1.0]")
    model = Salmonn(config.model).eval()
    data = data_module(config, model)
    data.features = fill(config, model.encoders, clips_of(config))

    def refuse(*_: object) -> None:
        raise AssertionError("audio was decoded")

    monkeypatch.setattr("salmonn_lab.data.audio.decode", refuse)
    data.setup("fit")
    batches = [*data.train_dataloader(), *data.val_dataloader()]  # type: ignore[list-item]
    assert sum(len(batch.ids) for batch in batches) == 10
    assert {batch.waveforms.shape[1] for batch in batches} == {0}


def test_every_clip_is_encoded_at_every_speed_that_it_is_played_at(
    load: Load, corpus: Path, encoded: Counter[str]
) -> None:
    config = load("data.speeds=[0.5,1.0]", "data.min_seconds=0", f"evaluation.benchmarks=[{corpus}]")
    clips = clips_of(config)
    seconds = [float(example.duration or 0) for example in read_manifest(corpus)]
    assert sorted(clip.seconds for clip in clips) == sorted([*seconds, *(2 * value for value in seconds)])
    store = fill(config, load_encoders(config), clips)
    assert encoded == {"WhisperSpeechEncoder": 10, "Yamnet": 10}
    for clip in clips:
        assert [len(frames.mask) for frames in store.frames(clip)] == [round(50 * clip.seconds)] * 2


def test_a_reader_that_changes_waveforms_excludes_the_store(load: Load) -> None:
    config = load()
    model = Salmonn(config.model).eval()
    data: SpeechDataModule = data_module(config, model)
    plain = data.read
    data.read = lambda segments, speed=1.0: plain(segments, speed=speed) + torch.randn(1)
    data.features = fill(config, model.encoders, clips_of(config))
    data.setup("fit")
    with pytest.raises(ValueError, match="features must be null where waveforms are changed"):
        data.train_dataloader()


def test_an_interrupted_command_goes_on_with_what_is_missing(
    load: Load, encoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PUBLISH_SECONDS", 0.0)
    config = load("data.max_batch_size=1")
    encoders, clips = load_encoders(config), clips_of(config)
    original = ClipEncoder.predict_step

    class StoppedError(Exception):
        pass

    def stop(self: ClipEncoder, clips: ClipBatch, batch_idx: int) -> None:
        if batch_idx == 3:
            raise StoppedError
        original(self, clips, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(ClipEncoder, "predict_step", stop)
        with pytest.raises(StoppedError):
            fill(config, encoders, clips)
    assert encoded["Yamnet"] == 3
    fill(config, encoders, clips)
    assert encoded == {"WhisperSpeechEncoder": 5, "Yamnet": 5}


def test_a_torn_shard_is_redone_and_the_rest_is_not(load: Load, encoded: Counter[str]) -> None:
    config = load()
    encoders, clips = load_encoders(config), clips_of(config)
    store = fill(config, encoders, clips)
    shard = features.shards(store.folder / store.names()[0])[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    fill(config, encoders, clips)
    assert encoded == {"WhisperSpeechEncoder": 10, "Yamnet": 5}
    shard = features.shards(store.folder / store.names()[1])[0]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 255
    shard.write_bytes(content)
    fill(config, encoders, clips, verify_shards=True)
    assert encoded == {"WhisperSpeechEncoder": 10, "Yamnet": 10}


def test_other_weights_have_frames_of_their_own(load: Load, tmp_path: Path, tiny: Path, encoded: Counter[str]) -> None:
    config = load()
    encoders, clips = load_encoders(config), clips_of(config)
    fill(config, encoders, clips)
    with torch.no_grad():
        encoders.streams[0].encoder.layer_norm.bias[0] += 1e-3
    store = fill(config, encoders, clips)
    assert encoded == {"WhisperSpeechEncoder": 10, "Yamnet": 5}
    assert len(features.folders(store.folder)) == 4
    assert fill(
        load("model.bridge.span=thirty_seconds"), load_encoders(load("model.bridge.span=thirty_seconds")), clips
    )
    assert encoded == {"WhisperSpeechEncoder": 15, "Yamnet": 5}, "the sounds do not depend on the span"


def test_audio_that_changed_behind_the_back_of_its_date_is_noticed(
    load: Load, corpus: Path, tmp_path: Path, encoded: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    examples = []
    for index in range(3):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, waveform(1.0, index), 16_000)
        examples.append(Example(str(index), (Segment(str(path)),), "asr", "one", duration=1.0))
    write_manifest(tmp_path / "own.jsonl", examples)
    config = load(f"data.sources=[{{manifest: {tmp_path / 'own.jsonl'}}}]", "data.validation=[]")
    encoders = load_encoders(config)
    fill(config, encoders, clips_of(config))
    state = path.stat()
    soundfile.write(path, waveform(1.0, 9), 16_000)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    fill(config, encoders, clips_of(config))
    assert "2.wav no longer holds the samples that were encoded" in capsys.readouterr().err
    assert encoded == {"WhisperSpeechEncoder": 4, "Yamnet": 4}
    fill(config, encoders, clips_of(config))
    assert encoded == {"WhisperSpeechEncoder": 4, "Yamnet": 4}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["encode", *map(str, arguments)])
    encode.main()


def test_the_command_estimates_encodes_and_prunes(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"features={tmp_path / 'store'}"
    run(monkeypatch, "--config", settings, store, "--estimate")
    assert "5 clips" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
    for storage in ("float32", "bfloat16"):
        run(monkeypatch, "--config", settings, store, f"features_dtype={storage}")
        assert "5 of 5 clips are to be encoded" in capsys.readouterr().err
    run(monkeypatch, "--config", settings, store)
    assert "to be encoded" not in capsys.readouterr().err
    (tmp_path / "kept.yaml").write_text(
        f"{settings.read_text()}\nfeatures: {tmp_path / 'store'}\nfeatures_dtype: bfloat16\n"
    )
    run(monkeypatch, "--config", settings, store, "model.whisper=null", "--prune", "--keep", tmp_path / "kept.yaml")
    left = {re.sub("-[0-9a-f]{32}-", " ", folder.name) for folder in features.folders(tmp_path / "store")}
    assert left == {"sources", "Yamnet float32", "Yamnet bfloat16", "WhisperSpeechEncoder bfloat16"}
    run(monkeypatch, "--config", settings, store, "features_dtype=bfloat16")
    assert "to be encoded" not in capsys.readouterr().err


def test_mistakes_end_the_command_with_one_line(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        ([], "features is null: name the folder"),
        ([f"features={tmp_path / 'store'}", "--keep", "x.yaml"], "--keep says what --prune leaves"),
        ([f"features={settings}"], f"features={settings} is not a folder"),
    ):
        monkeypatch.setattr(sys, "argv", ["encode", "--config", str(settings), *arguments])
        with pytest.raises(SystemExit) as ended:
            run_command(encode.main)
        assert ended.value.code == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(said) == 1
        assert message in said[0]


SLOWLY = """
import sys, time
from salmonn_lab import encode
from salmonn_lab.data import features
features.PUBLISH_SECONDS = 0.0
original = encode.ClipEncoder.predict_step
def predict_step(self, clips, batch_idx):
    time.sleep(0.3)
    original(self, clips, batch_idx)
encode.ClipEncoder.predict_step = predict_step
encode.main()
"""


def start(settings: Path, *arguments: object) -> subprocess.Popen[str]:
    script = settings.with_name("slowly.py")  # a file, for Lightning to start a second process with
    script.write_text(SLOWLY)
    words = [sys.executable, str(script), "--config", str(settings), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(load: Load, settings: Path, encoded: Counter[str]) -> None:
    config = load("data.max_batch_size=1")
    folder = Path(config.features or "")
    for shards in (1, 3):
        process = start(settings, f"features={folder}", "data.max_batch_size=1")
        while len(list(folder.glob("sources/*.safetensors"))) < shards:
            assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    clips = clips_of(config)
    store = features.FeatureStore(folder, load_encoders(config).specs(), "float32")
    store.scan()
    left = len(store.find(clips, reader(config.data)))
    assert 0 < left <= 2, "the kills came too late to show anything"
    fill(config, load_encoders(config), clips)
    assert encoded["Yamnet"] == left


@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True], ids=["two commands", "one command of two processes"])
def test_two_processes_fill_one_store(load: Load, settings: Path, together: bool, encoded: Counter[str]) -> None:
    config = load("data.max_batch_size=1")
    arguments = [f"features={config.features}", "data.max_batch_size=1"]
    if together:
        processes = [start(settings, *arguments, "trainer.devices=2", "trainer.strategy=ddp")]
    else:
        processes = [start(settings, *arguments) for _ in range(2)]
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said
    clips = clips_of(config)
    store = fill(config, load_encoders(config), clips, verify_shards=True)
    assert not encoded
    if together:
        rows = [
            len(shard["contents"])
            for name in store.names()
            for path in features.shards(store.folder / name)
            if (shard := features.open_shard(path, name)) is not None
        ]
        assert sum(rows) == 2 * 5, "no clip was encoded by both"
    model = Salmonn(config.model).eval()
    for stored, wanted in zip(losses(config, model, True), losses(config, model, False), strict=True):
        np.testing.assert_allclose(stored, wanted, rtol=1e-6, atol=2e-6)
