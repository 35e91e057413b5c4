"""What an LLM's folder says about text: special tokens, ids, generation settings and chat templates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import few_fast, make_batch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from salmonn_lab import infer
from salmonn_lab.batch import AudioTokens
from salmonn_lab.config import load_config
from salmonn_lab.data.dataset import prompt_ids, target_ids
from salmonn_lab.fit import fit
from salmonn_lab.model.llm import DecodingConfig, LanguageModel, LLMConfig
from salmonn_lab.predictions import read_predictions
from salmonn_lab.salmonn import ModelConfig, Salmonn

LLAMA = Path(__file__).parents[1] / "golden" / "original" / "llama"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny / "llm", tmp_path / "llm")
    return tmp_path / "llm"


def load(folder: Path, **options: Any) -> LanguageModel:
    return LanguageModel(LLMConfig(str(folder), dtype="float32", **options), None).eval()


def answers(llm: LanguageModel, clips: Salmonn) -> list[tuple[str, int]]:
    torch.manual_seed(3)
    tokens = AudioTokens(torch.randn(5, 2, llm.dim), torch.ones(5, 2, dtype=torch.bool))
    given = llm.generate(tokens, make_batch(clips), DecodingConfig(max_new_tokens=8, num_beams=1))
    return [(answer.text, answer.tokens) for answer in given]


@pytest.fixture(scope="module")
def clips(tiny_config: ModelConfig) -> Salmonn:
    return Salmonn(tiny_config)


@pytest.mark.parametrize("text", ["yes </s> no", "<unk> hi", "<s>", "a <pad> b", "<|im_end|>", "</s>", "<0x0A>"])
@pytest.mark.parametrize("kind", ["byte-level", "SentencePiece"])
def test_special_tokens_in_a_transcript_are_text_and_come_back(text: str, kind: str, tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny / "llm" if kind == "byte-level" else LLAMA)
    *ids, end = target_ids(tokenizer, text)
    assert end == tokenizer.eos_token_id
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


def test_special_tokens_are_special_in_a_template_and_text_in_a_question(tiny: Path) -> None:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny / "llm")
    _, after = prompt_ids(tokenizer, "USER: <SpeechHere> say </s> now</s>ASSISTANT:", "say </s> now")
    assert after.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(after) == " say </s> now</s>ASSISTANT:"
    plain = prompt_ids(tokenizer, "USER: <SpeechHere> say it now</s>ASSISTANT:", "say it now")
    assert plain == prompt_ids(tokenizer, "USER: <SpeechHere> say it now</s>ASSISTANT:")


LEAKS: dict[str, Any] = {
    "forced_bos_token_id": 9,
    "forced_eos_token_id": 9,
    "guidance_scale": 3.0,
    "stop_strings": ["e", "t", " "],
    "suppress_tokens": list(range(100, 380)),
    "begin_suppress_tokens": list(range(100, 380)),
    "bad_words_ids": [[token] for token in range(100, 380)],
    "min_length": 60,
    "min_new_tokens": 7,
    "max_length": 3,
    "repetition_penalty": 3.0,
    "length_penalty": 9.0,
    "no_repeat_ngram_size": 1,
    "encoder_no_repeat_ngram_size": 1,
    "do_sample": True,
    "temperature": 9.0,
    "top_k": 3,
    "num_beam_groups": 2,
    "diversity_penalty": 1.0,
    "penalty_alpha": 0.6,
    "renormalize_logits": True,
    "sequence_bias": [[[9], 99.0]],
    "exponential_decay_length_penalty": [1, 9.0],
    "watermarking_config": {"greenlist_ratio": 0.25, "bias": 9.0},
    "token_healing": True,
    "prompt_lookup_num_tokens": 3,
    "max_time": 0.0,
    "use_cache": False,
    "return_dict_in_generate": True,
    "output_logits": True,
    "cache_implementation": "static",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", few_fast(LEAKS, 6))
def test_generation_settings_of_the_folder_do_not_act(name: str, folder: Path, clips: Salmonn) -> None:
    wanted = answers(load(folder), clips)
    path = folder / "generation_config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, name: LEAKS[name]}))
    assert answers(load(folder), clips) == wanted


def test_the_eos_tokens_of_the_folder_end_an_answer_beside_the_tokenizers(folder: Path, clips: Salmonn) -> None:
    plain = load(folder)
    assert plain.end_ids == [2]
    torch.manual_seed(3)
    written: list[list[int]] = []
    answer = plain.answer
    plain.answer = lambda ids: written.append(ids.tolist()) or answer(ids)  # type: ignore[method-assign, func-returns-value]
    answers(plain, clips)
    second = written[0][1]
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [2, second, 999]}))
    llm = load(folder)
    assert llm.end_ids == [2, second]
    assert answers(llm, clips)[0][1] == written[0].index(second) + 1


def add_token(folder: Path, token: str, *, special: bool, role: str | None = None) -> int:
    """Give a tokenizer a token more than the LLM has embeddings; return its id."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([token], special_tokens=special)
    if role is not None:
        setattr(tokenizer, role, token)
    tokenizer.save_pretrained(folder)
    token_id = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(token_id, int)
    return token_id


