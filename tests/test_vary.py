"""Runs measured at other scales of LoRA, and without what they hear: the audio's part in a score."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from salmonn_lab import evaluate, runs, vary
from salmonn_lab.batch import LIKELIHOOD, Prediction
from salmonn_lab.config import load_config
from salmonn_lab.console import run_command
from salmonn_lab.data.audio import read_audio
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.fit import fit
from salmonn_lab.predictions import read_predictions
from salmonn_lab.salmonn import Salmonn

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("short")]


@pytest.fixture
def run(settings: Path, corpus: Path, tmp_path: Path) -> runs.Run:
    options = [f"evaluation.benchmarks=[{corpus}]", "evaluation.before=[]", "trainer.max_steps=3", "data.validation=[]"]
    return fit(load_config([settings], [*options, f"features={tmp_path / 'store'}"]))


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["vary", *map(str, arguments)])
    vary.main()


def answers(folder: Path) -> list[Prediction]:
    return read_predictions(folder / "predictions" / "corpus.jsonl")


def texts(folder: Path) -> list[str]:
    return [prediction.text for prediction in answers(folder)]


def noted(folder: Path) -> list[Any]:
    return [prediction.meta[LIKELIHOOD]["reference"] for prediction in answers(folder)]


def test_every_change_is_measured_and_compared_with_the_run_as_trained(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(monkeypatch, "--run", run.folder)
    variants = run.folder / "variants"
    report = json.loads((variants / "report.json").read_text())
    names = ["as trained", *(f"lora.scale={scale}" for scale in (0, 4, 8, 12, 20))]
    names += [f"audio={heard}" for heard in ("mute", "noise", "shuffled", "no_whisper", "no_audio_encoder")]
    assert [setting["name"] for setting in report["settings"]] == names
    assert [row["setting"] for row in report["comparisons"]] == names[1:]
    assert report["axes"] == ["lora.scale", "audio"]
    assert report["settings"][0]["values"] == {"lora.scale": "16", "audio": "clip"}
    metrics = {score["metric"] for score in report["settings"][1]["scores"]}
    assert {"wer", "perplexity", "bits_per_byte"} <= metrics
    likely = {name: noted(folder) for name, folder in folders(run, names).items()}
    assert len({json.dumps(notes) for notes in likely.values()}) == len(names), "every change tells"
    page = (variants / "report.html").read_text()
    assert page.count('aria-label="wer against lora.scale"') == page.count('"perplexity against lora.scale"') == 1
    monkeypatch.setattr(Salmonn, "__init__", lambda *_, **__: pytest.fail("a model was built"))
    call(monkeypatch, "--run", run.folder)
    assert json.loads((variants / "report.json").read_text()) == report, "what is answered is kept"


def folders(run: runs.Run, names: list[str]) -> dict[str, Path]:
    places = [name.replace("lora.", "model.lora.").replace("audio=", "evaluation.audio=") for name in names]
    return {
        name: run.folder if name == "as trained" else run.folder / "variants" / place
        for name, place in zip(names, places, strict=True)
    }


@pytest.mark.slow
def test_the_scale_of_the_training_changes_nothing_and_silence_makes_clips_alike(
    run: runs.Run, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(monkeypatch, "--run", run.folder, "--scales", "16", "--audio", "mute", "shuffled")
    same = run.folder / "variants" / "model.lora.scale=16"
    assert texts(same) == texts(run.folder)
    assert noted(same) == noted(run.folder)
    model, prompt = Salmonn.from_run(run.folder), answers(run.folder)[0].prompt
    silent = run.folder / "variants" / "evaluation.audio=mute"
    seconds = [0.5 + 0.4 * index for index in range(5)]
    waves = [torch.zeros(round(16_000 * length)) for length in seconds]
    heard = model.score(waves, [prompt] * 5, [prediction.references[0] for prediction in answers(silent)])
    for note, scores in zip(noted(silent), heard, strict=True):
        assert note == pytest.approx([float(scores.sum()), len(scores)], rel=1e-5)
    other = run.folder / "variants" / "evaluation.audio=shuffled"
    clips = [read_audio(example.audio) for example in read_manifest(corpus)]
    for prediction, note in zip(answers(other), noted(other), strict=True):
        (reference,) = prediction.references
        sums = [float(scores.sum()) for scores in model.score(clips, [prompt] * 5, [reference] * 5)]
        own = int(prediction.id.removeprefix("clip-"))
        near = [index for index, value in enumerate(sums) if note[0] == pytest.approx(value, rel=3e-6)]
        assert near
        assert own not in near


def test_runs_without_lora_or_a_second_encoder_are_told(
    settings: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"evaluation.benchmarks=[{corpus}]", "evaluation.before=[]", "trainer.max_steps=1", "data.validation=[]"]
    run = fit(load_config([settings], [*options, "model.lora=null", "model.audio_encoder=null"]))
    assert vary.default_scales(run.config().model) == []
    assert vary.default_heard(run.config().model) == ["mute", "noise", "shuffled"]
    for arguments, message in (
        (["--scales", "2"], "was trained without LoRA: there is no scale to change"),
        (["--audio", "no_audio_encoder"], "the model has no audio_encoder that could be turned off"),
    ):
        with pytest.raises(SystemExit):
            run_command(lambda arguments=arguments: call(monkeypatch, "--run", run.folder, *arguments))  # type: ignore[misc]
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        call(monkeypatch, "--run", run.folder, "--run", run.folder)
    assert "--out must say where" in capsys.readouterr().err


def test_the_reader_of_a_clip_is_the_runs_own_again_afterwards(run: runs.Run, corpus: Path) -> None:
    model = Salmonn.from_run(run.folder)
    data = evaluate.data_module(runs.localize(run.config()), model)
    read = data.read
    with evaluate.hearing(model, data, "noise"):
        assert data.read is not read
    assert data.read is read
    assert read_audio is read.func  # type: ignore[attr-defined]
