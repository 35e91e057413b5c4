"""The whole model: every ablation trains, generates, saves and reloads; nothing depends on batch-mates."""

import copy
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from samples import make_batch
from torch.utils.data import DataLoader

from salmonn_lab.batch import Batch
from salmonn_lab.model.llm import DecodingConfig
from salmonn_lab.salmonn import ModelConfig, OptimConfig, Salmonn, learning_rate_factor

ABLATIONS: dict[str, dict[str, Any]] = {
    "window": {},
    "sequence": {"bridge.level": "sequence"},
    "no audio encoder": {"audio_encoder": None},
    "no whisper": {"whisper": None},
    "BEATs": {"audio_encoder.kind": "beats", "audio_encoder.checkpoint": "beats.pt"},
    "four queries": {"bridge.num_queries": 4},
    "no lora": {"lora": None},
    "thirty seconds": {"bridge.span": "thirty_seconds"},
    "half second windows": {"bridge.window_seconds": 0.5, "bridge.stride_seconds": 0.25},
    "embedding scale": {"bridge.output_scale": "embedding"},
    "one layer": {"bridge.num_layers": 1, "bridge.feedforward_dim": 48},
    "bfloat16 LLM": {"llm.dtype": "bfloat16"},
    "eager attention": {"llm.attention": "eager"},
    "gradient checkpointing": {"llm.gradient_checkpointing": True},
}
GREEDY = DecodingConfig(max_new_tokens=5, num_beams=1)


def vary(config: ModelConfig, changes: dict[str, Any]) -> ModelConfig:
    """Return a copy of the configuration with dotted keys replaced."""
    config = copy.deepcopy(config)
    for key, value in changes.items():
        *parents, name = key.split(".")
        owner: Any = config
        for parent in parents:
            owner = getattr(owner, parent)
        if key == "audio_encoder.checkpoint":  # beside the one that it replaces
            value = str(Path(owner.checkpoint).with_name(value))
        setattr(owner, name, value)
    return config


def train(model: Salmonn, batches: list[Batch], **options: Any) -> lightning.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(accelerator="cpu", **quiet, **options)
    trainer.fit(model, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return trainer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ABLATIONS)
