"""Estimated operations and memory are those that real models measure."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import make_batch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from salmonn_lab.batch import Batch
from salmonn_lab.model.beats import Beats
from salmonn_lab.model.bridge import BridgeConfig
from salmonn_lab.model.cost import Clip, audio_tokens, beats_flops, part_costs
from salmonn_lab.model.encoders import AudioEncoderConfig
from salmonn_lab.salmonn import ModelConfig, Salmonn

GOLDEN = Path(__file__).parents[1] / "golden" / "original"
CLIP = 3
"""Which of the shared samples is measured."""


def measured(model: Salmonn, batch: Batch) -> dict[str, float]:
    """Return the operations of each part, counted while it runs."""
    flops: dict[str, float] = {}
    frames = []
    for stream in model.encoders.streams:
        with counting() as counter:
            frames.append(stream(batch.waveforms, batch.lengths))
        flops[type(stream).__name__] = float(counter.get_total_flops())
    with counting() as counter:
        audio = model.bridge(frames)
    flops["Bridge"] = float(counter.get_total_flops())
    with counting() as counter:
        model.llm.token_losses(audio, batch)
    flops["LanguageModel"] = float(counter.get_total_flops())
    return flops


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count operations, those of attention among them, which the CPU's own kernel keeps from the counter."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def estimated(model: Salmonn, batch: Batch) -> dict[str, float]:
    text = int(batch.before_mask.sum() + batch.after_mask.sum() + batch.target_mask.sum())
    clip = Clip(int(batch.lengths[0]) / 16_000, text, int(batch.target_mask.sum()))
    return {part.name: part.flops for part in part_costs(model.encoders, model.bridge, model.llm, None, clip)}


@pytest.mark.parametrize("level", ["window", "sequence"])
@pytest.mark.parametrize("span", ["clip", "thirty_seconds"])
@pytest.mark.parametrize("kind", ["yamnet", "beats"])
def test_operations_are_within_five_percent_of_what_the_tiny_model_runs(
    tiny: Path, tiny_config: ModelConfig, level: Any, span: Any, kind: Any
) -> None:
    config = copy.deepcopy(tiny_config)
    config.bridge = BridgeConfig(level=level, num_queries=3, num_layers=1, hidden_dim=32, num_heads=4, span=span)
    if kind == "beats":
        config.audio_encoder = AudioEncoderConfig("beats", str(GOLDEN / "beats_ft.pt"))
    model = Salmonn(config).eval()
    batch = make_batch(model, [CLIP])
    counted, wanted = measured(model, batch), estimated(model, batch)
    assert counted.keys() == wanted.keys()
    for name, flops in counted.items():
        assert wanted[name] == pytest.approx(flops, rel=0.05), name
    tokens = int(model.hear(batch).mask.sum())
    assert audio_tokens(int(batch.lengths[0]) / 16_000, model.bridge) == tokens


def test_beats_of_the_other_branches_is_counted_too() -> None:
    model = Beats.from_pretrained(GOLDEN / "beats_prenorm_glu.pt").eval()
    with counting() as counter:
        model(torch.zeros(1, 30_000), torch.tensor([30_000]))
    assert beats_flops(model, 30_000) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_a_skeleton_weighs_what_the_model_weighs(tiny_config: ModelConfig) -> None:
    clip = Clip(2.0, 10, 5)
    real, bare = Salmonn(tiny_config), Salmonn.skeleton(tiny_config)
    assert all(weight.is_meta for weight in bare.parameters())
    one, other = (part_costs(m.encoders, m.bridge, m.llm, None, clip) for m in (real, bare))
    for mine, theirs in zip(one, other, strict=True):
        if mine.name != "Yamnet":  # the tiny one has its classifier
            assert mine == theirs
    assert sum(part.weight_bytes for part in one) == sum(p.numel() * p.element_size() for p in real.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_operations_are_within_five_percent_of_what_the_quickstart_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from salmonn_lab import runs
    from salmonn_lab.config import load_config

    root = Path(__file__).parents[2]
    model = Salmonn(runs.localize(load_config([root / "configs" / "quickstart.yaml"])).model).eval()
    batch = make_batch(model, [CLIP])
    counted, wanted = measured(model, batch), estimated(model, batch)
    for name, flops in counted.items():
        assert wanted[name] == pytest.approx(flops, rel=0.05), name
