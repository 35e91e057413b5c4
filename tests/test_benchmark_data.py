"""Benchmarks of corpora: prepared, found by name, listed, and missed in the user's words."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import soundfile
from samples import waveform
from trees import write

from salmonn_lab import benchmarks, evaluate, prepare
from salmonn_lab.assets import find_ready, resolve
from salmonn_lab.batch import Prediction
from salmonn_lab.benchmarks import BENCHMARKS
from salmonn_lab.benchmarks.__main__ import main
from salmonn_lab.config import RunConfig
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.data.modules import DataConfig
from salmonn_lab.predictions import read_predictions
from salmonn_lab.salmonn import ModelConfig, Salmonn

TEXTS = {"61-7-0000": "HE SAID NO", "61-7-0001": "TWO"}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let prepared manifests live in a folder of the test's own, and pinned parts nowhere."""
    monkeypatch.setenv("SALMONN_LAB_DATA", str(tmp_path / "manifests"))
    monkeypatch.setenv("SALMONN_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "manifests"


@pytest.fixture
def librispeech(tmp_path: Path) -> Path:
    root = tmp_path / "LibriSpeech"
    write(root / "SPEAKERS.TXT", "61 | M | test-clean | 8.08 | Paul\n")
    write(root / "test-clean/61/7/61-7.trans.txt", "".join(f"{id} {text}\n" for id, text in TEXTS.items()))
    for number, id in enumerate(TEXTS):
        soundfile.write(root / f"test-clean/61/7/{id}.flac", waveform(0.6, number), 16_000)
    return root


def run_prepare(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare", *map(str, arguments)])
    prepare.main()


def listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    monkeypatch.setenv("COLUMNS", "220")
    main()
    return capsys.readouterr().out


def test_a_prepared_corpus_is_found_and_scored_by_name(
    librispeech: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_prepare(monkeypatch, "librispeech", "--root", librispeech)
    benchmark = benchmarks.find("librispeech_test_clean")
    manifest = resolve(benchmark.manifest)
    assert Path(manifest) == find_ready(benchmark.manifest) == data / "librispeech_test-clean.jsonl"
    outputs = ["he said no", "to"]
    predictions = [
        Prediction(example.id, benchmark.name, "", text, example.references, example.meta)
        for example, text in zip(read_manifest(manifest), outputs, strict=True)
    ]
    wer = benchmarks.score(benchmark, predictions)[0]
    assert (wer.metric, wer.value, wer.count) == ("wer", 0.25, 2)


def test_a_model_answers_a_prepared_corpus_in_the_words_of_the_row_and_misses_the_others(
    librispeech: Path, tiny_config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_prepare(monkeypatch, "librispeech", "--root", librispeech)
    trainer = {"accelerator": "cpu", "precision": "32-true"}
    config = RunConfig(model=tiny_config, data=DataConfig(num_workers=0), trainer=trainer)
    model = Salmonn(tiny_config)
    names = ["librispeech_test_clean", "mmar"]
    done, missed = evaluate.measure(model, evaluate.data_module(config, model), names, tmp_path / "answers", trainer)
    answers = read_predictions(tmp_path / "answers" / "librispeech_test_clean.jsonl")
    assert [answer.id for answer in answers] == list(TEXTS)
    asked = "<Speech><SpeechHere></Speech> Recognize the speech and give me the transcription."
    assert {answer.prompt for answer in answers} == {config.model.llm.prompt_template.replace("{}", asked)}
    assert done.after is not None
    assert (done.after[0].metric, done.after[0].count) == ("wer", 2)
    assert done.published is not None
    assert done.published.value == 0.021
    assert missed.skipped is not None
    assert "python -m salmonn_lab.prepare mmar --root DIR --split test" in missed.skipped


@pytest.mark.parametrize("name", [name for name, row in BENCHMARKS.items() if row.manifest.startswith("data:")])
def test_missing_data_is_named_with_its_source_its_folder_and_the_command(name: str, data: Path) -> None:
    benchmark = BENCHMARKS[name]
    corpus, split = benchmark.manifest.removeprefix("data:").split("/")
    with pytest.raises(FileNotFoundError) as missing:
        resolve(benchmark.manifest)
    message = str(missing.value)
    assert str(data / f"{corpus}_{split}.jsonl") in message
    assert benchmark.how_to_get in message
    assert benchmark.licence in message
    assert f"`python -m salmonn_lab.prepare {corpus} --root DIR --split {split}`" in message
    assert find_ready(benchmark.manifest) is None


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("data:librispech/x", "Did you mean 'librispeech'"),
        ("data:mmau/test", "mmau has no split 'test'; it has test-m"),
    ],
)
def test_a_reference_to_nothing_that_can_be_prepared_is_refused(reference: str, message: str) -> None:
    for look in (resolve, find_ready):
        with pytest.raises(ValueError, match=message):
            look(reference)


def test_manifests_are_looked_for_in_data_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SALMONN_LAB_DATA")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data/mmar_test.jsonl", "{}\n")
    assert resolve("data:mmar/test") == str(Path("data/mmar_test.jsonl"))


def test_the_list_has_every_benchmark_with_its_state(
    librispeech: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_prepare(monkeypatch, "librispeech", "--root", librispeech)
    write(data / "mmar_test.jsonl", "{}\n" * 1_000)
    lines = listed(monkeypatch, capsys).splitlines()
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells]
        for line in lines
        if len(cells := line.split("│")) > 5 and cells[1].strip()
    }
    assert rows.keys() >= BENCHMARKS.keys()
    assert rows["librispeech_test_clean"][2:6] == ["wer", "count differs", "2 of 2,620", "2.1 %"]
    assert rows["mmar"][2:6] == ["accuracy", "ready", "1,000 of 1,000", "32.8 %"]
    assert rows["story"][2:6] == ["mean_unique_words", "not prepared", "- of 975", "82.57"]
    assert rows["gigaspeech"][2:6] == ["wer", "not prepared", "- of 19,931", "10.0 %"]
    assert rows["quickstart_open"][2:6] == ["wer", "not prepared", "- of 40", ""]


def test_a_row_is_told_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = listed(monkeypatch, capsys, "audiocaps", "quickstart_open")
    told = dict(re.findall(r"^([a-z ]+): +(.*)$", text.split("\n\n")[0], re.MULTILINE))
    assert told["prompt"] == "<Speech><SpeechHere></Speech> Please describe the audio."
    assert told["decoding"] == "max_new_tokens 200, num_beams 4"
    assert (
        told["metrics"]
        == "caption_overlap, cider_d, caption_bleu; where their tools are: meteor, spider, sbert_sim, fense"
    )
    assert "reported:   meteor 24.0 %: SALMONN-13B, Tang et al." in text
    assert told["how to get"].endswith("then python -m salmonn_lab.prepare audiocaps --root DIR --split test")
    assert "how to get: python -m salmonn_lab.assets quickstart" in text


def test_an_unknown_name_is_answered_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="Did you mean 'librispeech_test_other'"):
        listed(monkeypatch, capsys, "librispeech_test_othr")