def test_each_ablation_trains_generates_saves_and_reloads_equal(
    name: str, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    config = vary(tiny_config, ABLATIONS[name])
    model = Salmonn(config, OptimConfig(lr=1e-2, warmup_steps=0), total_steps=2)
    frozen = {key: value.clone() for key, value in model.named_parameters() if not value.requires_grad}
    before = {key: value.clone() for key, value in model.trainable_state().items()}
    batch = make_batch(model)
    trainer = train(model, [batch, batch], max_steps=2)
    changed = [key for key, value in model.trainable_state().items() if not torch.equal(value, before[key])]
    assert len(changed) > len(before) // 2
    assert all(torch.equal(value, dict(model.named_parameters())[key]) for key, value in frozen.items())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    state = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert set(state["state_dict"]) == set(before)
    again = Salmonn(config)
    again.load_checkpoint(state, "model.ckpt")
    model.eval(), again.eval()
    assert torch.equal(model(batch), again(batch))
    assert model.generate(batch, GREEDY) == again.generate(batch, GREEDY)


@pytest.mark.parametrize("name", ABLATIONS)
def test_losses_do_not_depend_on_batch_mates(name: str, tiny_config: ModelConfig) -> None:
    model = Salmonn(vary(tiny_config, ABLATIONS[name])).eval()
    tolerance = 0.05 if model.config.llm.dtype == "bfloat16" else 1e-5
    with torch.no_grad():
        alone = torch.cat([model.token_losses(make_batch(model, [index])) for index in range(5)])
        torch.testing.assert_close(model.token_losses(make_batch(model)), alone, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_trying_whether_the_llm_answers_leaves_dropout_as_it_was(tiny_config: ModelConfig, checkpointing: bool) -> None:
    model = Salmonn(vary(tiny_config, {"llm.gradient_checkpointing": checkpointing})).train()
    before = {name: module.training for name, module in model.named_modules()}
    assert any(before[name] for name in before if name.endswith("lora_dropout.default"))
    model.llm.check_answers()
    assert {name: module.training for name, module in model.named_modules()} == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_quantized_llm_of_float16_answers_and_trains_on_a_cpu(tiny_config: ModelConfig, bits: str) -> None:
    model = Salmonn(vary(tiny_config, {"llm.quantization": bits, "llm.dtype": "float16"}))
    batch = make_batch(model)
    assert len(model.generate(batch, GREEDY)) == 5
    model.train()(batch).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_quantized_llm_is_smaller_trains_and_answers_nearly_as_the_exact_one(
    tiny_config: ModelConfig, bits: str
) -> None:
    exact, coarse = (Salmonn(vary(tiny_config, {"llm.quantization": value})) for value in (None, bits))
    coarse.load_trainable_state(exact.trainable_state(), "the exact model")
    batch = make_batch(exact)
    losses = [float(model.eval()(batch)) for model in (exact, coarse)]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    assert losses[0] != losses[1]
    sizes = [sum(p.numel() * p.element_size() for p in model.llm.model.parameters()) for model in (exact, coarse)]
    assert sizes[1] < 0.75 * sizes[0]
    coarse.train()(batch).backward()
    assert all(p.grad is not None for p in coarse.parameters() if p.requires_grad)
    assert len(coarse.generate(batch, GREEDY)) == 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_one_batch_overfits_and_the_words_come_back_to_their_end(tiny_config: ModelConfig) -> None:
    changes = {
        "bridge.dropout": 0.0,
        "lora.dropout": 0.0,
        "lora.rank": 8,
        "bridge.num_queries": 2,
        "audio_encoder": None,
    }
    config = vary(tiny_config, changes)
    model = Salmonn(config, OptimConfig(lr=1e-2, warmup_steps=10, weight_decay=0.0), total_steps=250)
    batch = make_batch(model)
    train(model, [batch] * 250, max_steps=250, gradient_clip_val=1.0)
    model.eval()
    assert model.generate(batch, DecodingConfig(12, 1)) == [references[0] for references in batch.references]
    for beams in (1, 4):
        model.decoding = DecodingConfig(12, beams)
        notes = [prediction.generation for prediction in model.predict_step(batch, 0)]
        assert [note.tokens for note in notes] == batch.target_mask.sum(1).tolist()
        assert all(note.finished for note in notes)
        assert len({note.seconds for note in notes}) == 1
        assert notes[0].seconds > 0
        model.decoding = DecodingConfig(2, beams)
        notes = [prediction.generation for prediction in model.predict_step(batch, 0)]
        assert {(note.tokens, note.finished) for note in notes} == {(2, False)}


@pytest.mark.filterwarnings("ignore")
def test_accumulated_uneven_batches_give_the_gradient_of_the_mean_over_tokens(tiny_config: ModelConfig) -> None:
    config = vary(tiny_config, {"bridge.dropout": 0.0, "lora.dropout": 0.0})
    optim = OptimConfig(lr=1e-2, warmup_steps=0, weight_decay=0.0)
    gradients = []
    for orders, accumulate in (([[0, 1, 2, 3, 4]], 1), ([[0], [1, 2, 3, 4]], 2)):
        model = Salmonn(config, optim, total_steps=1)
        kept: dict[str, torch.Tensor] = {}
        model.configure_gradient_clipping = lambda *_, model=model, kept=kept, **__: kept.update(  # type: ignore[method-assign]
            {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
        )
        train(model, [make_batch(model, order) for order in orders], max_steps=1, accumulate_grad_batches=accumulate)
        gradients.append(kept)
    reference = Salmonn(config, optim).train()
    reference(make_batch(reference)).backward()
    for name, weight in reference.named_parameters():
        if weight.requires_grad:
            for kept in gradients:
                torch.testing.assert_close(kept[name], weight.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_is_not_finite_stops_with_the_clips_named(tiny_config: ModelConfig) -> None:
    model = Salmonn(tiny_config, OptimConfig(), total_steps=2)
    batch = make_batch(model)
    batch.waveforms[3, :100] = float("nan")
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 0 .*clip-0, clip-1, clip-2, clip-3, clip-4"):
        train(model, [batch], max_steps=1)


def test_frozen_encoders_stay_in_evaluation_mode(tiny_config: ModelConfig) -> None:
    model = Salmonn(tiny_config).train()
    assert model.bridge.training
    assert not any(module.training for module in model.encoders.modules())
    assert not any(weight.requires_grad for weight in model.encoders.parameters())


def test_a_checkpoint_of_another_shape_is_refused_by_name(tiny_config: ModelConfig) -> None:
    state = Salmonn(tiny_config).trainable_state()
    other = Salmonn(vary(tiny_config, {"bridge.num_queries": 2}))
    with pytest.raises(
        ValueError, match=r"other\.ckpt does not fit .* bridge\.queries is \(1, 1, 32\), the config makes it"
    ):
        other.load_trainable_state(state, "other.ckpt")


def test_a_checkpoint_beside_other_frozen_weights_is_refused(tiny_config: ModelConfig) -> None:
    model, checkpoint = Salmonn(tiny_config), {}
    model.on_save_checkpoint(checkpoint)
    checkpoint["frozen"] = {**checkpoint["frozen"], "llm": "0" * 16}
    with pytest.raises(ValueError, match="beside other frozen weights: llm"):
        model.load_checkpoint(checkpoint, "a.ckpt")


SPOILT: dict[str, tuple[dict[str, Any], str]] = {
    "a list": ({"bridge.queries": [1.0]}, r"cannot be used: bridge\.queries is a list, not a tensor"),
    "a text": ({"bridge.queries": "x"}, r"bridge\.queries is a str, not a tensor"),
    "nothing": ({"bridge.queries": None}, r"bridge\.queries is a NoneType, not a tensor"),
    "integers": ({"bridge.queries": torch.ones(1, 1, 32, dtype=torch.long)}, r"is a tensor of torch\.int64"),
    "complex": ({"bridge.queries": torch.ones(1, 1, 32, dtype=torch.cfloat)}, r"is a tensor of torch\.complex64"),
    "sparse": ({"bridge.queries": torch.ones(1, 1, 32).to_sparse()}, r"is a tensor of torch\.float32"),
    "NaN": ({"bridge.queries": torch.full((1, 1, 32), float("nan"))}, r"bridge\.queries holds values that are not fin"),
    "infinity": (
        {"bridge.queries": torch.full((1, 1, 32), float("inf"))},
        r"bridge\.queries holds values that are not",
    ),
    "changed": ({"bridge.queries": torch.zeros(1, 1, 32)}, r"is damaged: its weights are not those that were written"),
    "another name": ({3: torch.zeros(2)}, r"unexpected 3"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_checkpoint_with_a_spoilt_entry_is_refused_and_nothing_of_it_is_taken_over(
    fault: str, tiny_config: ModelConfig
) -> None:
    model, checkpoint = Salmonn(tiny_config), {}
    model.on_save_checkpoint(checkpoint)
    change, said = SPOILT[fault]
    checkpoint["state_dict"] = {**checkpoint["state_dict"], **change}
    with pytest.raises(ValueError, match=rf"^a\.ckpt .*{said}"):
        model.load_checkpoint(checkpoint, "a.ckpt")


@pytest.mark.parametrize("change", [{"state_dict": [1]}, {"frozen": [1]}, {"frozen": None}, {"state_dict": None}])
def test_a_checkpoint_of_another_build_is_refused(change: dict[str, Any], tiny_config: ModelConfig) -> None:
    model, checkpoint = Salmonn(tiny_config), {}
    model.on_save_checkpoint(checkpoint)
    with pytest.raises(ValueError, match=r"a\.ckpt is not a checkpoint of salmonn_lab"):
        model.load_checkpoint({**checkpoint, **change}, "a.ckpt")


def test_a_checkpoint_without_a_hash_is_one_of_an_earlier_version(tiny_config: ModelConfig) -> None:
    model, checkpoint = Salmonn(tiny_config), {}
    model.on_save_checkpoint(checkpoint)
    assert len(checkpoint.pop("state_sha256")) == 64
    model.load_checkpoint(checkpoint, "a.ckpt")


def test_a_float16_llm_computes_in_float32_on_a_cpu_with_the_weights_that_it_has(tiny_config: ModelConfig) -> None:
    half, whole = (Salmonn(vary(tiny_config, {"llm.dtype": dtype})).eval() for dtype in ("float16", "float32"))
    whole.load_trainable_state(half.trainable_state(), "the same")
    frozen = half.fingerprints()
    with torch.inference_mode():
        assert half.generate(make_batch(half), GREEDY)
    assert half.llm.embedding.weight.dtype == torch.float32
    assert half.fingerprints() == frozen
    rounded = whole.llm.embedding.weight.half().float()
    assert torch.equal(half.llm.embedding.weight, rounded)
    half.train()(make_batch(half)).backward()
    assert float(half(make_batch(half))) == pytest.approx(float(whole(make_batch(whole))), abs=0.01)


def test_frozen_weights_have_the_same_hash_with_lora_and_without(tiny_config: ModelConfig) -> None:
    plain, adapted = Salmonn(vary(tiny_config, {"lora": None})), Salmonn(tiny_config)
    assert plain.fingerprints() == adapted.fingerprints()
    with torch.no_grad():
        plain.llm.embedding.weight[0, 0] += 1
    assert plain.fingerprints()["llm"] != adapted.fingerprints()["llm"]


def test_the_learning_rate_warms_up_once_and_ends_at_its_minimum() -> None:
    config = OptimConfig()
    rates = [3e-5 * learning_rate_factor(step, config, 90_000) for step in range(90_001)]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[2999] == pytest.approx(2.999e-5, rel=1e-3)
    assert rates[3000] == pytest.approx(2.9945e-5, rel=1e-4)
    assert rates[-1] == pytest.approx(1e-5)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[3000:]))


def test_every_trainable_weight_is_optimized_once_and_only_matrices_decay(tiny_config: ModelConfig) -> None:
    model = Salmonn(tiny_config, OptimConfig(lora_lr=1e-4), total_steps=1)
    groups = model.configure_optimizers()["optimizer"].param_groups
    weights = [weight for group in groups for weight in group["params"]]
    assert {id(weight) for weight in weights} == {id(weight) for weight in model.parameters() if weight.requires_grad}
    assert len(weights) == len({id(weight) for weight in weights})
    assert all((group["weight_decay"] == 0) == all(weight.ndim < 2 for weight in group["params"]) for group in groups)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("objective", ["ctc", "bag"])
def test_alignment_trains_the_bridge_and_leaves_lora_alone(tiny_config: ModelConfig, objective: str) -> None:
    config = vary(tiny_config, {"bridge.num_queries": 8})
    optim = OptimConfig(lr=1e-2, warmup_steps=0, align_steps=2, align={"asr": objective})
    model = Salmonn(config, optim, total_steps=2)
    before = {key: value.clone() for key, value in model.trainable_state().items()}
    train(model, [make_batch(model)] * 2, max_steps=2)
    changed = {key for key, value in model.trainable_state().items() if not torch.equal(value, before[key])}
    assert any(key.startswith("bridge.") for key in changed)
    assert not any("lora_B" in key for key in changed)


@pytest.mark.filterwarnings("ignore")
def test_alignment_beside_the_llm_adds_its_share_on_the_tasks_that_it_trains_on(tiny_config: ModelConfig) -> None:
    config = vary(tiny_config, {"bridge.num_queries": 8})
    losses = {}
    for task in ("asr", "QA"):
        for weight in (0.0, 0.5):
            torch.manual_seed(0)
            model = Salmonn(config, OptimConfig(align_weight=weight)).eval()
            batch = make_batch(model)._replace(tasks=(task,) * 5)
            losses[task, weight] = float(model.training_step(batch, 0).detach())
            assert model._step[0] == losses[task, 0.0], "the loss that is shown is the LLM's alone"
            share = float(model.align(model.hear(batch), batch).detach())
            assert losses[task, weight] == pytest.approx(losses[task, 0.0] + weight * share, rel=1e-6)
            assert (share > 0) == (task == "asr")


def test_alignment_and_what_follows_have_a_schedule_each() -> None:
    config = OptimConfig(lr=1e-3, warmup_steps=10, align_steps=100, min_lr=1e-5)
    plain = dataclasses.replace(config, align_steps=0)
    rates = [learning_rate_factor(step, config, 300) for step in range(301)]
    assert rates[:100] == [learning_rate_factor(step, plain, 100) for step in range(100)]
    assert rates[100:] == [learning_rate_factor(step, plain, 200) for step in range(201)]
    faster = dataclasses.replace(config, align_lr=4e-3)
    assert learning_rate_factor(10, faster, 300) == pytest.approx(4 * rates[10], rel=0.05)
    assert learning_rate_factor(99, faster, 300) * 1e-3 == pytest.approx(1e-5, rel=0.2)
    assert [learning_rate_factor(step, faster, 300) for step in range(100, 301)] == rates[100:]


def test_an_unknown_objective_of_alignment_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"optim.align.asr must be one of ctc, bag, got 'ctcc'"):
        OptimConfig(align={"asr": "ctcc"})
