"""What a run hears does not depend on who asks: evaluation, `infer` and the methods for notebooks read alike."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from samples import SHORT, few_fast, waveform

from salmonn_lab import infer, runs
from salmonn_lab.batch import LIKELIHOOD, Example, Segment
from salmonn_lab.config import load_config
from salmonn_lab.data.audio import AudioReading, read_audio
from salmonn_lab.data.modules import Benchmark
from salmonn_lab.evaluate import data_module
from salmonn_lab.model.llm import DecodingConfig
from salmonn_lab.salmonn import ModelConfig, Salmonn

QUESTION = "What is said?"
TARGET = "one two"


@pytest.fixture
def clips(tmp_path: Path) -> list[str]:
    """Return files of 45 s, 0.2 s, and of stereo whose channels differ, at another rate."""
    stereo = np.stack([waveform(1.3, 3), waveform(1.3, 4)], 1)
    for name, samples, rate in [
        ("long.wav", waveform(45.0, 1), 16_000),
        ("short.wav", waveform(0.2, 2), 16_000),
        ("stereo.flac", stereo, 12_000),
    ]:
        soundfile.write(tmp_path / name, samples, rate)
    return [str(tmp_path / name) for name in ("short.wav", "long.wav", "stereo.flac")]


def make_run(settings: Path, *overrides: str) -> runs.Run:
    made = runs.start(load_config([settings], overrides), resume=False)
    model = Salmonn(made.config().model, seed=1)
    made.checkpoint.parent.mkdir(parents=True)
    torch.save({"state_dict": model.trainable_state(), "frozen": model.fingerprints()}, made.checkpoint)
    return made


def evaluated(run: runs.Run, clips: list[str]) -> dict[str, tuple[torch.Tensor, float, str, str]]:
    """Return, as evaluation has them, a clip's audio tokens, the log-likelihood of an answer, prompt and text."""
    model = runs.load_model(run)
    model.decoding, model.likelihood = DecodingConfig(**SHORT), True
    data = data_module(run.config(), model)
    examples = [Example(clip, (Segment(clip),), "question", "", references=(TARGET,)) for clip in clips]
    found = {}
    for index, batch in enumerate(data.predict_loader(Benchmark(examples, data.prompts.around(QUESTION)))):
        with torch.no_grad():
            audio = model.hear(batch)
        for row, prediction in enumerate(model.predict_step(batch, index)):
            likely = prediction.meta[LIKELIHOOD]["reference"][0]
            found[prediction.id] = (audio.embeds[row][audio.mask[row]], likely, prediction.prompt, prediction.text)
    return found