def test_a_pad_token_beyond_the_embeddings_is_right_under_its_mask(folder: Path, clips: Salmonn) -> None:
    wanted = load(folder)
    size = wanted.embedding.num_embeddings
    assert add_token(folder, "[PAD]", special=True, role="pad_token") >= size
    llm = load(folder)
    assert llm.pad_id == 0
    assert answers(llm, clips) == answers(wanted, clips)
    tokens = AudioTokens(torch.ones(5, 2, llm.dim), torch.ones(5, 2, dtype=torch.bool))
    assert torch.equal(llm.token_losses(tokens, make_batch(clips)), wanted.token_losses(tokens, make_batch(clips)))


@pytest.mark.parametrize(
    ("special", "role"), [(False, None), (True, "bos_token"), (True, "eos_token")], ids=["word", "BOS", "EOS"]
)
def test_tokens_beyond_the_embeddings_that_rows_may_hold_are_refused_by_name(
    special: bool, role: str | None, folder: Path
) -> None:
    beyond = add_token(folder, "<more>", special=special, role=role)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    said = rf"tokens beyond the model's {size} embeddings: '<more>' \({beyond}\)$"
    with pytest.raises(ValueError, match=rf"^model\.llm\.checkpoint: the tokenizer of {folder} has {said}"):
        load(folder)


def test_a_special_token_beyond_the_embeddings_that_no_text_gives_is_no_fault(folder: Path) -> None:
    add_token(folder, "<image>", special=True, role=None)
    llm = load(folder)
    ids = target_ids(llm.tokenizer, "an <image> here")
    assert max(ids) < llm.embedding.num_embeddings


def give_template(folder: Path, template: str | None) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def test_the_chat_template_is_the_tokenizers_with_the_prompt_in_it(folder: Path) -> None:
    give_template(folder, CHATML)
    llm = load(folder, prompt_template="chat")
    assert llm.prompt_template == "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert load(folder).prompt_template == "USER: {}\nASSISTANT:"


def test_a_chat_template_does_not_know_what_day_it_is(folder: Path) -> None:
    give_template(folder, "{{ bos_token }}{{ strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}")
    assert load(folder, prompt_template="chat").prompt_template == "<s>26 Jul 2024 {}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, r"the tokenizer of .*llm has no chat template"),
        ("{{ raise_exception('not for you') }}", r"the chat template of .*llm fails: not for you"),
        ("hello", r"the chat template of .*llm must give the user's message exactly once, gives 'hello'"),
        ("{{ messages[0]['content'] * 2 }}", r".* the user's message exactly once, gives '\{\}\{\}'"),
        ("{% for %}", r"the chat template of .*llm fails: "),
    ],
)
def test_a_chat_template_that_is_not_there_or_does_not_do_is_refused(
    template: str | None, said: str, folder: Path
) -> None:
    give_template(folder, template)
    with pytest.raises(ValueError, match=rf"^model\.llm\.prompt_template=chat: {said}"):
        load(folder, prompt_template="chat")


def test_chat_is_a_value_of_the_config_and_a_template_without_a_place_is_not() -> None:
    assert load_config([], ["model.llm.prompt_template=chat"]).model.llm.prompt_template == "chat"
    with pytest.raises(ValueError, match=r"must hold '\{\}' exactly once, or be 'chat', got 'Chat'"):
        load_config([], ["model.llm.prompt_template=Chat"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_of_a_chat_template_records_it_and_is_measured_and_asked_with_it(
    folder: Path, settings: Path, corpus: Path, short: None
) -> None:
    give_template(folder, CHATML)
    asked = [f"model.llm.checkpoint={folder}", "model.llm.prompt_template=chat", "trainer.max_steps=1"]
    run = fit(load_config([settings], [*asked, f"evaluation.benchmarks=[{corpus}]"]))
    template = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert run.provenance()["prompt_template"] == template
    assert run.provenance()["precision"] == "32-true"
    (prediction, *_) = read_predictions(run.predictions / "corpus.jsonl")
    before, after = template.split("{}")
    assert prediction.prompt.startswith(before)
    assert prediction.prompt.endswith(after)
    clip = str(corpus.parent / "0.flac")
    (answer,) = infer.answer(run, [clip], "What is said?", DecodingConfig(max_new_tokens=3, num_beams=1))
    assert answer.prompt == f"{before}<Speech><SpeechHere></Speech> What is said?{after}"
