"""Checkpoints of the original become runs and come back bit for bit; what does not fit is refused in one line."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from salmonn_lab import infer, runs
from salmonn_lab.console import run_command
from salmonn_lab.convert import export_original, import_original, main
from salmonn_lab.evaluate import evaluate
from salmonn_lab.model.checkpoint import read_original
from salmonn_lab.model.llm import DecodingConfig
from salmonn_lab.plain import read_plain
from salmonn_lab.salmonn import Salmonn

GOLDEN = Path(__file__).parent / "golden" / "original"
CASES = ("window", "sequence", "window_no_beats", "sequence_no_beats", "window_overlap", "window_no_lora")


def convert(case: str, folder: Path, **options: Any) -> runs.Run:
    beats = None if "no_beats" in case else str(GOLDEN / "beats_ft.pt")
    parts = {"whisper": str(GOLDEN / "whisper"), "llm": str(GOLDEN / "llama"), "beats": beats, "num_heads": 4}
    import_original(GOLDEN / f"{case}.pth", folder, **{**parts, **options})
    return runs.find(folder)


@pytest.mark.parametrize("case", CASES)
def test_an_original_checkpoint_comes_back_bit_for_bit(case: str, tmp_path: Path) -> None:
    export_original(convert(case, tmp_path / "run"), tmp_path / "back.pth")
    one, other = read_plain(GOLDEN / f"{case}.pth"), read_plain(tmp_path / "back.pth")
    assert one.keys() == other.keys()
    assert one["config"] == other["config"]
    assert one["model"].keys() == other["model"].keys()
    for name, weight in one["model"].items():
        assert torch.equal(weight, other["model"][name])
        assert weight.dtype == other["model"][name].dtype


def test_a_converted_run_answers_as_the_original_file_does(tmp_path: Path) -> None:
    run = convert("window", tmp_path / "run")
    beside = Salmonn.from_original(
        GOLDEN / "window.pth",
        whisper=str(GOLDEN / "whisper"),
        llm=str(GOLDEN / "llama"),
        beats=str(GOLDEN / "beats_ft.pt"),
        num_heads=4,
    )
    config = run.config()
    config.model.llm.dtype = "float32"
    model = runs.load_model(run, config=config.model)
    clips, prompts = [torch.randn(20_000) / 10], ["USER: <Speech><SpeechHere></Speech> what\nASSISTANT:"]
    assert torch.equal(model.score(clips, prompts, ["yes"])[0], beside.score(clips, prompts, ["yes"])[0])
    assert runs.load_model(run, GOLDEN / "window.pth", config.model).config == config.model


def test_a_run_is_not_converted_over(tmp_path: Path) -> None:
    convert("window_no_beats", tmp_path / "run")
    with pytest.raises(FileExistsError, match="holds a run"):
        convert("window_no_beats", tmp_path / "run")


def test_a_checkpoint_that_disagrees_with_the_config_is_refused_in_the_users_words(tmp_path: Path) -> None:
    run = convert("window", tmp_path / "run")
    config = run.config().model
    for key, value, said in (
        ("window_seconds", 0.5, r"model\.bridge\.window_seconds=0\.333333, the config says 0\.5"),
        ("num_queries", 2, r"model\.bridge\.num_queries=1, the config says 2"),
        ("hidden_dim", 64, r"model\.bridge\.hidden_dim=32, the config says 64"),
        ("level", "sequence", r"model\.bridge\.level=window, the config says sequence"),
    ):
        changed = run.config().model
        setattr(changed.bridge, key, value)
        with pytest.raises(ValueError, match=rf"window\.pth was trained with .*{said}"):
            runs.load_model(run, GOLDEN / "window.pth", changed)
    assert config.lora is not None
    config.lora.rank = 4
    with pytest.raises(ValueError, match=r"model\.lora\.rank=8, the config says 4"):
        runs.load_model(run, GOLDEN / "window.pth", config)


def spoil(kind: str, folder: Path) -> Path:
    """Write a checkpoint with one fault."""
    file, state = folder / "spoilt.pth", torch.load(GOLDEN / "window.pth", weights_only=True)
    if kind == "truncated":
        file.write_bytes((GOLDEN / "window.pth").read_bytes()[:60_000])
        return file
    if kind == "BEATs":
        shutil.copy(GOLDEN / "beats_ft.pt", file)
        return file
    if kind == "text":
        file.write_text("not a checkpoint")
        return file
    if kind == "missing key":
        del state["model"]["ln_audio.bias"]
    elif kind == "unexpected key":
        state["model"]["speech_decoder.weight"] = torch.zeros(2)
    elif kind == "wrong shape":
        state["model"]["speech_llama_proj.weight"] = torch.zeros(48, 31)
    elif kind == "no queries":
        del state["model"]["speech_query_tokens"]
    elif kind == "not tensors":
        state["model"]["ln_audio.bias"] = [0.0]
    elif kind == "code":
        state["config"] = Attack(folder)
    torch.save(state, file)
    return file


class Attack:
    """Makes a folder when a careless reader unpickles it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (__import__("os").mkdir, (str(self.folder / "attacked"),))


