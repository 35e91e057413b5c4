"""Activation tuning tells stories with a run, keeps those that are long and sound, and trains a step on each."""

from pathlib import Path

import pytest
import torch

from salmonn_lab import activate as command
from salmonn_lab import command_line
from salmonn_lab.activate import activate, activation_config
from salmonn_lab.batch import Prediction
from salmonn_lab.config import load_config
from salmonn_lab.data.manifest import read_manifest, write_manifest
from salmonn_lab.data.modules import SourceConfig
from salmonn_lab.fit import fit
from salmonn_lab.plain import read_plain
from salmonn_lab.runs import Run, start
from salmonn_lab.salmonn import Salmonn

OPTIONS = {"scale": 2.0, "count": 3, "shortest": 4, "tokens": 8}


@pytest.fixture
def trained(settings: Path) -> Run:
    return fit(load_config([settings], ["trainer.max_steps=1", "evaluation.before=[]"]))


@pytest.mark.filterwarnings("ignore")
def test_a_run_is_trained_on_the_stories_it_told(
    trained: Run, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, scales = iter(["too short", "one two three four", "no no no no no no no no", *["a b c d e"] * 9]), []
    original = Salmonn.predict_step

    def predict_step(self: Salmonn, batch: object, batch_idx: int) -> list[Prediction]:
        layer = next(module for module in self.modules() if hasattr(module, "lora_A") and hasattr(module, "scaling"))
        scales.append(layer.scaling["default"])
        predictions = original(self, batch, batch_idx)  # type: ignore[arg-type]
        return [Prediction(p.id, p.benchmark, p.prompt, next(told), p.references) for p in predictions]

    monkeypatch.setattr(Salmonn, "predict_step", predict_step)
    run = activate(trained, corpus, tmp_path / "activated", **OPTIONS)  # type: ignore[arg-type]
    assert set(scales) == {2.0}
    stories = read_manifest(tmp_path / "activated" / "stories.jsonl")
    assert [story.target for story in stories] == ["one two three four", "a b c d e", "a b c d e"]
    assert {story.task for story in stories} == {"audio_story_telling"}
    before, after = read_plain(trained.checkpoint), read_plain(run.checkpoint)
    assert after["global_step"] == 3
    assert any(not torch.equal(weight, after["state_dict"][name]) for name, weight in before["state_dict"].items())


@pytest.mark.filterwarnings("ignore")
def test_too_few_stories_are_an_error_that_says_what_to_change(trained: Run, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"of 5 clips only 0 gave a story of 400 words .* 3 are needed"):
        activate(trained, corpus, tmp_path / "activated", **{**OPTIONS, "shortest": 400})  # type: ignore[arg-type]
    assert not (tmp_path / "activated").exists()


@pytest.mark.filterwarnings("ignore")
def test_training_on_stories_starts_from_the_run_and_takes_a_step_each(trained: Run, tmp_path: Path) -> None:
    config = activation_config(trained, tmp_path / "stories.jsonl", tmp_path / "new", 12)
    assert config.init_from == str(trained.folder)
    assert (config.trainer["max_steps"], config.data.max_batch_size) == (12, 1)
    assert config.model == trained.config().model
    assert command_line.STORIES == 12


def test_stories_that_are_there_are_trained_on_and_that_is_said(
    settings: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(load_config([settings]), resume=False)
    stories = tmp_path / "new" / "stories.jsonl"
    write_manifest(stories, read_manifest(corpus))
    monkeypatch.setattr(command, "fit", lambda config: config)
    config = activate(run, corpus, stories.parent, **OPTIONS)  # type: ignore[arg-type]
    assert config.data.sources == [SourceConfig(str(stories))]  # type: ignore[attr-defined]
    assert "stories.jsonl is there already: no story is told" in " ".join(capsys.readouterr().err.split())
