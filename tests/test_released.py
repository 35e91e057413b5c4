"""The released 7B and 13B: every key and shape, both ways, and what they weigh, on the meta device without a file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from salmonn_lab.fit import ESTIMATED_TEXT
from salmonn_lab.model.checkpoint import LEAKED, from_original, parse_original, to_original
from salmonn_lab.model.cost import Clip, audio_tokens, part_costs
from salmonn_lab.model.llm import LLMConfig
from salmonn_lab.salmonn import ModelConfig, Salmonn, original_config

KEYS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "golden" / "original" / "released_checkpoint_keys.json").read_text()
)
RELEASED = {
    "13b_vicuna_v1.1": ("lmsys/vicuna-13b-v1.1", 33_332_992, 52),
    "7b_vicuna_v1.5": ("lmsys/vicuna-7b-v1.5", 30_186_240, 44),
}


@pytest.fixture(scope="module", params=RELEASED)
def released(request: pytest.FixtureRequest) -> tuple[str, Salmonn]:
    name = request.param
    return name, Salmonn.skeleton(ModelConfig(llm=LLMConfig(RELEASED[name][0])))


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, (shape, _) in KEYS[name]["keys"].items()}


def test_the_default_configuration_has_the_released_trainable_weights(released: tuple[str, Salmonn]) -> None:
    name, model = released
    assert sum(weight.numel() for weight in model.trainable_state().values()) == RELEASED[name][1]


def test_every_released_key_is_matched_or_ignored_by_rule_both_ways(released: tuple[str, Salmonn]) -> None:
    name, model = released
    stored, own = shapes_of(name), {key: tuple(value.shape) for key, value in model.trainable_state().items()}
    ignored = [key for key in stored if LEAKED.fullmatch(key)]
    assert len(ignored) == RELEASED[name][2]
    streams = ("speech", "audio")
    learning = {key: shape for key, shape in stored.items() if key not in ignored}
    assert {from_original(key, streams): shape for key, shape in learning.items()} == own
    assert {to_original(key, streams): shape for key, shape in own.items()} == learning


def test_the_model_is_read_off_the_released_file_as_it_is_by_default(released: tuple[str, Salmonn]) -> None:
    name, model = released
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes_of(name).items()}
    original = parse_original({"model": tensors, "config": {}}, name)
    config = original_config(
        original, whisper="openai/whisper-large-v2", llm=RELEASED[name][0], beats=ModelConfig().audio_encoder.checkpoint
    )
    config.bridge.feedforward_dim = None  # what the file says is four times the width, the default
    assert config == model.config


def test_a_clip_costs_88_tokens_and_the_llm_most_memory(released: tuple[str, Salmonn]) -> None:
    _, model = released
    assert audio_tokens(10.0, model.bridge) == 88
    clip = Clip(10.0, *ESTIMATED_TEXT)
    costs = {part.name: part for part in part_costs(model.encoders, model.bridge, model.llm, None, clip)}
    assert costs["LanguageModel"].weight_bytes > 5 * costs["WhisperSpeechEncoder"].weight_bytes
    assert costs["WhisperSpeechEncoder"].flops > 5 * costs["Beats"].flops  # 30 s of it, whatever the clip
    four_bits = part_costs(model.encoders, model.bridge, model.llm, "4bit", clip)[-1]
    assert four_bits.weight_bytes < 0.3 * costs["LanguageModel"].weight_bytes
