"""The language model: rows without holes, losses equal to the stock forward, generation equal to the stock one."""

import itertools
from pathlib import Path

import pytest
import torch
from samples import make_batch

from salmonn_lab.batch import AudioTokens
from salmonn_lab.model.llm import DecodingConfig, LanguageModel, LLMConfig, LoraConfig
from salmonn_lab.salmonn import ModelConfig, Salmonn


@pytest.fixture(scope="module")
def model(tiny_config: ModelConfig) -> Salmonn:
    return Salmonn(tiny_config).eval()


def audio(counts: list[int], dim: int) -> AudioTokens:
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return AudioTokens(torch.randn(*mask.shape, dim), mask)


def test_training_rows_are_contiguous_and_padded_at_the_end(model: Salmonn) -> None:
    batch, tokens = make_batch(model), audio([1, 2, 3, 4, 5], model.llm.dim)
    rows = model.llm.layout(tokens, batch, target=True)
    table = model.llm.embedding
    for index in range(5):
        wanted = torch.cat(
            [
                table(batch.before_ids[index][batch.before_mask[index]]),
                tokens.embeds[index][tokens.mask[index]],
                table(batch.after_ids[index][batch.after_mask[index]]),
                table(batch.target_ids[index][batch.target_mask[index]]),
            ]
        )
        assert rows.mask[index].tolist() == [True] * len(wanted) + [False] * (rows.mask.shape[1] - len(wanted))
        torch.testing.assert_close(rows.embeds[index, : len(wanted)], wanted)
        target = batch.target_ids[index][batch.target_mask[index]]
        assert rows.labels[index, len(wanted) - len(target) : len(wanted)].tolist() == target.tolist()


def test_generation_rows_are_padded_at_the_left(model: Salmonn) -> None:
    rows = model.llm.layout(audio([1, 2, 3, 4, 5], model.llm.dim), make_batch(model), target=False)
    assert bool((rows.mask.long().diff(dim=1) >= 0).all())
    assert bool(rows.mask[:, -1].all())


def test_token_losses_equal_the_stock_models_loss(model: Salmonn) -> None:
    batch, tokens = make_batch(model), audio([1, 2, 3, 4, 5], model.llm.dim)
    rows = model.llm.layout(tokens, batch, target=True)
    stock = model.llm.model(inputs_embeds=rows.embeds, attention_mask=rows.mask.long(), labels=rows.labels).loss
    torch.testing.assert_close(model.llm.token_losses(tokens, batch).mean(), stock)


def test_greedy_text_equals_the_stepwise_argmax(model: Salmonn) -> None:
    batch, tokens = make_batch(model), audio([1, 2, 3, 4, 5], model.llm.dim)
    answers = model.llm.generate(tokens, batch, DecodingConfig(max_new_tokens=6, num_beams=1))
    rows = model.llm.layout(tokens, batch, target=False)
    for index, answer in enumerate(answers):
        row, ids = rows.embeds[index][rows.mask[index]], []
        for _ in range(6):
            token = int(model.llm.model(inputs_embeds=row[None]).logits[0, -1].argmax())
            ids.append(token)
            if token == model.llm.tokenizer.eos_token_id:
                break
            row = torch.cat([row, model.llm.embedding(torch.tensor([token]))])
        assert answer.text == model.llm.tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert answer.tokens == len(ids)
        assert answer.finished == (ids[-1] == model.llm.tokenizer.eos_token_id)


@pytest.mark.parametrize(("filled", "tokens", "finished"), [(0, 3, True), (2, 3, True), (7, 5, False)])
def test_an_answer_ends_at_its_first_end_symbol_whatever_fills_the_row(
    model: Salmonn, filled: int, tokens: int, finished: bool
) -> None:
    end = model.llm.tokenizer.eos_token_id
    answer = model.llm.answer(torch.tensor([9, 8, 7 if filled == 7 else end, filled, filled]))
    assert (answer.tokens, answer.finished) == (tokens, finished)


@pytest.mark.parametrize("beams", [1, 4])
def test_text_does_not_depend_on_batch_mates(model: Salmonn, beams: int) -> None:
    decoding = DecodingConfig(max_new_tokens=8, num_beams=beams)
    together = model.generate(make_batch(model), decoding)
    assert together == [model.generate(make_batch(model, [index]), decoding)[0] for index in range(5)]


def test_an_answer_repeats_no_more_than_it_may(model: Salmonn, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[list[int]] = []
    answer = model.llm.answer
    monkeypatch.setattr(model.llm, "answer", lambda ids: rows.append(ids.tolist()) or answer(ids))
    batch, tokens = make_batch(model), audio([1, 2, 3, 4, 5], model.llm.dim)
    for size, repeats in ((0, True), (2, False)):
        rows.clear()
        model.llm.generate(tokens, batch, DecodingConfig(max_new_tokens=40, num_beams=1, no_repeat_ngram_size=size))
        pairs = [list(itertools.pairwise(row)) for row in rows]
        assert len(pairs) == 5
        assert any(len(set(row)) < len(row) for row in pairs) == repeats


def test_lora_scale_zero_is_the_plain_llm(tiny: Path) -> None:
    config = LLMConfig(str(tiny / "llm"), dtype="float32")
    adapted = LanguageModel(config, LoraConfig(rank=2, targets=["q_proj", "v_proj"])).eval()
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    ids = torch.arange(5, 15)[None]
    plain = LanguageModel(config, None).eval().model(ids).logits
    assert not torch.allclose(adapted.model(ids).logits, plain)
    adapted.set_lora_scale(0.0)
    torch.testing.assert_close(adapted.model(ids).logits, plain)


def test_only_lora_is_in_training_mode_and_learns(model: Salmonn) -> None:
    llm = LanguageModel(LLMConfig(model.config.llm.checkpoint, dtype="float32"), LoraConfig(rank=2)).train()
    learning = {name for name, weight in llm.named_parameters() if weight.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    assert not llm.base.training
    assert all(module.training for name, module in llm.named_modules() if name.endswith("lora_dropout"))


def test_gradient_checkpointing_recomputes_and_changes_no_gradient(model: Salmonn, tiny: Path) -> None:
    gradients, calls = [], []
    for checkpointing in (False, True):
        config = LLMConfig(str(tiny / "llm"), dtype="float32", gradient_checkpointing=checkpointing)
        torch.manual_seed(1)
        llm = LanguageModel(config, LoraConfig(rank=2, dropout=0.0)).train()
        count = [0]
        llm.base.model.layers[0].input_layernorm.register_forward_hook(
            lambda *_, count=count: count.__setitem__(0, count[0] + 1)
        )
        torch.manual_seed(2)
        tokens = audio([1, 2, 3, 4, 5], llm.dim)
        tokens.embeds.requires_grad_()
        llm.token_losses(tokens, make_batch(model)).sum().backward()
        gradients.append(tokens.embeds.grad)
        calls.append(count[0])
    assert calls == [1, 2]
    torch.testing.assert_close(gradients[0], gradients[1])
