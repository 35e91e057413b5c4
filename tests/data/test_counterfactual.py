"""What is heard in place of clips: never the clip itself, always as long, the same at every call."""

import pickle
from functools import partial
from pathlib import Path

import pytest
import torch

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.audio import read_audio
from salmonn_lab.data.counterfactual import altered, shuffled
from salmonn_lab.data.manifest import read_manifest

READ = partial(read_audio, min_seconds=0.1)


def test_silence_and_noise_are_as_long_as_the_clip(corpus: Path) -> None:
    audio = next(iter(read_manifest(corpus))).audio
    clip = READ(audio)
    assert not altered(READ, "mute")(audio).any()
    noise = altered(READ, "noise")(audio)
    assert altered(READ, "mute")(audio).shape == noise.shape == clip.shape
    torch.testing.assert_close(noise.square().mean().sqrt(), clip.square().mean().sqrt(), rtol=0.05, atol=0)
    assert abs(float(torch.corrcoef(torch.stack([noise, clip]))[0, 1])) < 0.05
    assert torch.equal(noise, pickle.loads(pickle.dumps(altered(READ, "noise")))(audio))
    assert altered(READ, "mute")(audio, speed=2.0).shape == READ(audio, speed=2.0).shape
    assert altered(READ, "shuffled") is READ


def test_shuffled_examples_play_the_clip_of_another() -> None:
    clips = [(Segment(f"{index}.wav"),) for index in range(9)]
    examples = [Example(str(index), clips[index // 2], "QA", "yes", duration=float(index // 2)) for index in range(18)]
    found = shuffled(examples)
    assert [example.id for example in found] == [example.id for example in examples]
    assert all(one.audio != other.audio for one, other in zip(found, examples, strict=True))
    assert all(found[index].audio == found[index + 1].audio for index in range(0, 18, 2))
    assert {example.audio for example in found} == set(clips)
    assert all(example.duration == float(example.audio[0].path[0]) for example in found)
    assert shuffled(examples) == found
    with pytest.raises(ValueError, match="at least two clips"):
        shuffled(examples[:2])
