"""Every precision trains with every way to clip, accumulate and align; a CPU settles float16; the rest is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from samples import make_batch
from test_salmonn import train, vary

from salmonn_lab import runs
from salmonn_lab.batch import AudioTokens
from salmonn_lab.config import load_config
from salmonn_lab.evaluate import evaluate
from salmonn_lab.fit import fit
from salmonn_lab.model.alignment import alignment_losses
from salmonn_lab.optim import PRECISIONS, OptimConfig, precision_of
from salmonn_lab.salmonn import ModelConfig, Salmonn

CLIPS: dict[str, dict[str, Any]] = {
    "no clipping": {},
    "norm": {"gradient_clip_val": 0.5},
    "value": {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
}
ALIGNS: dict[str, dict[str, Any]] = {
    "LLM": {},
    "alignment": {"align_steps": 2},
    "alignment by words": {"align_steps": 2, "align": {"asr": "bag"}},
    "both": {"align_steps": 1, "align_weight": 0.5},
}
QUICK = {
    ("bf16-mixed", "norm", 2, "both"),
    ("bf16-mixed", "value", 1, "alignment"),
    ("32-true", "norm", 2, "both"),
    ("16-mixed", "norm", 1, "both"),
}
"""What is trained at every turn; the other combinations are with the slow tests."""
ALL = [
    case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow)
    for case in itertools.product(PRECISIONS, CLIPS, (1, 2), ALIGNS)
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("precision", "clip", "accumulate", "align"), ALL)
def test_two_steps_are_trained_and_come_back_from_the_checkpoint(
    precision: str, clip: str, accumulate: int, align: str, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    config = vary(tiny_config, {"bridge.num_queries": 8})
    model = Salmonn(config, OptimConfig(lr=1e-2, warmup_steps=0, **ALIGNS[align]), total_steps=2)
    before = {name: weight.clone() for name, weight in model.trainable_state().items()}
    options = runs.settle_precision({"precision": precision, "accelerator": "cpu"})
    options |= {"max_steps": 2, "accumulate_grad_batches": accumulate, **CLIPS[clip]}
    del options["accelerator"]
    trainer = train(model, [make_batch(model)] * 2 * accumulate, **options)
    assert trainer.global_step == 2
    after = model.trainable_state()
    changed = [name for name, weight in after.items() if not torch.equal(weight.float(), before[name].float())]
    assert any(name.startswith("bridge.") for name in changed)
    assert any("lora_B" in name for name in changed) == (align in ("LLM", "both"))
    assert all(bool(torch.isfinite(weight).all()) for weight in after.values())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = Salmonn(config)
    runs.load_weights(again, tmp_path / "last.ckpt")
    for name, weight in again.trainable_state().items():
        torch.testing.assert_close(weight, after[name].to(weight.dtype))


def test_alignment_is_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    audio = AudioTokens(torch.randn(2, 6, 8), torch.ones(2, 6, dtype=torch.bool))
    table = torch.randn(20, 8)
    exact = alignment_losses(audio, [[3, 4], [5]], ["ctc", "bag"], table, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = alignment_losses(audio, [[3, 4], [5]], ["ctc", "bag"], table, 2)
    assert torch.equal(exact, mixed)


@pytest.mark.parametrize("asked", ["16-mixed", "16", 16])
def test_float16_is_float32_on_a_cpu_and_said_once(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    runs.say_once.cache_clear()
    for _ in range(2):
        assert runs.settle_precision({"precision": asked, "accelerator": "cpu"})["precision"] == "32-true"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"trainer.precision={precision_of({'precision': asked})} is for GPUs: on this CPU it is")


def test_other_precisions_stay_as_they_are_written() -> None:
    for asked in ("32-true", "bf16-mixed", "bf16", 32, None):
        assert runs.settle_precision({"precision": asked, "accelerator": "cpu"})["precision"] == asked
    assert runs.settle_precision({"precision": "16-mixed", "accelerator": "gpu"})["precision"] == "16-mixed"
    assert "precision" not in runs.settle_precision({"max_steps": 3})


REFUSED = ("64-true", "16-true", "bf16-true", 64, "transformer-engine", "transformer-engine-float16", "fp32", 12)


@pytest.mark.parametrize("asked", REFUSED)
def test_a_precision_that_is_not_there_is_refused_before_anything_is_loaded(asked: Any) -> None:
    known = "32-true, bf16-mixed, 16-mixed"
    with pytest.raises(ValueError, match=rf"trainer.precision must be one of {known}, got '?{asked}"):
        load_config([], [f"trainer.precision={asked}"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_of_each_precision_is_trained_resumed_measured_and_measured_again(
    precision: str, settings: Path, corpus: Path, short: None
) -> None:
    values = yaml.safe_load(settings.read_text())
    values["trainer"] |= {"precision": precision, "max_steps": 2}
    values["optim"] |= {"align_steps": 1, "align_weight": 0.5}
    values["model"]["llm"]["dtype"] = "float16" if precision == "16-mixed" else "float32"
    values["evaluation"] = {"benchmarks": [str(corpus)]}
    settings.write_text(yaml.safe_dump(values))
    run = fit(load_config([settings]))
    (results,) = evaluate(run, None, [], again=True)
    assert results.skipped is None
    fit(load_config([settings]), resume=True)
