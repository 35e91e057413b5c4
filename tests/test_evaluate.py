"""Measuring a run: killed and started again, scored again without a model, several runs at once, a full disk."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from samples import SHORT

from salmonn_lab import benchmarks, command_line, evaluate, runs
from salmonn_lab.batch import Batch, Prediction
from salmonn_lab.config import load_config
from salmonn_lab.console import run_command
from salmonn_lab.data.features import READING
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.data.prompts import PromptPool
from salmonn_lab.fit import fit
from salmonn_lab.metrics.wer import ErrorRate
from salmonn_lab.predictions import Answers, read_predictions, write_predictions
from salmonn_lab.salmonn import Salmonn

pytestmark = pytest.mark.filterwarnings("ignore")
Evaluate = Callable[..., str]
Count = Callable[[], list[str]]


class KilledError(BaseException):
    """Stands for a kill: no `except Exception` catches it."""


@pytest.fixture
def run(settings: Path) -> runs.Run:
    """Return a run whose checkpoint holds the weights that it began with."""
    return make_run(settings)


def make_run(settings: Path) -> runs.Run:
    made = runs.start(load_config([settings]), resume=False)
    model = Salmonn(made.config().model, seed=1)
    made.checkpoint.parent.mkdir(parents=True)
    torch.save({"state_dict": model.trainable_state(), "frozen": model.fingerprints()}, made.checkpoint)
    return made


@pytest.fixture
def measure(short: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Return what runs the command in this process, and returns what it says."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
        evaluate.main()
        return " ".join(capsys.readouterr().err.split())

    return call


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Return what tells the ids that the model has been asked about since the last time."""
    ids: list[str] = []
    original = Salmonn.predict_step

    def predict_step(self: Salmonn, batch: Batch, batch_idx: int) -> list[Prediction]:
        ids.extend(batch.ids)
        return original(self, batch, batch_idx)

    def collect() -> list[str]:
        found = list(ids)
        ids.clear()
        return found

    monkeypatch.setattr(Salmonn, "predict_step", predict_step)
    return collect


def stop_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> Callable[[], None]:
    """Kill the next evaluation after some batches; the function that is returned calls that off."""
    append, done = Answers.append, [0]

    def count(self: Answers, rank: int, predictions: list[Prediction]) -> None:
        append(self, rank, predictions)
        done[0] += 1
        if done[0] == batches:
            raise KilledError

    monkeypatch.setattr(Answers, "append", count)
    return lambda: monkeypatch.setattr(Answers, "append", append)


def interrupt(measure: Evaluate, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Start an evaluation that is killed after its first batch."""
    go_on = stop_after(monkeypatch, 1)
    with pytest.raises(KilledError):
        measure(*arguments)
    go_on()


def without_times(folder: Path) -> dict[str, Any]:
    """Return a report without what differs between two runs of the same: when, how long, and where."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["results"][0].pop("speed")["count"] == 5
    for key in ("seconds", "peak_memory_gib", "provenance"):
        report.pop(key)
    return report  # type: ignore[no-any-return]


def command(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "salmonn_lab.evaluate", *map(str, arguments)]
    return subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, **environment}
    )


