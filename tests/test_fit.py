"""The street from manifest to report, as commands: fit, kill, resume, evaluate, infer; and what bad input is told."""

import csv
import importlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import pytest
import soundfile
import torch
from samples import WORDS, few_fast, waveform, without_times

from salmonn_lab import runs
from salmonn_lab.batch import Batch
from salmonn_lab.config import load_config
from salmonn_lab.console import run_command
from salmonn_lab.fit import fit
from salmonn_lab.runs import find, load_model
from salmonn_lab.salmonn import Salmonn

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("short")]
ROOT = Path(__file__).parents[1]


class Call(Protocol):
    """Runs a command's main in this process, which saves the seconds that a new one takes to import torch."""

    def __call__(self, module: str, *arguments: object) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = [module, *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        capsys.readouterr()
        code = 0
        try:
            run_command(importlib.import_module(f"salmonn_lab.{module}").main)
        except SystemExit as ended:
            code = int(ended.code or 0)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


def command(module: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", f"salmonn_lab.{module}", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, **options)  # type: ignore[call-overload, no-any-return]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]  # type: ignore[no-any-return]


def assert_equal_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


def test_fit_leaves_a_run_that_explains_itself(settings: Path, corpus: Path, tmp_path: Path) -> None:
    config = load_config([settings], [f"evaluation.benchmarks=[{corpus}]"])
    run = fit(config)
    assert run.config() == config
    record = run.provenance()
    assert record["manifests"][str(corpus)]
    assert record["parameters"]["trainable"] == sum(value.numel() for value in weights(run.folder).values())
    assert set(record["seconds"]) == {"preparation", "measuring before", "training", "measuring after"}
    lines = [json.loads(line) for line in (run.predictions / "corpus.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"clip-{index}" for index in range(5)]
    scores = {score["metric"]: score for score in json.loads(run.scores.read_text())[0]["after"]}
    assert scores["wer"]["count"] == 5
    assert scores["wer"]["low"] <= scores["wer"]["value"] <= scores["wer"]["high"]
    page = (run.folder / "report.md").read_text()
    assert "| before |" in page
    assert (
        json.loads((run.folder / "report.json").read_text())["results"][0]["scores"][0]["value"]
        == scores["wer"]["value"]
    )
    assert "<audio" not in (page_of_browser := (run.folder / "report.html").read_text())
    assert "corpus" in page_of_browser
    assert f"{100 * scores['wer']['value']:.1f} %" in page
    with (run.folder / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train_loss"]]
    assert steps == list(range(8))
    assert list((run.folder / "tensorboard").glob("events*"))
    assert load_model(run).training is False


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_resumes_to_the_weights_of_the_straight_run(settings: Path, tmp_path: Path) -> None:
    straight = command("fit", "--config", settings, f"out_dir={tmp_path / 'straight'}")
    assert straight.returncode == 0, straight.stderr
    words = [sys.executable, "-m", "salmonn_lab.fit", "--config", str(settings)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    while not checkpoint.is_file():
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    reached = torch.load(checkpoint, weights_only=True)["global_step"]
    assert 0 < reached < 8, "the kill came too late to show anything"
    until_then = json.loads((tmp_path / "run" / "provenance.json").read_text())["seconds"]["training"]
    assert until_then > 0
    resumed = command("fit", "--config", settings, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_weights(tmp_path / "run", tmp_path / "straight")
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["seconds"]["training"] > until_then
    with (tmp_path / "run" / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train_loss"]]
    assert steps == list(range(8))


@pytest.mark.parametrize(
    ("stop", "options"),
    [
        pytest.param(1, [], marks=pytest.mark.slow),
        pytest.param(3, [], marks=pytest.mark.slow),
        pytest.param(5, [], marks=pytest.mark.slow),
        (1, ["features={folder}/store", "optim.align_steps=3", "model.bridge.num_queries=6"]),
        pytest.param(
            5,
            ["features={folder}/store", "optim.align_steps=3", "model.bridge.num_queries=6"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_training_in_two_parts_equals_training_in_one(
    settings: Path, tmp_path: Path, stop: int, options: list[str]
) -> None:
    options = [option.format(folder=tmp_path) for option in options]
    straight = fit(load_config([settings], [*options, f"out_dir={tmp_path / 'straight'}"]))
    config = load_config([settings], options)

    class StoppedError(Exception):
        pass

    original = Salmonn.training_step

    def training_step(self: Salmonn, batch: object, batch_idx: int) -> torch.Tensor:
        if self.global_step == stop:
            raise StoppedError
        return original(self, batch, batch_idx)  # type: ignore[arg-type]

    Salmonn.training_step = training_step  # type: ignore[method-assign, assignment]
    try:
        with pytest.raises(StoppedError):
            fit(config)
    finally:
        Salmonn.training_step = original  # type: ignore[method-assign]
    fit(config, resume=True)
    assert_equal_weights(tmp_path / "run", straight.folder)


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(settings: Path, corpus: Path, tmp_path: Path) -> None:
    """Uneven batches on each rank, so a mean of means would differ; and both measure every clip once."""
    quiet = ["model.bridge.dropout=0.0", "model.lora.dropout=0.0", "data.max_batch_size=null", "data.batch_budget=200"]
    common = [*quiet, f"evaluation.benchmarks=[{corpus}]", "data.validation=[]", "trainer.max_steps=3"]
    runs = {"two": ["trainer.devices=2", "trainer.strategy=ddp"], "one": ["trainer.accumulate_grad_batches=2"]}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, options in runs.items():
        folder = f"out_dir={tmp_path / name}"
        ended = command("fit", "--config", settings, *common, *options, folder, env=environment)
        assert ended.returncode == 0, ended.stderr
    two, one = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-6, msg=name)
    answers = [without_times(tmp_path / name / "predictions" / "corpus.jsonl") for name in runs]
    assert answers[0] == answers[1]
    losses = []
    for name in runs:
        with (tmp_path / name / "metrics.csv").open() as file:
            losses.append([float(row["train_loss"]) for row in csv.DictReader(file) if row["train_loss"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("steps", [0, 2])
def test_alignment_alone_asks_for_the_word_pieces_of_the_targets(
    settings: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    seen: list[torch.Tensor | None] = []
    original = Salmonn.training_step

    def training_step(self: Salmonn, batch: Batch, batch_idx: int) -> torch.Tensor:
        seen.append(self.align_vocabulary)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Salmonn, "training_step", training_step)
    options = [f"optim.align_steps={steps}", "trainer.max_steps=3", "evaluation.before=[]"]
    run = fit(load_config([settings], options))
    if not steps:
        assert seen == [None] * 3
        return
    tokenizer = load_model(run).llm.tokenizer
    wanted = {tokenizer.eos_token_id, *itertools.chain(*tokenizer(WORDS, add_special_tokens=False)["input_ids"])}
    assert seen[0] is not None
    assert seen[0].tolist() == sorted(wanted)


def rates_of(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        rates = {row["step"]: float(row["lr-AdamW/pg1"]) for row in csv.DictReader(file) if row["lr-AdamW/pg1"]}
    return list(rates.values())


@pytest.mark.parametrize(
    ("options", "steps"),
    few_fast(
        [
            (["trainer.max_epochs=2"], 6),
            (["trainer.max_steps=-1", "trainer.max_epochs=4", "trainer.limit_train_batches=2"], 8),
            (["trainer.max_steps=-1", "trainer.max_epochs=3", "trainer.limit_train_batches=0.7"], 6),
            (["trainer.max_steps=4", "trainer.max_epochs=2"], 4),
            (["trainer.max_steps=-1", "trainer.max_epochs=2", "trainer.accumulate_grad_batches=2"], 2),
        ],
        3,
    ),
)
def test_the_learning_rate_decays_until_training_ends_whatever_ends_it(
    settings: Path, options: list[str], steps: int
) -> None:
    optim = "optim={lr: 0.03, min_lr: 0.01, warmup_steps: 1, warmup_start_lr: 0.01}"
    run = fit(load_config([settings], [optim, "evaluation.before=[]", "data.validation=[]", *options]))
    rates = rates_of(run.folder)
    assert len(rates) == steps
    # The cosine from 0.03 at step 0 to 0.01 at `steps`; the last step taken is the one before.
    expected = 0.01 + 0.02 * (1 + math.cos(math.pi * (steps - 1) / steps)) / 2
    assert rates[-1] == pytest.approx(expected, rel=1e-6)
    assert max(rates) == rates[1] < 0.03


def test_training_without_an_end_is_refused(settings: Path, call: Call) -> None:
    ended = call("fit", "--config", settings, "trainer.max_steps=-1", "evaluation.before=[]")
    assert_one_line(ended, "trainer.max_steps or trainer.max_epochs must say when training ends")


class CutShortError(Exception):
    pass


@pytest.mark.parametrize("step", few_fast([8, 4], 1))
def test_a_validation_that_a_kill_cut_short_is_run_on_resuming(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    every = ["trainer.val_check_interval=2", "evaluation.before=[]", "trainer.num_sanity_val_steps=0"]
    straight = fit(load_config([settings], [*every, f"out_dir={tmp_path / 'straight'}"]))
    config = load_config([settings], every)
    original = Salmonn.validation_step

    def validation_step(self: Salmonn, batch: Batch, batch_idx: int) -> None:
        if self.global_step == step and batch_idx == 1:
            raise CutShortError
        original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Salmonn, "validation_step", validation_step)
        with pytest.raises(CutShortError):
            fit(config)
    fit(config, resume=True)
    losses = []
    for folder in (straight.folder, tmp_path / "run"):
        with (folder / "metrics.csv").open() as file:
            losses.append({int(row["step"]): float(row["val_loss"]) for row in csv.DictReader(file) if row["val_loss"]})
    assert list(losses[1]) == [1, 3, 5, 7]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    best = [
        torch.load(run / "checkpoints" / "best.ckpt", weights_only=True) for run in (straight.folder, tmp_path / "run")
    ]
    assert best[0]["global_step"] == best[1]["global_step"] == 1 + min(losses[0], key=losses[0].__getitem__)
    assert_equal_weights(tmp_path / "run", straight.folder)


def test_resuming_a_finished_run_loads_no_model_and_leaves_its_record_alone(
    settings: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit(load_config([settings], ["trainer.max_steps=1", "evaluation.before=[]"]))
    record = run.provenance_file.read_bytes()
    monkeypatch.setattr(Salmonn, "__init__", lambda *_: pytest.fail("a model was loaded"))
    ended = call("fit", "--config", settings, "trainer.max_steps=1", "evaluation.before=[]", "--resume")
    assert ended.returncode == 0, ended.stderr
    assert f"{run.folder} is finished" in ended.stderr.replace("\n", " ")
    assert run.provenance_file.read_bytes() == record


def test_a_run_whose_manifest_was_edited_is_not_resumed(
    settings: Path, corpus: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = tmp_path / "edited.jsonl"
    edited.write_text(corpus.read_text().replace('"audio": "', f'"audio": "{corpus.parent}/'))
    options = [f"data.sources=[{{manifest: {edited}}}]", "evaluation.before=[]"]
    original = Salmonn.training_step

    def training_step(self: Salmonn, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.global_step == 2:
            raise CutShortError
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Salmonn, "training_step", training_step)
        with pytest.raises(CutShortError):
            fit(load_config([settings], options))
    record = json.loads((tmp_path / "run" / "provenance.json").read_text())["manifests"]
    edited.write_text(edited.read_text().replace("three", "eerht"))
    assert_one_line(
        call("fit", "--config", settings, *options, "--resume"), f"{edited} has changed since the training of"
    )
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["manifests"] == record


def test_a_run_has_its_provenance_before_it_has_its_configuration(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config([settings], [])

    def killed(*_: object) -> None:
        raise CutShortError

    with monkeypatch.context() as patch:
        patch.setattr(runs, "to_yaml", killed)
        with pytest.raises(CutShortError):
            runs.start(config, resume=False)
    run = runs.Run(Path(config.out_dir))
    assert not run.config_file.exists()
    assert runs.start(config, resume=False).provenance()["python"]
    run.provenance_file.unlink()
    assert runs.start(config, resume=True).provenance()["libraries"]["torch"] == version("torch")


def test_init_from_starts_with_the_weights_of_a_run_and_refuses_another_bridge(settings: Path, tmp_path: Path) -> None:
    quick = ["trainer.max_steps=1", "evaluation.before=[]"]
    first = fit(load_config([settings], quick))
    still = [*quick, "optim.lr=1e-12", "optim.lora_lr=1e-12", "optim.warmup_start_lr=0", "optim.min_lr=0"]
    chained = [*still, "optim.weight_decay=0", f"init_from={first.folder}", f"out_dir={tmp_path / 'second'}"]
    second = fit(load_config([settings], chained))
    for name, weight in weights(first.folder).items():
        torch.testing.assert_close(weights(second.folder)[name], weight, rtol=0, atol=1e-9)
    other = [*quick, f"init_from={first.folder}", f"out_dir={tmp_path / 'third'}", "model.bridge.window_seconds=0.5"]
    with pytest.raises(ValueError, match=r"model\.bridge\.window_seconds=0\.333333, the config says 0\.5"):
        fit(load_config([settings], other))


def test_estimate_prints_the_cost_of_a_model_whose_files_are_nowhere(call: Call) -> None:
    ended = call("fit", "--config", ROOT / "configs" / "salmonn_7b.yaml", "--estimate")
    assert ended.returncode == 0, ended.stderr
    assert "30,186,240" in ended.stderr
    assert "88 audio tokens" in ended.stderr
    # Of 4,062 + 1,709 GFLOP the encoders do 2,273 + 99.
    assert "encoders do 41% of a training step's operations" in ended.stderr
    assert "up to 1.70 times as fast" in ended.stderr


@pytest.mark.slow
def test_results_of_other_benchmarks_and_of_variants_stay_apart(
    settings: Path, corpus: Path, tmp_path: Path, call: Call
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(corpus.read_text().replace('"audio": "', f'"audio": "{corpus.parent}/'))
    run = fit(load_config([settings], ["trainer.max_steps=1", f"evaluation.benchmarks=[{corpus}]"]))
    kept = run.scores.read_text()
    assert call("evaluate", "--run", run.folder, f"benchmarks=[{other}]").returncode == 0
    assert [result["benchmark"] for result in json.loads(run.scores.read_text())] == ["corpus", "other"]
    assert json.loads(run.scores.read_text())[0] == json.loads(kept)[0]
    varied = call("evaluate", "--run", run.folder, f"benchmarks=[{corpus}]", "model.lora.scale=0")
    assert varied.returncode == 0, varied.stderr
    variant = run.folder / "variants" / "model.lora.scale=0"
    assert (variant / "predictions" / "corpus.jsonl").is_file()
    assert [result["benchmark"] for result in json.loads(run.scores.read_text())] == ["corpus", "other"]
    (tmp_path / "more").mkdir()
    twin = tmp_path / "more" / "other.jsonl"
    twin.write_text(other.read_text())
    assert_one_line(call("evaluate", "--run", run.folder, f"benchmarks=[{other},{twin}]"), "are both named 'other'")


def test_validation_may_be_rarer_than_epochs(settings: Path) -> None:
    run = fit(load_config([settings], ["trainer.val_check_interval=5", "evaluation.before=[]"]))
    with (run.folder / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["val_loss"]]
    assert steps == [4], "after the fifth batch, in the second epoch of three batches"


def test_evaluate_and_infer_answer_from_a_run(settings: Path, corpus: Path, tmp_path: Path, call: Call) -> None:
    run = fit(load_config([settings], ["trainer.max_steps=2"]))
    measured = call("evaluate", "--run", run.folder, f"benchmarks=[{corpus}]")
    assert measured.returncode == 0, measured.stderr
    assert "wer" in measured.stderr
    assert (run.predictions / "corpus.jsonl").is_file()
    clip = tmp_path / "stereo.wav"
    soundfile.write(clip, waveform(0.7, 1).repeat(2).reshape(-1, 2), 44_100)
    one = call("infer", "--run", run.folder, clip, "What is said?", "--max-new-tokens", 8)
    assert one.returncode == 0, one.stderr
    missing = call("infer", "--run", run.folder, clip, tmp_path / "absent.wav", "What is said?", "--max-new-tokens", 8)
    assert_one_line(missing, "absent.wav")
    two = call("infer", "--run", run.folder, clip, corpus.parent / "1.flac", "What is said?", "--max-new-tokens", 8)
    lines = [json.loads(line) for line in two.stdout.splitlines()]
    assert {line["audio"] for line in lines} == {str(clip), str(corpus.parent / "1.flac")}
    assert one.stdout.strip() == next(line["text"] for line in lines if line["audio"] == str(clip))


def spoil(tmp_path: Path, corpus: Path, kind: str) -> list[str]:
    """Return overrides that bring one kind of bad input."""
    lines = corpus.read_text().splitlines()
    folder = tmp_path / "bad"
    folder.mkdir()
    for file in corpus.parent.glob("*.flac"):
        (folder / file.name).write_bytes(file.read_bytes())
    if kind == "malformed json":
        lines[2] = lines[2][:-5]
    elif kind == "unknown key":
        lines[1] = json.dumps({**json.loads(lines[1]), "txt": "x"})
    elif kind == "empty manifest":
        lines = []
    elif kind == "missing audio":
        (folder / "3.flac").unlink()
        lines = [
            json.dumps({key: value for key, value in json.loads(line).items() if key != "duration"}) for line in lines
        ]
    elif kind == "corrupt audio":
        (folder / "3.flac").write_bytes(b"fLaC" + b"\0" * 100)
    elif kind == "unknown task":
        lines[0] = json.dumps({**json.loads(lines[0]), "task": "asrr"})
    (folder / "bad.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return [f"data.sources=[{{manifest: {folder / 'bad.jsonl'}}}]"]


BAD_INPUT = {
    "malformed json": r"bad.jsonl:3",
    "unknown key": r"bad.jsonl:2",
    "empty manifest": r"no examples",
    "missing audio": r"3.flac",
    "corrupt audio": r"3.flac",
    "unknown task": r"'asrr'",
}
BAD_OVERRIDES = {
    "sede=7": "Did you mean 'seed'?",
    "model.bridge.levle=window": "Did you mean 'level'?",
    "model.llm.checkpoint=asset:smollm": "no asset 'smollm'",
    "data.sources=[{manifest: absent.jsonl}]": "absent.jsonl",
    "model.whisper.checkpoint=absent_folder": "absent_folder",
    "evaluation.benchmarks=[quickstart_command]": "Did you mean 'quickstart_commands'?",
    "data.sources=[]": "data.sources is empty",
    "trainer.precision=33": "33",
    "loggers.csv={flush: 3}": "Key 'flush' not in loggers.csv.",
    "loggers.tensorboard={flush: 3}": "Key 'flush' not in loggers.tensorboard. Did you mean 'flush_secs'?",
}


@pytest.mark.parametrize("kind", BAD_INPUT)
def test_bad_data_ends_fit_with_one_line_that_names_it(
    settings: Path, corpus: Path, tmp_path: Path, kind: str, call: Call
) -> None:
    spoiled = spoil(tmp_path, corpus, kind)
    assert_one_line(call("fit", "--config", settings, "data.validation=[]", *spoiled), BAD_INPUT[kind])


@pytest.mark.parametrize("override", BAD_OVERRIDES)
def test_bad_settings_end_fit_with_one_line_that_names_them(settings: Path, override: str, call: Call) -> None:
    assert_one_line(call("fit", "--config", settings, override), BAD_OVERRIDES[override])


def test_a_benchmark_that_is_not_there_is_known_before_training(settings: Path, call: Call) -> None:
    result = call("fit", "--config", settings, "evaluation={before: [], benchmarks: [absent.jsonl]}")
    assert_one_line(result, "absent.jsonl: no such manifest")
    assert not Path(load_config([settings], []).out_dir).exists()


def test_data_of_a_benchmark_that_is_missing_is_said_at_the_start(
    settings: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALMONN_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SALMONN_LAB_ASTERISK", str(tmp_path / "nowhere"))
    monkeypatch.setenv("SALMONN_LAB_DATA", str(tmp_path / "data"))
    names = "evaluation={before: [], benchmarks: [asterisk, librispeech_test_clean]}"
    result = call("fit", "--config", settings, names, "trainer.max_steps=1")
    assert result.returncode == 0, result.stderr
    start = result.stderr.partition("of them learn")[0]
    assert "asterisk will not be measured: Asterisk prompts: missing the recordings" in start
    assert "librispeech_test_clean will not be measured: " in start
    assert "python -m salmonn_lab.prepare librispeech" in start
    assert "making" not in result.stderr


def test_a_secret_of_the_environment_stands_in_no_file_of_the_run(
    settings: Path, corpus: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    checkpoint = load_config([settings]).model.llm.checkpoint
    monkeypatch.setenv("LLM", checkpoint)
    words = ("out_dir=${oc.env:PLACE}/run", "model.llm.checkpoint=${oc.env:LLM}", "trainer.max_steps=1")
    monkeypatch.setenv("PLACE", str(tmp_path / "place"))
    words += ("loggers={csv: {prefix: '${oc.env:SECRET}'}, tensorboard: null}", f"evaluation.benchmarks={corpus}")
    result = call("fit", "--config", settings, *words)
    assert result.returncode == 0, result.stderr
    run = tmp_path / "place" / "run"
    assert "hunter2-train_loss" in (run / "metrics.csv").read_text()
    texts = {
        path: path.read_text(errors="ignore") for path in run.rglob("*") if path.is_file() and path.suffix != ".ckpt"
    }
    config = next(text for path, text in texts.items() if path.name == "config.yaml")
    assert "${oc.env:SECRET}" in config
    assert {path.name for path, text in texts.items() if "hunter2" in text} == {"metrics.csv"}  # where it is a name
    assert [path for path, text in texts.items() if path.suffix == ".yaml" and checkpoint in text] == []
    assert "hunter2" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trainer.accelerator=-", "invalid accelerator name"),
        ("trainer.strategy=foo", "invalid strategy name"),
        ("trainer.devices=0", "trainer: `Trainer(devices=0)`"),
        ("trainer.max_time=soon", "not a valid duration"),
        ("trainer.profiler=foo", "trainer: When passing string value for the `profiler`"),
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be at least 1, got 0"),
        ("trainer.limit_train_batches=2.0", "trainer.limit_train_batches must be a number of batches, or a fraction"),
        ("trainer.max_steps=-5", "`max_steps` must be a non-negative integer or -1"),
    ],
)
def test_what_lightning_does_not_take_is_said_before_anything_is_loaded(
    settings: Path, override: str, said: str, call: Call
) -> None:
    assert_one_line(call("fit", "--config", settings, override), said)
    assert not Path(load_config([settings], []).out_dir).exists()


def assert_one_line(result: subprocess.CompletedProcess[str], said: str) -> None:
    """Check that a command ended with exit code 2 and one line, which says what is wrong."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert said in errors[0]


def test_a_run_is_not_overwritten_nor_continued_with_another_config(settings: Path, tmp_path: Path) -> None:
    fit(load_config([settings], ["trainer.max_steps=1"]))
    with pytest.raises(FileExistsError, match="holds a run: continue it with --resume"):
        fit(load_config([settings], ["trainer.max_steps=1"]))
    with pytest.raises(ValueError, match=r"another configuration; it differs in model\.bridge\.num_queries"):
        fit(load_config([settings], ["trainer.max_steps=1", "model.bridge.num_queries=2"]), resume=True)


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(tmp_path: Path, settings: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text(settings.read_text())

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "attacked"),))

    torch.save({"state_dict": {}, "x": Attack()}, run / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load_model(find(run))
    assert not (tmp_path / "attacked").exists()


def test_a_torn_or_foreign_checkpoint_is_refused(tmp_path: Path, settings: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text(settings.read_text())
    (run / "checkpoints" / "last.ckpt").write_bytes(b"PK\3\4 torn")
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read as a checkpoint"):
        load_model(find(run))
    torch.save({"model": {"weight": torch.zeros(2)}}, run / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match=r"last\.ckpt is no SALMONN checkpoint: it lacks speech_query_tokens"):
        load_model(find(run))


def test_check_data_lists_every_problem_before_training(
    settings: Path, corpus: Path, tmp_path: Path, call: Call
) -> None:
    good = call("fit", "--config", settings, "--check-data")
    assert good.returncode == 0, good.stderr
    bad = call("fit", "--config", settings, "--check-data", *spoil(tmp_path, corpus, "corrupt audio"))
    assert bad.returncode == 2
    assert "3.flac" in bad.stdout