@pytest.mark.parametrize(
    "overrides",
    few_fast(
        [
            ["data.channels=mean", "data.min_seconds=0.6", "data.max_seconds=3"],
            [],
            ["data.min_seconds=0", "model.bridge.span=thirty_seconds"],
        ],
        1,
    ),
)
def test_every_door_reads_clips_as_evaluation_does(
    settings: Path, clips: list[str], overrides: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(settings, *overrides)
    expected = evaluated(run, clips)
    model = Salmonn.from_run(run.folder)
    caplog.clear()
    for clip in clips:
        tokens, likely, prompt, text = expected[clip]
        heard = model.audio_tokens([clip])
        assert heard.mask.sum() == len(tokens)
        torch.testing.assert_close(heard.embeds[0][heard.mask[0]], tokens, atol=1e-5, rtol=1e-4)
        assert float(model.score([clip], [prompt], [TARGET])[0].sum()) == pytest.approx(likely, abs=1e-3)
        assert model.listen([clip], [prompt], **SHORT) == [text]
    limit = run.config().data.max_seconds
    assert f"long.wav lasts 45.00 s: cut to its first {limit:g} s" in caplog.text
    assert "short.wav" not in caplog.text
    whole = read_audio([Segment(clips[1])], max_seconds=60.0)
    again = model.audio_tokens([whole])
    torch.testing.assert_close(again.embeds[0], expected[clips[1]][0], atol=1e-5, rtol=1e-4)
    assert f"waveform 0 lasts 45.00 s: cut to its first {limit:g} s" in caplog.text
    answers = list(infer.answer(run, clips, QUESTION, DecodingConfig(**SHORT)))
    assert [answer.id for answer in answers] == clips, "in the order given, not that of length"
    assert [answer.text for answer in answers] == [expected[clip][3] for clip in clips]


def test_a_short_clip_has_the_tokens_of_the_shortest_that_the_run_hears(settings: Path, clips: list[str]) -> None:
    assert Salmonn.from_run(make_run(settings).folder).audio_tokens(clips[:1]).mask.sum() == 3


def test_samples_that_are_no_clip_are_refused_and_integers_are_scaled(tiny_config: ModelConfig) -> None:
    model = Salmonn(tiny_config, reading=AudioReading(min_seconds=0.1)).eval()
    wave = (torch.from_numpy(waveform(0.5, 1)) * 32_767).round() / 32_768
    tokens = model.audio_tokens([wave]).embeds
    equal: list[Any] = [(wave * 32_768).short(), (wave * 2**31).int(), wave.double(), wave.numpy()]
    for same in equal:
        assert torch.equal(model.audio_tokens([same]).embeds, tokens)
    for bad, said in [
        (wave * 32_768, r"waveform 0: holds samples up to \d+\.?\d*, where full scale is 1"),
        (torch.full((100,), torch.nan), "waveform 0: holds samples that are not finite"),
        (torch.full((100,), -torch.inf), "waveform 0: holds samples that are not finite"),
        (wave[None], r"waveform 0: must have the shape \(samples,\), got \(1, 8000\); of several channels give one"),
        (torch.zeros(0), r"waveform 0: must have the shape \(samples,\), got \(0,\)"),
        (torch.tensor(0.5), r"waveform 0: must have the shape \(samples,\), got \(\)"),
        (torch.zeros(100, dtype=torch.int64), r"waveform 0: must be floating point .*, got torch\.int64"),
        (torch.zeros(100, dtype=torch.bool), r"waveform 0: must be floating point .*, got torch\.bool"),
        (torch.zeros(100, dtype=torch.complex64), r"waveform 0: must be floating point .*, got torch\.complex64"),
        ([["x"]], "waveform 0: must be a path or a tensor of samples, got list"),
        (None, "waveform 0: must be a path or a tensor of samples, got NoneType"),
    ]:
        with pytest.raises(ValueError, match=said):
            model.audio_tokens([bad])  # type: ignore[list-item]


def test_infer_names_a_missing_file_before_anything_is_loaded(
    tmp_path: Path, clips: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").touch()
    monkeypatch.setattr(sys, "argv", ["infer", "--run", str(tmp_path), clips[0], str(tmp_path / "no.wav"), QUESTION])
    monkeypatch.setitem(sys.modules, "salmonn_lab.runs", None)
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"no\.wav: no such audio file"):
        infer.main()
    assert time.monotonic() - start < 1.0


def test_infer_answers_a_file_given_twice_twice_and_says_what_it_cuts(
    settings: Path,
    clips: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = make_run(settings)

    def ask(*options: str) -> list[str]:
        files = [clips[0], clips[1], clips[0]]
        arguments = ["infer", "--run", str(run.folder), "--max-new-tokens", "4", *options, *files, QUESTION]
        monkeypatch.setattr(sys, "argv", arguments)
        infer.main()
        return [json.loads(line)["audio"] for line in capsys.readouterr().out.splitlines()]

    with caplog.at_level(logging.WARNING):
        assert ask() == [clips[0], clips[1], clips[0]]
        assert caplog.text.count("long.wav lasts 45.00 s: cut to its first 30 s (data.max_seconds)") == 1
        caplog.clear()
        assert ask("--max-seconds", "50") == [clips[0], clips[1], clips[0]]
        assert "cut" not in caplog.text
