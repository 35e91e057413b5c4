"""Prompts: what is asked depends on the example and the draw alone, and a bad pool is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from salmonn_lab.batch import Example
from salmonn_lab.data.prompts import PLACE, PromptPool

TEMPLATE = "USER: {}\nASSISTANT:"
# fmt: off
ORIGINAL_TASKS = {
    "asr", "asr_zh", "asr_de", "translation_ec", "audiocaption",
    "audiocaption_v2", "QA", "inference_QA", "gender_QA", "gender_recognition",
    "phone_recognition", "speech_separation", "emotion_recognition", "music_description", "speaker_verification",
    "audio_story_telling", "speaker_diarization_asr", "speech_query", "lyrics_recognition", "audio_speech_description",
    "fluent_speech_audio", "speech_audio_query", "slot_filling", "translation_en2ja", "translation_en2de",
    "speech_audio_coreasoning", "keywords",
}
# fmt: on


def example(task: str, question: str = "") -> Example:
    return Example("e", (), task, "x", question=question)


def test_our_pool_has_every_task_of_the_original_and_asks_questions_where_it_does() -> None:
    pool = PromptPool.load()
    assert ORIGINAL_TASKS | {"sound_label", "spoken_QA", "audio_QA"} == set(pool.prompts)
    for task, prompts in pool.prompts.items():
        assert len(set(prompts)) == len(prompts)
        assert all(f"<Speech>{PLACE}</Speech>" in prompt for prompt in prompts)
        assert any("{}" in prompt for prompt in prompts) == (task.endswith("QA") or task == "slot_filling")


def test_the_first_prompt_is_asked_in_its_template_without_a_draw() -> None:
    pool = PromptPool({"asr": [f"{PLACE} first", f"{PLACE} second"]})
    assert pool.ask(example("asr"), TEMPLATE) == f"USER: {PLACE} first\nASSISTANT:"


def test_a_draw_decides_alone_and_reaches_every_prompt() -> None:
    pool = PromptPool({"asr": [f"{PLACE} {number}" for number in range(4)]})
    draws = [(seed, epoch, index) for seed in range(2) for epoch in range(3) for index in range(50)]
    asked = [pool.ask(example("asr"), "{}", draw) for draw in draws]
    assert asked == [pool.ask(example("asr"), "{}", draw) for draw in draws]
    assert min(asked.count(prompt) for prompt in pool.prompts["asr"]) > len(draws) / 8
    assert asked[:50] != asked[50:100]
    assert asked[:150] != asked[150:]


def test_a_question_fills_its_place_and_other_braces_stay() -> None:
    pool = PromptPool({"QA": [f"{PLACE} {{}} answer as {{json}}"], "asr": [f"{PLACE} write"]})
    asked = pool.ask(example("QA", "what is {} or {x}?"), TEMPLATE)
    assert asked == f"USER: {PLACE} what is {{}} or {{x}}? answer as {{json}}\nASSISTANT:"
    assert pool.ask(example("asr", "ignored"), "{}") == f"{PLACE} write"
    with pytest.raises(ValueError, match="example 'e': task 'QA' needs a 'question'"):
        pool.ask(example("QA"), TEMPLATE)
    with pytest.raises(ValueError, match=f"example 'e': its prompt must hold {PLACE} exactly once"):
        pool.ask(example("QA", f"say {PLACE}"), TEMPLATE)


def test_an_unknown_task_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"task 'ars' has no prompts in .*; it has QA, asr"):
        PromptPool({"asr": [PLACE], "QA": [PLACE]}).ask(example("ars"), TEMPLATE)


def test_the_originals_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "test_prompt.json"
    path.write_text(json.dumps({"asr": f"<Speech>{PLACE}</Speech> one", "QA": [f"<Speech>{PLACE}</Speech> {{}}"]}))
    pool = PromptPool.load(path)
    assert pool.ask(example("asr"), "{}") == f"<Speech>{PLACE}</Speech> one"
    assert pool.ask(example("QA", "who?"), "{}") == f"<Speech>{PLACE}</Speech> who?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asr: [no place]", r"p\.yaml: task 'asr': .*exactly once.*got 'no place'"),
        ("asr: <SpeechHere> <SpeechHere>", r"p\.yaml: task 'asr': .*exactly once"),
        ("QA: <SpeechHere> {} {}", r"p\.yaml: task 'QA': .*at most once"),
        ("asr: []", r"p\.yaml: task 'asr' has no prompts"),
        ("asr: 3", r"p\.yaml: task 'asr': expected a prompt or a list of prompts"),
        ("asr: [3]", r"p\.yaml: task 'asr': expected a prompt or a list of prompts"),
        ("- asr", r"p\.yaml: expected a mapping"),
        ("asr: [", r"p\.yaml: "),
    ],
)
def test_a_bad_prompt_file_is_named_with_its_task(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        PromptPool.load(tmp_path / "p.yaml")
    with pytest.raises(ValueError, match="no such prompt file"):
        PromptPool.load(tmp_path / "none.yaml")


def test_a_free_question_is_put_as_the_pool_puts_questions() -> None:
    pool = PromptPool({"asr": ["<SpeechHere> Write."], "QA": ["<SpeechHere> {} Answer."]})
    assert pool.around("Who?") == "<SpeechHere> Who? Answer."
    assert pool.around("Hear <SpeechHere>: who?") == "Hear <SpeechHere>: who?"
    assert PromptPool({"asr": ["<SpeechHere> Write."]}).around("Who?") == "<Speech><SpeechHere></Speech> Who?"