FAULTS = {
    "truncated": "cannot be read as a checkpoint",
    "BEATs": "no SALMONN checkpoint",
    "text": "cannot be read as a checkpoint",
    "missing key": "missing bridge.norms.1.bias",
    "unexpected key": "unexpected speech_decoder.weight",
    "wrong shape": "bridge.projection.weight is (48, 31), the config makes it (48, 32)",
    "no queries": "it lacks speech_query_tokens",
    "not tensors": "must hold the tensors of 'model'",
    "code": "cannot be read as a checkpoint",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_spoilt_checkpoint_ends_the_command_with_one_line_and_runs_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = spoil(kind, tmp_path)
    words = [str(file), str(tmp_path / "run"), "--whisper", str(GOLDEN / "whisper"), "--llm", str(GOLDEN / "llama")]
    words += ["--beats", str(GOLDEN / "beats_ft.pt"), "--num-heads", "4"]
    monkeypatch.setattr(sys, "argv", ["convert", *words])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert FAULTS[kind] in errors[0]
    assert not (tmp_path / "attacked").exists()
    assert not (tmp_path / "run").exists()


def test_a_converted_run_is_measured_and_asked_on_a_cpu_with_its_float16_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], corpus: Path, short: None
) -> None:
    run = convert("window_no_beats", tmp_path / "run")
    config = run.config()
    assert (config.trainer["precision"], config.model.llm.dtype) == ("16-mixed", "float16")
    runs.say_once.cache_clear()
    (result,) = evaluate(run, None, [f"evaluation.benchmarks=[{corpus}]"], again=False)
    assert result.after is not None
    said = capsys.readouterr().err
    assert said.count("trainer.precision=16-mixed is for GPUs: on this CPU it is 32-true") == 1
    clip = str(corpus.parent / "0.flac")
    assert len(list(infer.answer(run, [clip], "What is said?", DecodingConfig(max_new_tokens=3, num_beams=1)))) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("second_per_window", None), ("second_stride", "0.3"), ("lora_alpha", [32]), ("prompt_template", 3)],
)
def test_a_configuration_of_other_types_is_refused_by_key(key: str, value: Any, tmp_path: Path) -> None:
    state = torch.load(GOLDEN / "window.pth", weights_only=True)
    state["config"] = {"model": {key: value}}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"other\.pth: its config has {key}="):
        read_original(tmp_path / "other.pth")


def test_weights_of_an_original_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    state = torch.load(GOLDEN / "window.pth", weights_only=True)
    state["model"]["ln_audio.bias"][2] = float("nan")
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth cannot be used: ln_audio\.bias holds values that are not finite"):
        read_original(tmp_path / "other.pth")


def test_a_model_that_the_original_does_not_have_is_not_exported(tmp_path: Path) -> None:
    run = convert("window_no_beats", tmp_path / "run")
    text = run.config_file.read_text().replace("span: thirty_seconds", "span: clip")
    run.config_file.write_text(text)
    state = read_plain(run.checkpoint)
    del state["original"]
    torch.save({**state}, tmp_path / "native.ckpt")
    (tmp_path / "native.ckpt").replace(run.checkpoint)
    with pytest.raises(ValueError, match=r"no model with these settings: model\.bridge\.span"):
        export_original(run, tmp_path / "out.pth")