def kill_at_first_answer(process: subprocess.Popen[str], partial: Path) -> None:
    """Kill a process and its children, by SIGKILL, once anything is answered."""
    while not any(file.stat().st_size for file in partial.glob("rank*.jsonl")):
        assert process.poll() is None, "it ended before its first answer"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_an_evaluation_killed_by_the_system_goes_on_to_the_report_of_the_straight_one(
    run: runs.Run,
    corpus: Path,
    tmp_path: Path,
    answered: Count,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    straight = tmp_path / "straight" / "run"
    shutil.copytree(run.folder, straight)
    process = command("--run", run.folder, f"benchmarks=[{corpus}]")
    kill_at_first_answer(process, run.predictions / "corpus.partial")
    kept = {prediction.id for prediction in read_predictions(run.predictions / "corpus.partial" / "rank0.jsonl")}
    assert 0 < len(kept) < 5, "the kill came too late to show anything"
    for folder, count in ((run.folder, 5 - len(kept)), (straight, 5)):
        monkeypatch.setattr(sys, "argv", ["evaluate", "--run", str(folder), f"benchmarks=[{corpus}]"])
        evaluate.main()
        asked = answered()
        assert len(asked) == count
        assert folder == straight or not kept & set(asked)
    assert f"corpus: {len(kept)} of 5 answers are there already" in capsys.readouterr().err
    assert without_times(run.folder) == without_times(straight)


@pytest.mark.parametrize(
    "batches", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_only_what_is_missing_is_answered(
    run: runs.Run,
    corpus: Path,
    tmp_path: Path,
    measure: Evaluate,
    answered: Count,
    monkeypatch: pytest.MonkeyPatch,
    batches: int,
) -> None:
    straight = tmp_path / "straight" / "run"
    shutil.copytree(run.folder, straight)
    go_on = stop_after(monkeypatch, batches)
    with pytest.raises(KilledError):
        measure("--run", run.folder, f"benchmarks=[{corpus}]")
    go_on()
    first = answered()
    order = ["clip-4", "clip-3", "clip-2", "clip-0", "clip-1"]  # the longest first; two are padded to the same length
    assert first == order[: 2 * batches]
    assert not (run.predictions / "corpus.jsonl").exists()
    said = measure("--run", run.folder, f"benchmarks=[{corpus}]")
    assert f"corpus: {len(first)} of 5 answers are there already" in said
    assert sorted([*first, *answered()]) == [f"clip-{index}" for index in range(5)]
    measure("--run", straight, f"benchmarks=[{corpus}]")
    assert without_times(run.folder) == without_times(straight)
    assert sorted(file.name for file in run.predictions.iterdir()) == ["corpus.jsonl", "corpus.provenance.json"]


def test_complete_answers_are_kept_unless_they_are_asked_for_again(
    run: runs.Run, corpus: Path, measure: Evaluate, answered: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--run", run.folder, f"benchmarks=[{corpus}]"]
    measure(*arguments)
    report = without_times(run.folder)
    assert len(answered()) == 5
    assert "corpus: 5 of 5 answers are there already; --again answers them anew" in measure(*arguments)
    assert (answered(), without_times(run.folder)) == ([], report)
    measure("--again", *arguments)
    assert len(answered()) == 5
    interrupt(measure, monkeypatch, "--again", *arguments)
    assert len(answered()) == 2
    measure(*arguments)
    assert len(answered()) == 3, "what --again began is gone on with"
    assert without_times(run.folder) == report


def test_truncation_and_speed_of_every_item_are_in_the_report(run: runs.Run, corpus: Path, measure: Evaluate) -> None:
    measure("--run", run.folder, f"benchmarks=[{corpus}]")
    (result,) = json.loads((run.folder / "report.json").read_text())["results"]
    notes = [prediction.generation for prediction in read_predictions(run.predictions / "corpus.jsonl")]
    rules = {rule["rule"]: rule for rule in result["health"]}
    assert (rules["truncated"]["judged"], rules["truncated"]["broken"]) == (5, sum(not note.finished for note in notes))
    assert all((note.tokens == 6) or note.finished for note in notes)
    assert result["speed"]["count"] == 5
    assert result["speed"]["audio_seconds"] == pytest.approx(0.5 + 0.9 + 1.3 + 1.7 + 2.1)
    assert result["speed"]["seconds"] == pytest.approx(sum(note.seconds or 0 for note in notes))
    assert result["speed"]["rtfx"] == pytest.approx(6.5 / result["speed"]["seconds"])


def change_decoding(run: runs.Run, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = benchmarks.find
    monkeypatch.setattr(benchmarks, "find", lambda name: replace(find(name), decoding={**SHORT, "max_new_tokens": 4}))


def change_prompt(run: runs.Run, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = run.folder / "prompts.yaml"
    prompts.write_text("asr: '<Speech><SpeechHere></Speech> What is said?'\n")
    text = run.config_file.read_text()
    assert "prompts: null" in text
    run.config_file.write_text(text.replace("prompts: null", f"prompts: {prompts}"))


def change_manifest(run: runs.Run, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.write_text(corpus.read_text().replace('"three"', '"tree"'))


def change_weights(run: runs.Run, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    name = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"][name].flatten()[0] += 1e-6
    torch.save(checkpoint, run.checkpoint)


def change_audio(run: runs.Run, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = corpus.parent / "4.flac"
    samples, rate = soundfile.read(clip, dtype="float32")
    soundfile.write(clip, samples[::-1], rate)


def change_reading(run: runs.Run, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "READING", READING + 1)


CHANGES = {
    "reading": change_reading,
    "audio": change_audio,
    "decoding.max_new_tokens": change_decoding,
    "prompt.asr": change_prompt,
    "manifest": change_manifest,
    "weights.learned": change_weights,
}


@pytest.mark.parametrize("key", CHANGES)
def test_answers_made_from_anything_else_are_never_mixed_in(
    run: runs.Run,
    corpus: Path,
    tmp_path: Path,
    measure: Evaluate,
    answered: Count,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    own = tmp_path / "corpus"
    shutil.copytree(corpus.parent, own)
    arguments = ["--run", run.folder, f"benchmarks=[{own / 'corpus.jsonl'}]"]
    interrupt(measure, monkeypatch, *arguments)
    CHANGES[key](run, own / "corpus.jsonl", monkeypatch)
    assert len(answered()) == 2
    assert f"corpus: discarded the answers that were begun with another {key} " in measure(*arguments) + " "
    assert len(answered()) == 5


def test_complete_answers_of_other_weights_stay_until_all_new_ones_are_there(
    run: runs.Run, corpus: Path, measure: Evaluate, answered: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--run", run.folder, f"benchmarks=[{corpus}]"]
    measure(*arguments)
    old = (run.predictions / "corpus.jsonl").read_text()
    change_weights(run, corpus, monkeypatch)
    interrupt(measure, monkeypatch, *arguments)
    assert (run.predictions / "corpus.jsonl").read_text() == old
    answered()
    measure(*arguments)
    assert len(answered()) == 3


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody build a model."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a model was built")

    monkeypatch.setattr(Salmonn, "__init__", refuse)


def test_a_finished_benchmark_needs_no_model(
    run: runs.Run, corpus: Path, tmp_path: Path, measure: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--run", run.folder, f"benchmarks=[{corpus},librispeech_test_clean]"]
    monkeypatch.setenv("SALMONN_LAB_DATA", str(tmp_path / "nothing"))
    first = measure(*arguments)
    scores, provenance = run.scores.read_text(), run.provenance_file.read_text()
    monkeypatch.setattr(Salmonn, "__init__", lambda *_, **__: pytest.fail("a model was built"))
    again = measure(*arguments)
    assert "corpus: 5 of 5 answers are there already; --again answers them anew" in again
    assert again[again.index("Results of") :] == first[first.index("Results of") :]
    assert (run.scores.read_text(), run.provenance_file.read_text()) == (scores, provenance)
    for changed in (["--again"], ["evaluation.audio=mute"], ["model.lora.scale=2"], ["evaluation.likelihood=true"]):
        with pytest.raises(pytest.fail.Exception, match="a model was built"):
            measure(*arguments, *changed)
    change_weights(run, corpus, monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="a model was built"):
        measure(*arguments)


def test_a_finished_benchmark_whose_frozen_weights_or_answers_changed_needs_the_model(
    settings: Path, tiny: Path, corpus: Path, tmp_path: Path, measure: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny / "llm", tmp_path / "llm")
    settings.write_text(settings.read_text().replace(str(tiny / "llm"), str(tmp_path / "llm")))
    run = make_run(settings)
    arguments = ["--run", run.folder, f"benchmarks=[{corpus}]"]
    measure(*arguments)
    answers = run.predictions / "corpus.jsonl"
    lines = answers.read_text().splitlines(keepends=True)
    answers.write_text("".join(lines[:3]))
    said = measure(*arguments)
    assert f"corpus: {answers} lacks 2 of 5 answers, such as that to 'clip-3'" in said
    assert "corpus: 3 of 5 answers are there already" in said
    assert [prediction.id for prediction in read_predictions(answers)] == [f"clip-{index}" for index in range(5)]
    weights = next((tmp_path / "llm").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    with monkeypatch.context() as patch:
        patch.setattr(Salmonn, "__init__", lambda *_, **__: pytest.fail("a model was built"))
        with pytest.raises(pytest.fail.Exception, match="a model was built"):
            measure(*arguments)


def test_answers_whose_audio_was_not_recorded_are_kept_and_a_moved_corpus_is_the_same(
    run: runs.Run, corpus: Path, tmp_path: Path, measure: Evaluate, answered: Count
) -> None:
    measure("--run", run.folder, f"benchmarks=[{corpus}]")
    assert len(answered()) == 5
    provenance = run.predictions / "corpus.provenance.json"
    record = json.loads(provenance.read_text())
    audio = record.pop("audio")
    record.pop("manifest_path")
    assert record.pop("reading") == READING
    provenance.write_text(json.dumps(record))
    said = measure("--run", run.folder, f"benchmarks=[{corpus}]")
    assert "corpus: the stored answers do not say what audio, reading they were made from: taken to be today's" in said
    assert json.loads(provenance.read_text())["audio"] == audio
    shutil.copytree(corpus.parent, tmp_path / "moved")
    assert "5 of 5 answers are there already" in measure(
        "--run", run.folder, f"benchmarks=[{tmp_path}/moved/corpus.jsonl]"
    )
    (tmp_path / "moved" / "2.flac").unlink()
    assert "5 of 5 answers are there already" in measure(
        "--run", run.folder, f"benchmarks=[{tmp_path}/moved/corpus.jsonl]"
    )
    assert answered() == []


def test_another_manifest_of_the_same_name_does_not_overwrite_answers(
    run: runs.Run, corpus: Path, tmp_path: Path, measure: Evaluate, no_model: None
) -> None:
    shutil.copytree(corpus.parent, tmp_path / "other")
    other = tmp_path / "other" / "corpus.jsonl"
    asked = partial(evaluate.answers_of, folder=run.predictions, subject={}, prompts=PromptPool.load(), template="{}")
    stored = asked(benchmarks.find(str(corpus)))
    stored.prepare()
    message = rf"holds answers to {corpus} under the name 'corpus', which {other} would overwrite"
    asked(benchmarks.find(str(other)))  # a copy is the same
    other.write_text("".join(other.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(ValueError, match=message):
        asked(benchmarks.find(str(other)))
    outputs = [Prediction(example.id, "corpus", "", "", (example.target,)) for example in read_manifest(corpus)]
    stored.finish(outputs)
    with pytest.raises(ValueError, match=message):
        asked(benchmarks.find(str(other)))
    measure("--rescore", "--run", run.folder, f"benchmarks=[{corpus}]")
    record = json.loads(stored.provenance_file.read_text())
    del record["manifest_path"]  # as answers of earlier versions; scores.json names the manifest
    stored.provenance_file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message):
        asked(benchmarks.find(str(other)))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], None),
        (["data.num_workers=3", "out_dir=x", "features=store", "trainer.devices=2", "data.predict_scale=4"], None),
        (
            ["data.max_batch_size=1", "evaluation.benchmarks=[a]", "evaluation.likelihood=true", "loggers.csv=null"],
            None,
        ),
        (["model.lora.scale=null", "evaluation.audio=clip", "seed=1", "seed=+1"], None),
        (["model.lora.scale=2"], "model.lora.scale=2"),
        (["model.lora.scale=2.0"], "model.lora.scale=2"),
        (["model.lora.scale=2e0"], "model.lora.scale=2"),
        (["model.lora={scale: 2}"], "model.lora.scale=2"),
        (["model.lora.scale=4", "model.lora.scale=2", "data.num_workers=1"], "model.lora.scale=2"),
        (["model.lora.scale=0.25"], "model.lora.scale=0.25"),
        (["model.lora=null"], "model.lora=null"),
        (["evaluation.audio=mute", "model.lora.scale=1"], "evaluation.audio=mute,model.lora.scale=1"),
    ],
)
def test_a_variant_is_named_by_the_values_that_differ(run: runs.Run, overrides: list[str], name: str | None) -> None:
    assert evaluate.destination(run, None, overrides) == (run.folder / "variants" / name if name else run.folder)


def test_a_variant_of_an_earlier_version_is_found_however_its_number_is_written(run: runs.Run) -> None:
    folder = run.folder / "variants" / "evaluation.audio=mute,model.lora.scale=2.0"
    folder.mkdir(parents=True)
    for scale in ("2", "2.0", "2.00", "2e0"):
        assert evaluate.destination(run, None, [f"model.lora.scale={scale}", "evaluation.audio=mute"]) == folder
    for others in (["model.lora.scale=2"], ["model.lora.scale=2.5", "evaluation.audio=mute"]):
        assert evaluate.destination(run, None, others) != folder
    best = evaluate.destination(run, run.folder / "best.ckpt", ["model.lora.scale=2", "evaluation.audio=mute"])
    assert best.name == "best,evaluation.audio=mute,model.lora.scale=2"


def test_scores_that_are_torn_are_refused_before_measuring_and_made_anew_by_rescoring(
    run: runs.Run, corpus: Path, measure: Evaluate, no_model: None
) -> None:
    outputs = [Prediction(example.id, "corpus", "", "", (example.target,)) for example in read_manifest(corpus)]
    write_predictions(run.predictions / "corpus.jsonl", outputs)
    measure("--rescore", "--run", run.folder, f"benchmarks=[{corpus}]")
    scores = run.scores.read_text()
    run.scores.write_text(scores[:100])
    with pytest.raises(ValueError, match=r"scores\.json is not a file of scores: .* --rescore makes it anew"):
        measure("--run", run.folder, f"benchmarks=[{corpus}]")
    said = measure("--rescore", "--run", run.folder, f"benchmarks=[{corpus}]")
    assert "kept as scores.broken.json, and made anew" in said
    assert run.scores.read_text() == scores
    assert (run.folder / "scores.broken.json").read_text() == scores[:100]


def test_rescoring_says_where_the_manifest_has_other_references(
    run: runs.Run, corpus: Path, tmp_path: Path, measure: Evaluate, no_model: None
) -> None:
    own = tmp_path / "corpus.jsonl"
    own.write_text(corpus.read_text().replace('"three"', '"tree"').replace('"audio": "', f'"audio": "{corpus.parent}/'))
    outputs = [Prediction(example.id, "corpus", "", "", (example.target,)) for example in read_manifest(corpus)]
    write_predictions(run.predictions / "corpus.jsonl", outputs)
    said = measure("--rescore", "--run", run.folder, f"benchmarks=[{own}]")
    assert "corpus: the manifest has other references for 1 answers, such as 'clip-1', than those stored" in said


def wer_of(folder: Path, key: str = "after") -> float:
    (result,) = json.loads((folder / "scores.json").read_text())
    return next(score["value"] for score in result[key] if score["metric"] == "wer")  # type: ignore[no-any-return]


def test_rescoring_needs_predictions_alone_and_takes_those_before_training_along(
    run: runs.Run, corpus: Path, measure: Evaluate, monkeypatch: pytest.MonkeyPatch, no_model: None
) -> None:
    shutil.rmtree(run.checkpoint.parent)
    variant = run.folder / "variants" / "model.lora.scale=2.0"
    ids = [(f"clip-{index}", text) for index, text in enumerate(["a red dog", "cat", "bird", "fish", "horse"])]
    for folder, lost in (("", 1), ("before", 5), ("../variants/model.lora.scale=2.0/predictions", 2)):
        outputs = [
            Prediction(id, "corpus", "", text if place >= lost else "", (text,)) for place, (id, text) in enumerate(ids)
        ]
        write_predictions(run.predictions / folder / "corpus.jsonl", outputs)
    named = ["--rescore", "--run", run.folder, f"benchmarks=[{corpus}]"]
    assert "Results of" in measure(*named)
    assert wer_of(run.folder) == pytest.approx(3 / 7)
    assert json.loads((run.folder / "report.json").read_text())["results"][0]["scores"][0]["value"] == wer_of(
        run.folder
    )
    measure(*named, "model.lora.scale=2.0")
    assert wer_of(variant) == pytest.approx(4 / 7)
    monkeypatch.setattr(ErrorRate, "signature", property(lambda self: f"wer|unit:{self.unit}|v2"))
    for folder in (run.folder, variant):
        measure("--rescore", "--run", folder)
        (result,) = json.loads((folder / "scores.json").read_text())
        assert {score["signature"] for score in [*result["before"], *result["after"]]} == {"wer|unit:word|v2"}
        assert wer_of(folder, "before") == 1


def test_scores_before_training_are_made_anew_where_a_metric_has_a_newer_version(
    settings: Path, corpus: Path, measure: Evaluate
) -> None:
    run = fit(load_config([settings], [f"evaluation.benchmarks=[{corpus}]", "trainer.max_steps=1"]))
    now = run.before.read_text()
    run.before.write_text(now.replace("whisper_en@", "whisper_en@0").replace('"value": ', '"value": 9'))
    said = measure("--run", run.folder)
    assert "corpus: the answers before training are scored again, as metrics have changed" in said
    assert run.before.read_text() == now
    (result,) = json.loads(run.scores.read_text())
    assert [score["signature"] for score in result["before"]] == [score["signature"] for score in result["after"]]


def test_rescoring_what_was_never_measured_is_refused(
    run: runs.Run, corpus: Path, measure: Evaluate, no_model: None
) -> None:
    with pytest.raises(FileNotFoundError, match="run has no predictions: measure it without --rescore first"):
        measure("--rescore", "--run", run.folder)
    with pytest.raises(FileNotFoundError, match="run has no predictions of corpus: measure it"):
        measure("--rescore", "--run", run.folder, f"benchmarks=[{corpus}]")


def test_a_run_that_fails_leaves_the_others_measured(
    run: runs.Run, corpus: Path, tmp_path: Path, measure: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, last = tmp_path / "broken", tmp_path / "last"
    for folder in (broken, last):
        shutil.copytree(run.folder, folder)
    (broken / "checkpoints" / "last.ckpt").unlink()
    chosen = [word for folder in (run.folder, broken, last) for word in ("--run", folder)]
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: print(measure(*chosen, f"benchmarks=[{corpus}]")))
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{broken}: no checkpoint {broken}/checkpoints/last.ckpt" in said
    assert f"error: 1 of 3 runs were not measured: {broken}" in said
    assert "Results of 2 runs" in said
    for folder in (run.folder, last):
        assert f"Results of {folder}" in said
        assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--again", "--rescore"], "choose one"),
        (["--checkpoint", "x.ckpt", "--run", "b"], "--checkpoint is one run's"),
    ],
)
def test_options_that_contradict_one_another_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.parse_evaluate(["--run", "a", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_full_disk_is_named_and_loses_no_answer(
    run: runs.Run, corpus: Path, tmp_path: Path, measure: Evaluate, answered: Count
) -> None:
    own = tmp_path / "corpus"
    shutil.copytree(corpus.parent, own)
    manifest = own / "corpus.jsonl"
    lines = [json.loads(line) for line in corpus.read_text().splitlines()]
    manifest.write_text("".join(json.dumps({**line, "meta": {"note": 20_000 * "x"}}) + "\n" for line in lines))
    assert len(read_manifest(manifest)) == 5, "and its table, which is larger than the disk, is made"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # the third line of 20 kB ends beyond
    try:
        with pytest.raises(OSError, match=r"what was answered before is kept.*rank0\.jsonl"):
            measure("--run", run.folder, f"benchmarks=[{manifest}]")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(answered()) == 4
    measure("--run", run.folder, f"benchmarks=[{manifest}]")
    assert sorted(answered()) == ["clip-0", "clip-1", "clip-2"]
    assert len(read_predictions(run.predictions / "corpus.jsonl")) == 5


@pytest.mark.slow
@pytest.mark.parametrize("killed_devices", [1, 2])
def test_two_processes_go_on_where_others_were_killed(
    run: runs.Run,
    corpus: Path,
    tmp_path: Path,
    answered: Count,
    monkeypatch: pytest.MonkeyPatch,
    killed_devices: int,
) -> None:
    straight = tmp_path / "straight" / "run"
    shutil.copytree(run.folder, straight)
    partial, two = run.predictions / "corpus.partial", ["trainer.devices=2", "trainer.strategy=ddp"]
    arguments = ["--run", str(run.folder), f"benchmarks=[{corpus}]"]
    process = command(*arguments, *(two if killed_devices == 2 else []), OMP_NUM_THREADS="1")
    kill_at_first_answer(process, partial)
    kept = {prediction.id for file in partial.glob("rank*.jsonl") for prediction in read_predictions(file)}
    assert 0 < len(kept) < 5, "the kill came too late to show anything"
    if killed_devices == 1:
        process = command(*arguments, *two, OMP_NUM_THREADS="1")
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert f"corpus: {5 - len(kept)} to answer" in " ".join(said.split())
    else:
        monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
        evaluate.main()
        assert sorted({*answered()}) == sorted({f"clip-{index}" for index in range(5)} - kept)
        answered()
    monkeypatch.setattr(sys, "argv", ["evaluate", "--run", str(straight), f"benchmarks=[{corpus}]"])
    evaluate.main()
    assert without_times(run.folder) == without_times(straight)


def test_measuring_before_training_goes_on_too(
    settings: Path, corpus: Path, answered: Count, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config([settings], [f"evaluation.benchmarks=[{corpus}]", "trainer.max_steps=1"])
    go_on = stop_after(monkeypatch, 1)
    with pytest.raises(KilledError):
        fit(config)
    go_on()
    assert len(answered()) == 2
    go_on = stop_after(monkeypatch, 3)  # two batches complete the measuring before, the third is after training
    with pytest.raises(KilledError):
        fit(config, resume=True)
    go_on()
    assert len(answered()) == 3 + 2
    run = fit(config, resume=True)
    assert len(answered()) == 3
    (result,) = json.loads(run.scores.read_text())
    assert result["before"][0]["count"] == result["after"][0]["count"] == 5
