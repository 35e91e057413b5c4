"""Samples hold what their example and address say, and unreadable audio stops or is counted."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from transformers import PreTrainedTokenizerFast

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.audio import AudioError, read_audio
from salmonn_lab.data.dataset import ClipDataset, SpeechDataset
from salmonn_lab.data.features import Clip
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.data.prompts import PLACE, PromptPool

POOL = PromptPool({"asr": [f"<Speech>{PLACE}</Speech> write {n}" for n in range(3)], "audio_QA": [f"{PLACE}{{}}"]})
TEMPLATE = "USER: {}\nASSISTANT:"


@pytest.fixture
def examples(clips: Path) -> list[Example]:
    return list(read_manifest(clips))


def make(
    examples: list[Example], tokenizer: PreTrainedTokenizerFast, mode: Any = "train", **options: Any
) -> SpeechDataset:
    return SpeechDataset(examples, tokenizer, POOL, TEMPLATE, mode=mode, **options)


def test_pieces_are_tokenized_alone_between_bos_and_eos(
    examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    sample = make(examples, byte_tokenizer, "validate")[(0, 1)]
    assert (sample.id, sample.prompt) == ("c1", f"USER: <Speech>{PLACE}</Speech> write 0\nASSISTANT:")
    assert byte_tokenizer.decode(sample.before_ids) == "<s>USER: <Speech>"
    assert byte_tokenizer.decode(sample.after_ids) == "</Speech> write 0\nASSISTANT:"
    assert byte_tokenizer.decode(sample.target_ids) == "word 1</s>"
    assert sample.references == ("word 1",)
    assert len(sample.waveform) == round(16_000 * (examples[1].duration or 0))


def test_bos_is_not_doubled_and_not_invented(examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast) -> None:
    own = SpeechDataset(examples, byte_tokenizer, POOL, "<s>USER: {}", mode="train")[(0, 0)]
    assert byte_tokenizer.decode(own.before_ids) == "<s>USER: "
    without = pickle.loads(pickle.dumps(byte_tokenizer))
    without.bos_token = None
    assert byte_tokenizer.decode(make(examples, without)[(0, 0)].before_ids) == "USER: "
    without.eos_token = None
    with pytest.raises(ValueError, match="no eos_token"):
        make(examples, without)


def test_a_long_target_is_cut_but_ends(examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast) -> None:
    sample = make(examples, byte_tokenizer, max_target_tokens=5)[(0, 12)]
    assert byte_tokenizer.decode(sample.target_ids) == "word</s>"


def test_prediction_needs_no_target_and_training_does(
    examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    open_ended = dataclasses.replace(examples[1], target="", references=("a", "b"))
    sample = make([open_ended], byte_tokenizer, "predict")[(0, 0)]
    assert sample.target_ids == ()
    assert sample.references == ("a", "b")
    with pytest.raises(ValueError, match="example 'c1' has no target"):
        make([open_ended], byte_tokenizer)[(0, 0)]


def test_only_training_draws_prompts_and_by_the_address_alone(
    examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    addresses = [(epoch, 1) for epoch in range(20)]
    prompts = [make(examples, byte_tokenizer, seed=3)[address].prompt for address in reversed(addresses)][::-1]
    again = make(examples, byte_tokenizer, seed=3)
    assert prompts == [again[address].prompt for address in addresses]
    assert len(set(prompts)) == 3
    for mode in ("validate", "predict"):
        assert {make(examples, byte_tokenizer, mode)[address].prompt for address in addresses} == {
            f"USER: <Speech>{PLACE}</Speech> write 0\nASSISTANT:"
        }


def test_a_dataset_can_be_sent_to_a_spawned_worker(
    examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    dataset = make(examples, byte_tokenizer)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[(0, 3)].waveform, dataset[(0, 3)].waveform)


def test_an_unreadable_clip_stops_the_run_by_name(
    examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    examples[3] = dataclasses.replace(examples[3], audio=(Segment("/gone.wav"),))
    with pytest.raises(AudioError, match=r"/gone\.wav: no such audio file"):
        make(examples, byte_tokenizer).__getitems__([(0, 2), (0, 3)])


def test_an_unreadable_clip_can_be_left_out_and_is_counted(
    examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    for index in (3, 4):
        examples[index] = dataclasses.replace(examples[index], audio=(Segment(f"/gone{index}.wav"),))
    dataset = make(examples, byte_tokenizer, on_error="skip")
    with caplog.at_level(logging.WARNING):
        assert [sample.id for sample in dataset.__getitems__([(0, 2), (0, 3), (0, 5)])] == ["c2", "c5"]
        assert [sample.id for sample in dataset.__getitems__([(0, 3)])] == ["c5"], "the first readable after it"
    assert dataset.lost == 3
    assert "/gone3.wav" in caplog.text
    assert "number 3 of this loader process: /gone4.wav" in caplog.text


def test_nothing_but_unreadable_clips_ends_a_run_that_skips(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    lost = [Example(f"x{n}", (Segment("/gone.wav"),), "asr", "x") for n in range(5)]
    with pytest.raises(AudioError, match="could not be read, the last 100 in a row"):
        make(lost, byte_tokenizer, on_error="skip").__getitems__([(0, 0), (0, 1)])


def test_a_speed_is_drawn_by_the_address_in_training_alone(
    examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    speeds = [0.9, 1.0, 1.1]
    dataset = make(examples, byte_tokenizer, speeds={1: speeds}.__getitem__)
    length = 16_000 * (examples[1].duration or 0)
    seen = {round(length / len(dataset[(epoch, 1)].waveform), 2) for epoch in range(20)}
    assert seen == set(speeds)
    assert torch.equal(dataset[(3, 1)].waveform, dataset[(3, 1)].waveform)
    validated = make(examples, byte_tokenizer, "validate", speeds=lambda index: speeds)
    assert len(validated[(3, 1)].waveform) == round(length)


@pytest.mark.parametrize("stated", [0.2, 3.0, 45.0])
def test_a_clip_that_is_not_as_long_as_its_manifest_says_is_refused_or_skipped(
    examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast, stated: float, tmp_path: Path
) -> None:
    samples = torch.zeros(16_000).numpy()
    soundfile.write(tmp_path / "a.wav", samples, 16_000)
    wrong = dataclasses.replace(examples[0], audio=(Segment(str(tmp_path / "a.wav")),), duration=stated)
    read = partial(read_audio, min_seconds=2.0, max_seconds=2.5)
    data = make([wrong, examples[1]], byte_tokenizer, read=read)
    message = rf"example 'c0': 'duration' is {stated:g} s, the audio 1\.00 s: .*a\.wav"
    with pytest.raises(AudioError, match=message):
        data[(0, 0)]
    skipping = make([wrong, examples[1]], byte_tokenizer, read=read, on_error="skip")
    assert [sample.id for sample in skipping.__getitems__([(0, 0), (0, 1)])] == ["c1"]
    clips = ClipDataset([Clip(wrong.audio, 0.9, stated / 0.9)], read, "stop")
    with pytest.raises(AudioError, match=rf"'duration' is {stated:g} s, the audio 1\.00 s"):
        clips.__getitems__([0])


def test_padding_cutting_and_speed_are_no_other_length(
    examples: list[Example], byte_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    for seconds in (0.2, 5.0):
        soundfile.write(tmp_path / "a.wav", torch.zeros(round(16_000 * seconds)).numpy(), 16_000)
        right = dataclasses.replace(examples[0], audio=(Segment(str(tmp_path / "a.wav")),), duration=seconds + 0.4)
        read = partial(read_audio, min_seconds=1.0, max_seconds=2.5)
        for speed in (0.5, 1.0, 2.0):
            data = make([right], byte_tokenizer, read=read, speeds=lambda index, speed=speed: (speed,))
            assert len(data[(0, 0)].waveform) == (16_000 if seconds < 1 else 40_000)
            clip = Clip(right.audio, speed, (seconds + 0.4) / speed)
            assert len(ClipDataset([clip], read, "stop").__getitems__([0])) == 1
