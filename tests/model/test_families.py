"""LLMs of many families: losses are those of the model's own forward, answers do not depend on batch-mates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from samples import make_batch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from salmonn_lab.batch import AudioTokens
from salmonn_lab.model.llm import IGNORE, DecodingConfig, LanguageModel, LLMConfig, LoraConfig
from salmonn_lab.salmonn import ModelConfig, Salmonn
from salmonn_lab.tiny import write_llm

SIZES: dict[str, Any] = {
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CAP = {"head_dim": 16, "final_logit_softcapping": 0.5}
XLSTM = {"vocab_size": 384, "hidden_size": 64, "num_heads": 4, "num_hidden_layers": 2, "num_blocks": 2}
GEMMA3N = {
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 384,
    "num_kv_shared_layers": 0,
    "laurel_rank": 4,
    "altup_num_inputs": 2,
    "activation_sparsity_pattern": [0.0, 0.0],
    "layer_types": ["sliding_attention", "full_attention"],
}
GPT2 = {"vocab_size": 384, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
FAMILIES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "Gemma 2, capped": ("Gemma2Config", {**SIZES, **CAP}, True),
    "Gemma 3, capped": ("Gemma3TextConfig", {**SIZES, **CAP}, True),
    "Gemma 3n, capped": ("Gemma3nTextConfig", {**SIZES, **CAP, **GEMMA3N}, True),
    "RecurrentGemma, capped": (
        "RecurrentGemmaConfig",
        {**SIZES, "num_hidden_layers": 3, "lru_width": 64, "attention_window_size": 16, "logits_soft_cap": 0.5},
        False,
    ),
    "xLSTM, capped": ("xLSTMConfig", {**XLSTM, "output_logit_soft_cap": 0.5}, False),
    "Granite, divided": ("GraniteConfig", {**SIZES, "logits_scaling": 3.0, "embedding_multiplier": 2.0}, True),
    "Cohere, multiplied": ("CohereConfig", {**SIZES, "logit_scale": 0.3}, True),
    "NanoChat, capped": ("NanoChatConfig", {**SIZES, "final_logit_softcapping": 0.5}, True),
    "RWKV, which reads padding": (
        "RwkvConfig",
        {"vocab_size": 384, "hidden_size": 64, "num_hidden_layers": 2, "attention_hidden_size": 64},
        False,
    ),
    "GPT-2, of absolute positions": ("GPT2Config", GPT2, True),
    "LLaMA": ("LlamaConfig", SIZES, True),
}
"""The class of the config, its values, and whether rows of a batch may be padded."""


def write_family(folder: Path, kind: str, sizes: dict[str, Any]) -> str:
    """Write a miniature LLM with random weights, five times as wide as they start, so that scaling shows."""
    write_llm(folder)
    model = AutoModelForCausalLM.from_config(getattr(transformers, kind)(**sizes))
    with torch.no_grad():
        for weight in model.get_output_embeddings().parameters():
            weight.mul_(5)
    model.save_pretrained(folder)
    return str(folder)


def load(folder: str, lora: LoraConfig | None = None) -> LanguageModel:
    return LanguageModel(LLMConfig(folder, dtype="float32", attention="eager"), lora).eval()


def audio(counts: list[int], dim: int) -> AudioTokens:
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return AudioTokens(torch.randn(*mask.shape, dim), mask)


@pytest.fixture(scope="module")
def clips(tiny_config: ModelConfig) -> Salmonn:
    """Return a model whose tokenizer is that of all miniature LLMs, to make batches with."""
    return Salmonn(tiny_config)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_the_models_own_and_answers_those_of_a_clip_alone(
    family: str, clips: Salmonn, tmp_path: Path
) -> None:
    kind, sizes, batched = FAMILIES[family]
    llm = load(write_family(tmp_path / "llm", kind, sizes))
    batch, tokens = make_batch(clips), audio([1, 2, 3, 4, 5], llm.dim)
    rows = llm.layout(tokens, batch, target=True)
    with torch.no_grad():
        whole = llm.base(inputs_embeds=rows.embeds, attention_mask=rows.mask.long(), use_cache=False).logits
        losses = llm.token_losses(tokens, batch)
    following = rows.labels[:, 1:].flatten()
    predicted = following != IGNORE
    own = functional.cross_entropy(whole[:, :-1].flatten(0, 1)[predicted], following[predicted])
    assert float(losses.mean()) == pytest.approx(float(own), abs=1e-5)
    if "capped" in family:
        assert float(whole.abs().max()) <= 0.5 + 1e-6, "the cap acts"
    decoding = DecodingConfig(max_new_tokens=8, num_beams=1)
    if "xLSTM" in family:  # transformers' own cache does not fit its own layers
        with pytest.raises(ValueError, match=r"\(xlstm\) cannot answer what is given as embeddings: "):
            llm.generate(tokens, batch, decoding)
        return
    together = [answer.text for answer in llm.generate(tokens, batch, decoding)]
    assert llm.ignores_padding == batched
    for index in range(5):
        alone = AudioTokens(tokens.embeds[index : index + 1, : index + 1], tokens.mask[index : index + 1, : index + 1])
        assert llm.generate(alone, make_batch(clips, [index]), decoding)[0].text == together[index]


def test_scaled_logits_reach_loras_gradient(clips: Salmonn, tmp_path: Path) -> None:
    folder, losses = write_family(tmp_path / "llm", "CohereConfig", {**SIZES, "logit_scale": 0.3}), []
    llm = load(folder, LoraConfig(rank=2, dropout=0.0)).train()
    tokens = audio([1, 2, 3, 4, 5], llm.dim)
    losses = llm.token_losses(tokens, make_batch(clips))
    losses.sum().backward()
    assert all(weight.grad is not None for weight in llm.parameters() if weight.requires_grad)
    plain = load(folder).token_losses(tokens, make_batch(clips))
    torch.testing.assert_close(losses, plain)


def test_an_llm_that_cannot_answer_embeddings_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    write_llm(tmp_path / "llm")
    sizes = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8}
    transformers.FalconH1Config(**SIZES, **sizes).save_pretrained(tmp_path / "llm")
    with pytest.raises(ValueError, match=r"^model\.llm\.checkpoint: .*llm is a falcon_h1, which cannot generate text"):
        load(str(tmp_path / "llm"))


def test_an_attention_that_a_model_lacks_is_refused_under_the_kits_key(tmp_path: Path) -> None:
    folder = write_family(tmp_path / "llm", "RwkvConfig", FAMILIES["RWKV, which reads padding"][1])
    with pytest.raises(ValueError, match=r"^model\.llm\.attention=sdpa does not go with .*model\.llm\.attention=eager"):
        LanguageModel(LLMConfig(folder, dtype="float32"), None)
    with pytest.raises(ValueError, match=r"^model\.llm\.attention=flash_attention_2 does not go with .*llm here: "):
        LanguageModel(LLMConfig(folder, dtype="bfloat16", attention="flash_attention_2"), None)


def test_lora_on_layers_that_are_not_there_names_those_that_are(tiny: Path) -> None:
    said = r"no layers named wq, wv; it has down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    with pytest.raises(ValueError, match=rf"^model\.lora\.targets: the LLM has {said}, and \[all-linear\] is all"):
        load(str(tiny / "llm"), LoraConfig(targets=["q_proj", "wq", "wv"]))
    with pytest.raises(ValueError, match=r"model\.lora\.targets: all-linear stands alone"):
        LoraConfig(targets=["all-linear", "q_proj"])
    llm = load(str(tiny / "llm"), LoraConfig(rank=2, targets=["all-linear"]))
    assert len(llm.adapters()) == 14  # seven in each of two layers, none on the output layer


def test_lora_goes_on_gpt2s_own_kind_of_linear_layer(tmp_path: Path) -> None:
    llm = load(write_family(tmp_path / "llm", "GPT2Config", GPT2), LoraConfig(rank=2, targets=["c_attn"]))
    assert len(llm.adapters()) == 2
