"""The table of benchmarks: its rows hold together, and score what they say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from salmonn_lab.analysis import analyze
from salmonn_lab.assets import find_ready, prepared
from salmonn_lab.batch import LIKELIHOOD, Example, Prediction, Score, Segment
from salmonn_lab.benchmarks import (
    BENCHMARKS,
    METRICS,
    NUMBERS,
    TASKS,
    Benchmark,
    baseline,
    best_answer,
    find,
    measure,
    metrics_for,
    score,
    score_items,
    without_tools,
)
from salmonn_lab.data.corpora.readers import CORPORA
from salmonn_lab.data.manifest import write_manifest
from salmonn_lab.data.prompts import PromptPool
from salmonn_lab.model.llm import DecodingConfig


def write(path: Path, tasks: list[str]) -> Path:
    audio = (Segment(str(path.parent / "a.wav")),)
    write_manifest(path, [Example(str(i), audio, task, "x", question="q?") for i, task in enumerate(tasks)])
    return path


def predict(*rows: tuple[str, str], benchmark: str = "b", choices: list[str] | None = None) -> list[Prediction]:
    meta = {} if choices is None else {"choices": choices}
    return [Prediction(str(i), benchmark, "", text, (reference,), meta) for i, (text, reference) in enumerate(rows)]


def installed(name: str) -> str:
    """Skip a test of a row whose tokenizer is not installed."""
    if "bleu_ja" in BENCHMARKS[name].metrics and find_spec("MeCab") is None:
        pytest.skip("the Japanese tokenizer is not installed")
    return name


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_row_names_a_task_metrics_headline_and_decoding_that_exist(name: str) -> None:
    benchmark = find(installed(name))
    assert benchmark is BENCHMARKS[name]
    assert benchmark.name == name
    assert benchmark.task in TASKS
    assert benchmark.manifest.startswith(("asset:", "data:"))
    find_ready(benchmark.manifest)  # which refuses what there is none of
    assert benchmark.licence
    assert benchmark.how_to_get
    assert benchmark.count is None or benchmark.count > 0
    assert {*benchmark.metrics, *benchmark.where_present} <= METRICS.keys()
    DecodingConfig(**benchmark.decoding)
    metrics = metrics_for(without_tools(benchmark)).values()
    keys = [key for metric in metrics for key in metric.keys]
    assert len(set(keys)) == len(keys)
    owner = [metric for metric in metrics if benchmark.headline in metric.keys]
    assert len(owner) == 1
    assert owner[0].higher_is_better == benchmark.higher_is_better


@pytest.mark.parametrize("name", [name for name, row in BENCHMARKS.items() if row.manifest.startswith("data:")])
def test_a_row_about_a_corpus_asks_one_prompt_and_gives_the_corpus_its_due(name: str) -> None:
    benchmark = BENCHMARKS[name]
    assert benchmark.prompt is not None
    prompt = PromptPool({benchmark.task: [benchmark.prompt]}).ask(
        Example("a", (), benchmark.task, "x", question="q?"), "USER: {}"
    )
    assert prompt.startswith("USER: <Speech><SpeechHere></Speech> ")
    corpus, split = benchmark.manifest.removeprefix("data:").split("/")
    assert benchmark.count == CORPORA[corpus].splits[split].count
    for published in (benchmark.published, *benchmark.reported):
        assert published is None or (published.source and 0 <= published.value < 100)


def test_every_corpus_that_can_be_prepared_is_a_benchmark() -> None:
    used = {row.manifest.removeprefix("data:").split("/")[0] for row in BENCHMARKS.values()}
    assert CORPORA.keys() <= used


def test_numbers_of_the_paper_are_shares_where_the_headline_is() -> None:
    published = {name: row.published.value for name, row in BENCHMARKS.items() if row.published}
    assert published["librispeech_test_clean"] == 0.021
    assert published["covost2_en_zh"] == 0.331
    assert published["story"] == 82.57
    assert all(value < 1 for name, value in published.items() if BENCHMARKS[name].headline not in NUMBERS)


def test_every_task_that_is_measured_has_prompts_and_known_metrics() -> None:
    PromptPool.load().check_tasks(list(TASKS), "benchmarks.TASKS")
    assert {name for measure in TASKS.values() for name in measure.metrics} <= set(METRICS)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_one_headline_among_its_scores(task: str) -> None:
    measure = TASKS[task]
    if "bleu_ja" in measure.metrics and find_spec("MeCab") is None:
        pytest.skip("the Japanese tokenizer is not installed")
    metrics = [METRICS[name]({"a": ["x"]}) for name in measure.metrics]
    keys = [key for metric in metrics for key in metric.keys]
    assert keys.count(measure.headline) == 1
    assert len(set(keys)) == len(keys)
    owner = next(metric for metric in metrics if measure.headline in metric.keys)
    assert owner.higher_is_better == measure.higher_is_better


def test_metrics_are_made_for_the_references_at_hand() -> None:
    references = {"a": ["x", "y"], "b": ["z", "x"]}
    assert METRICS["bleu"](references).signature.startswith("bleu|nrefs:2|")
    assert METRICS["chrf"]({"a": ["x"], "b": ["x", "y"]}).signature.startswith("chrf|nrefs:var|")
    assert METRICS["accuracy"](references).signature == METRICS["accuracy"]({"c": ["x", "y", "z"]}).signature
    assert "|df:2-" in METRICS["cider_d"](references).signature


def test_multiple_choice_reads_the_choices_of_each_item() -> None:
    outputs = predict(("B", "blue"), ("(A) blue", "blue"), ("none", "blue"), choices=["red", "blue"])
    benchmark = replace(BENCHMARKS["quickstart_questions"], metrics=("multiple_choice",))
    scores = {item.metric: item.value for item in score(benchmark, outputs)}
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert scores["following_rate"] == pytest.approx(2 / 3)
    assert scores["best_position"] == scores["ceiling_letter"] == 1


def test_mixtures_are_scored_in_the_layout_of_their_reader() -> None:
    benchmark = replace(BENCHMARKS["asterisk"], metrics=("cpwer",), headline="cpwer")
    output = Prediction("a", "b", "", "a cat sat\nthe dog", ("the dog\na cat", "a cat\nthe dog"))
    scores = {item.metric: item.value for item in score(benchmark, [output])}
    assert scores == {"cpwer": 0.25, "wer_best_order": 0.25, "speaker_count_accuracy": 1.0}


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no benchmark or manifest 'asterik'.* Did you mean 'asterisk'\?"):
        find("asterik")
    with pytest.raises(ValueError, match=r"nothing_like_it.*there are quickstart_commands, "):
        find("nothing_like_it")


def test_a_missing_manifest_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.jsonl: no such manifest"):
        find(tmp_path / "mine.jsonl")


def test_a_prepared_manifest_is_found_by_its_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALMONN_LAB_DATA", str(tmp_path))
    path = prepared.location("data:librispeech/dev-clean")
    with pytest.raises(FileNotFoundError, match=r"python -m salmonn_lab\.prepare librispeech"):
        find("data:librispeech/dev-clean")
    write(path, ["asr"])
    benchmark = find("data:librispeech/dev-clean")
    assert (benchmark.name, benchmark.manifest, benchmark.headline) == (path.stem, "data:librispeech/dev-clean", "wer")


@pytest.mark.parametrize(
    ("tasks", "metrics", "headline"),
    [
        (["asr"], ("wer",), "wer"),
        (["asr_de"], ("wer_multilingual",), "wer"),
        (["asr_zh"], ("cer_cjk",), "cer"),
        (["sound_label", "sound_label"], ("accuracy", "exact_match"), "accuracy"),
        (["QA", "audio_QA", "emotion_recognition"], ("accuracy", "exact_match"), "accuracy"),
        (["music_description", "audiocaption"], ("caption_overlap", "cider_d", "caption_bleu"), "rouge_l_coco"),
        (["phone_recognition"], ("per",), "per"),
        (["speech_separation"], ("cpwer",), "cpwer"),
        (["translation_ec"], ("bleu_zh", "chrf"), "bleu"),
        (["slot_filling", "speech_query"], ("contains_answer", "token_f1", "exact_match"), "contains_answer"),
        (["audio_story_telling"], ("diversity", "following_story"), "mean_unique_words"),
    ],
)
def test_a_manifest_is_measured_as_its_tasks_are(
    tmp_path: Path, tasks: list[str], metrics: tuple[str, ...], headline: str
) -> None:
    path = write(tmp_path / "mine.jsonl", tasks)
    for given in (path, str(path)):
        benchmark = find(given)
        assert (benchmark.name, benchmark.manifest) == ("mine", str(path))
        assert (benchmark.metrics, benchmark.headline) == (metrics, headline)
        assert DecodingConfig(**benchmark.decoding) == DecodingConfig()


def write_texts(path: Path, *rows: tuple[str, object], task: str = "asr") -> Path:
    audio = (Segment(str(path.parent / "a.wav")),)
    metas = [{} if language is None else {"language": language} for _, language in rows]
    write_manifest(
        path,
        [
            Example(str(i), audio, task, text, meta=meta)
            for i, ((text, _), meta) in enumerate(zip(rows, metas, strict=True))
        ],
    )
    return path


CHARACTERS, WORDS = "cer|norm:cjk@2|agg:corpus|v1", "wer|norm:multilingual@1|agg:corpus|v1"
ENGLISH = "wer|norm:whisper_en@2|agg:corpus|v1"


@pytest.mark.parametrize(
    ("language", "reference", "output", "wanted", "signature"),
    [
        ("zh", "今天天气很好我们去公园玩吧", "今天天气很好，我们去公园玩吧。", 0, CHARACTERS),
        ("zh-CN", "你好世界", "你好 世 界！", 0, CHARACTERS),
        ("zh_TW", "你好世界", "你好世", 1 / 4, CHARACTERS),
        ("cmn-Hans-CN", "你好", "你坏", 1 / 2, CHARACTERS),
        ("yue", "你好", "「你好」", 0, CHARACTERS),
        ("ja", "今日は、５０％です。", "今日は 50 です", 0, CHARACTERS),
        ("jpn", "カタカナ", "ｶﾀｶﾅ", 0, CHARACTERS),
        ("th", "สวัสดีครับ", "สวัสดี ครับ", 0, CHARACTERS),
        ("th-TH", "กี่", "กี", 1 / 3, CHARACTERS),
        ("lo", "ສະບາຍດີ", "ສະບາຍ ດີ", 0, CHARACTERS),
        ("km", "សួស្តី", "សួស្តី។", 0, CHARACTERS),
        ("my", "မင်္ဂလာပါ", "မင်္ဂလာ ပါ။", 0, CHARACTERS),
        ("bo", "བཀྲ་ཤིས", "བཀྲ ཤིས།", 0, CHARACTERS),
        ("zh-Latn-pinyin", "nǐ hǎo", "nǐ hǎo!", 0, WORDS),
        ("de", "Das ist schön, oder?", "das ist schon oder", 1 / 4, WORDS),
        ("fr-FR", "C’est l'été.", "c'est l’été", 0, WORDS),
        ("hi", "यह हिन्दी है।", "यह हिन्दी है", 0, WORDS),
        ("hi", "यह हिन्दी है", "यह हन्द है", 1 / 3, WORDS),
        ("ar", "مَرْحَبًا بِك", "مَرْحَبًا، بِك", 0, WORDS),
        ("he", "שָׁלוֹם עוֹלָם", "שָׁלוֹם, עוֹלָם!", 0, WORDS),
        ("ko", "안녕 세계", "안녕, 세상.", 1 / 2, WORDS),
        ("ru", "Привет, мир!", "привет мир", 0, WORDS),
        ("en", "I don't colour it", "I don’t color it.", 0, ENGLISH),
        ("en-GB", "twenty one", "21", 0, ENGLISH),
        (None, "你好世界", "你好，世界。", 0, CHARACTERS),
        (None, "สวัสดีครับ", "สวัสดี ครับ", 0, CHARACTERS),
        (None, "我买了 iPhone", "我买了iphone。", 0, CHARACTERS),
        (None, "हिन्दी में", "हिन्दी में।", 0, WORDS),
        (None, "twenty one", "21", 0, ENGLISH),
        (None, "12 30", "12 30", 0, ENGLISH),
    ],
)
def test_the_language_of_a_manifest_chooses_unit_and_normalizer(
    tmp_path: Path, language: str | None, reference: str, output: str, wanted: float, signature: str
) -> None:
    for task in ("asr", "lyrics_recognition"):
        benchmark = find(write_texts(tmp_path / "mine.jsonl", (reference, language), task=task))
        first = score(benchmark, predict((output, reference)))[0]
        assert (first.metric, first.value, first.signature) == (benchmark.headline, pytest.approx(wanted), signature)
        assert benchmark.language == (language or "")


def test_a_perfect_chinese_transcript_with_punctuation_has_no_errors() -> None:
    benchmark = find(Path(__file__).parent / "data" / "chinese_punctuated.jsonl")
    rows = [
        ("今天天气很好，我们去公园玩吧。", "今天天气很好我们去公园玩吧"),
        ("你好，世界！", "你好世界"),
        ("「你好」 ", "你好"),
    ]
    first = score(benchmark, predict(*rows))[0]
    assert (first.metric, first.value, benchmark.language) == ("cer", 0.0, "zh")


def test_speakers_of_a_language_without_spaces_are_matched_by_characters(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "mine.jsonl", ("你好世界\n再见", "zh"), task="speech_separation")
    first = score(find(path), predict(("再见。\n你好，世", "你好世界\n再见")))[0]
    assert (first.metric, first.value) == ("cpcer", 1 / 6)
    assert first.signature == "cpcer|norm:cjk@2|sep:'\\n'|agg:corpus|v1"
    path = write_texts(tmp_path / "mine.jsonl", ("l’été\noui", "fr"), task="speech_separation")
    assert score(find(path), predict(("Oui!\nl'été", "l’été\noui")))[0].value == 0


@pytest.mark.parametrize(
    ("task", "rows", "message"),
    [
        (
            "asr",
            [("hello", "en"), ("你好", "zh")],
            r"the languages en \(english\), zh \(characters\) are not measured alike",
        ),
        ("asr", [("hello", "en"), ("hallo", "de")], r"the languages de \(words\), en \(english\) are not measured"),
        ("asr_zh", [("hello", "en")], r"the languages en \(english\), zh \(characters\) are not measured alike"),
        ("asr", [("hello", "english")], "example '0': key 'meta.language' must be a language code .*, got 'english'"),
        ("asr", [("hello", ["en"])], r"example '0': key 'meta.language' must be a language code .*, got \['en'\]"),
        ("asr", [("hello there", None), ("你好", None)], "look like .* and 1 like .*; name each example's language"),
    ],
)
def test_languages_that_are_not_measured_alike_are_refused(
    tmp_path: Path, task: str, rows: list[tuple[str, object]], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        find(write_texts(tmp_path / "mine.jsonl", *rows, task=task))
    assert str(error.value).startswith(f"{tmp_path / 'mine.jsonl'}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("language", ["und", "mul", "zxx", "MIS"])
def test_a_language_that_is_not_known_is_not_named(tmp_path: Path, language: str) -> None:
    assert find(write_texts(tmp_path / "mine.jsonl", ("今天天气很好", language))).headline == "cer"
    assert find(write_texts(tmp_path / "mine.jsonl", ("well then", language))).metrics == ("wer",)


def test_a_language_that_the_script_belies_is_refused(tmp_path: Path) -> None:
    for language in ("jp", "en", "ko"):
        with pytest.raises(ValueError, match=f"script without spaces .*, the language is said to be {language}"):
            find(write_texts(tmp_path / "mine.jsonl", ("今日は天気です", language)))
    assert find(write_texts(tmp_path / "mine.jsonl", ("今天", "en"), ("well", "en"), ("OK", "en"))).metrics == ("wer",)


def test_languages_that_are_measured_alike_make_one_benchmark(tmp_path: Path) -> None:
    benchmark = find(write_texts(tmp_path / "mine.jsonl", ("oui", "fr"), ("ja", "de"), ("si", None)))
    assert (benchmark.language, benchmark.metrics) == ("mul", ("wer_multilingual",))
    assert find(write_texts(tmp_path / "mine.jsonl", *[("今天", None)] * 10, ("OK", None))).headline == "cer"


@pytest.mark.parametrize(
    ("name", "tasks", "message"),
    [
        ("mine.jsonl", ["fluent_speech_audio"], "no metric yet for task 'fluent_speech_audio'; there are for asr, "),
        ("mine.jsonl", ["QA", "asr"], "tasks QA, asr are not measured alike"),
        ("asterisk.jsonl", ["asr"], "'asterisk' is a benchmark of the table; ask for it by its name"),
    ],
)
def test_a_manifest_that_cannot_be_one_benchmark_is_refused(
    tmp_path: Path, name: str, tasks: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        find(write(tmp_path / name, tasks))


def test_a_transcript_is_scored_with_interval_count_and_signature() -> None:
    outputs = predict(("The colour", "the color"), ("red", "dog"), *[("a b", "a b")] * 8)
    scores = score(BENCHMARKS["asterisk"], outputs)
    assert [item.metric for item in scores] == ["wer", "sub", "del", "ins"]
    wer = scores[0]
    assert wer == Score("asterisk", "wer", pytest.approx(1 / 19), wer.low, wer.high, 10, wer.signature)
    assert 0 <= wer.low <= wer.value <= wer.high <= 1
    assert wer.low < wer.high
    assert wer.signature == "wer|norm:whisper_en@2|agg:corpus|v1"


def test_scores_depend_neither_on_order_nor_on_repetitions() -> None:
    rows = (("red", "red"), ("green", "blue"), ("a blue one", "blue"), ("no", "red"))
    outputs = predict(*rows, choices=["red", "blue", "green"])
    for name in BENCHMARKS:
        benchmark = without_tools(BENCHMARKS[installed(name)])
        expected = score(benchmark, outputs, samples=10)
        assert score(benchmark, iter([*reversed(outputs), outputs[1]]), samples=10) == expected
        assert expected[0].metric == benchmark.headline


def test_slots_are_scored_by_slu_f1_where_all_of_a_command_are_asked_for() -> None:
    outputs = predict(("Time: nine am; date: today", "date: today; time: nine am"), ("None.", "none"))
    scores = {item.metric: item.value for item in score(find("slurp_slots"), outputs)}
    assert scores["slu_f1"] == scores["span_f1"] == 1
    invented = score(find("slurp_slots"), [*outputs, *predict(("date: now", "none"))[:1]][1:])
    assert invented[0].value == 0


def test_pairs_of_clips_are_judged_by_the_first_answer() -> None:
    outputs = predict(("Yes, there is no other speaker.", "yes"), ("No.", "yes"), choices=["yes", "no"])
    assert score(find("voxceleb1"), outputs)[0].value == 0.5


def test_emotions_have_balanced_accuracy_beside_the_plain_one_and_a_constant_to_beat() -> None:
    outputs = predict(("sad", "sad"), ("sad", "sad"), ("sad", "happy"), ("glad", "angry"))
    scores = {item.metric: item.value for item in score(find("iemocap"), outputs)}
    assert scores["weighted_accuracy"] == 0.5
    assert scores["unweighted_accuracy"] == pytest.approx(1 / 3)
    assert baseline(find("iemocap"), outputs) == 0.5


def test_captions_are_measured_without_the_tools_that_are_not_here_and_a_warning_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for tool in ("METEOR", "SPICE", "SENTENCE_ENCODER", "FLUENCY"):
        monkeypatch.delenv(f"SALMONN_LAB_{tool}", raising=False)
    with pytest.warns(UserWarning, match="audiocaps is measured without meteor: METEOR is scored by its authors'"):
        metrics = measure(find("audiocaps"), predict(("a dog", "a dog barks"), ("rain", "rain")))
    assert list(metrics) == ["caption_overlap", "cider_d", "caption_bleu"]


def test_a_score_that_two_metrics_give_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(type(METRICS["cider_d"]({"a": ["x"]}))):  # type: ignore[misc]
        keys = ("spider", "cider_d")

    monkeypatch.setitem(METRICS, "spider", Wider)
    benchmark = replace(BENCHMARKS["audiocaps"], where_present=("spider",))
    assert list(metrics_for(benchmark, {"a": ["x"]})) == ["caption_overlap", "caption_bleu", "spider"]


def test_what_a_score_needs_is_missed_before_a_model_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(references: object) -> None:
        raise ImportError("BLEU of Japanese needs MeCab")

    monkeypatch.setitem(METRICS, "bleu_ja", refuse)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="covost2_en_ja: BLEU of Japanese needs MeCab"):
        find("covost2_en_ja")


def test_answers_are_chosen_among_all_references_of_the_test_set() -> None:
    outputs = predict(("it is red", "red"), ("a blue thing", "green"), ("purple", "blue"), ("green", "green"))
    scores = {item.metric: item.value for item in score(BENCHMARKS["quickstart_sounds"], outputs)}
    assert scores == {"accuracy": 0.5, "following_rate": 0.75, "exact_match": 0.25}


def test_the_choices_of_an_item_go_before_the_references_of_others() -> None:
    outputs = predict(("red", "blue"), ("the blue one, not red", "blue"), choices=["blue", "black"])
    scores = {item.metric: item.value for item in score(BENCHMARKS["quickstart_questions"], outputs)}
    assert scores["accuracy"] == 0.5
    assert scores["following_rate"] == 0.5


def test_no_predictions_give_nan_scores() -> None:
    with pytest.warns(UserWarning, match="there are no items"):
        scores = score(BENCHMARKS["asterisk"], [])
    assert all(math.isnan(value) for item in scores for value in (item.value, item.low, item.high))
    assert {item.count for item in scores} == {0}


def test_contradicting_predictions_of_one_item_are_refused() -> None:
    outputs = predict(("red", "red"))
    with pytest.raises(ValueError, match="item '0' was measured twice"):
        score(BENCHMARKS["asterisk"], [*outputs, replace(outputs[0], text="blue")])


def test_each_item_has_the_headline_score_that_it_would_have_alone() -> None:
    outputs = predict(("a b c d", "a b"), ("dog", "dog"), ("", "one dog"))
    assert score_items(BENCHMARKS["asterisk"], outputs) == {"0": 1.0, "1": 0.0, "2": 1.0}
    for output in outputs:
        alone = score(BENCHMARKS["quickstart_captions"], [output])[0].value
        assert score_items(BENCHMARKS["quickstart_captions"], outputs)[output.id] == alone


@pytest.mark.parametrize(
    ("name", "expected"),
    [("quickstart_sounds", 2 / 3), ("quickstart_questions", 2 / 3), ("asterisk", None), ("quickstart_captions", 2 / 3)],
)
def test_the_baseline_is_the_best_constant_answer_where_there_is_one(name: str, expected: float | None) -> None:
    outputs = predict(("red", "Red."), ("x", "red"), ("y", "blue"))
    assert baseline(BENCHMARKS[name], [*outputs, outputs[2]]) == expected
    assert baseline(BENCHMARKS[name], []) is None


def test_a_benchmark_does_not_change() -> None:
    with pytest.raises(AttributeError):
        find("asterisk").name = "other"  # type: ignore[misc]
    assert Benchmark("a", "asr", "m", ("wer",), "wer", higher_is_better=False).published is None


def test_what_a_model_noted_of_references_and_choices_is_measured_too() -> None:
    def noted(id: str, right: int) -> Prediction:
        likelihood = {"reference": [-2.0, 2], "choices": [[-1.0, 1], [-3.0 + 2.5 * right, 2]]}
        meta = {"choices": ["yes", "no"], LIKELIHOOD: likelihood}
        return Prediction(id, "quickstart_questions", "", "yes", ("no",), meta)

    row = find("quickstart_questions")
    scores = {one.metric: one for one in score(row, [noted("a", 1), noted("b", 0), noted("c", 0)])}
    assert scores["perplexity"].value == pytest.approx(math.e)
    assert scores["accuracy_likelihood"].value == pytest.approx(1 / 3)
    assert scores["accuracy"].value == 0
    without = replace(noted("d", 1), meta={"choices": ["yes", "no"]})
    assert "perplexity" not in measure(row, [noted("a", 1), without])


def test_trials_of_speakers_have_an_equal_error_rate_where_likelihoods_were_noted() -> None:
    def trial(id: str, answer: str, yes: float) -> Prediction:
        likelihood = {"reference": [-1.0, 1], "choices": [[yes, 1], [-1.0, 1]]}
        meta = {"choices": ["yes", "no"], LIKELIHOOD: likelihood}
        return Prediction(id, "voxceleb1", "", "yes", (answer,), meta)

    scores = {"yes": (-0.1, -0.9), "no": (-0.5, -2.0)}
    trials = [
        trial(f"{answer}{yes}{number}", answer, yes)
        for answer, values in scores.items()
        for yes in values
        for number in range(5)
    ]
    (rate,) = [one for one in score(find("voxceleb1"), trials) if one.metric == "eer"]
    assert rate.value == 0.5  # half of the pairs of one speaker lie below half of the others
    assert rate.low <= 0.5 <= rate.high
    assert "eer" not in measure(find("voxceleb1"), [replace(one, meta={"choices": ["yes", "no"]}) for one in trials])


def question(number: int, right: int, choices: list[str], text: str = "") -> Prediction:
    return Prediction(str(number), "b", "", text, (choices[right],), {"choices": choices})


def test_the_baseline_of_multiple_choice_is_the_best_place_of_the_answer() -> None:
    # Of every ten items the first choice is right in four, and no text is right in more than one.
    places = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    outputs = [question(n, places[n % 10], [f"sound {n}-{k}" for k in range(4)]) for n in range(40)]
    for name in ("mmau", "mmar", "airbench_foundation", "quickstart_questions", "clotho_aqa", "iemocap"):
        assert best_answer(find(name), outputs) == ("always choice 1", 0.4)
        assert baseline(find(name), [*outputs, outputs[0]]) == 0.4
    first = [replace(output, text=output.meta["choices"][0]) for output in outputs]
    assert score(find("mmau"), first)[0].value == 0.4


@pytest.mark.parametrize(
    ("right", "policy"),
    [(3, "always the last choice"), (1, "always the longest choice"), (2, "always the shortest choice")],
)
def test_the_baseline_knows_the_last_the_longest_and_the_shortest_choice(right: int, policy: str) -> None:
    outputs = []
    for number in range(6):
        choices = [f"dog {number}", f"a long bark {number}", f"c{number}", f"cat {number}"]
        answer = choices[right]
        # The answer is the last one, or at another place in every item.
        choices = choices[number % 3 :] if right == 3 else choices[number % 4 :] + choices[: number % 4]
        outputs.append(question(number, choices.index(answer), choices))
    assert best_answer(find("mmau"), outputs) == (policy, 1.0)


def test_the_baseline_of_some_items_with_choices_gives_the_others_a_constant() -> None:
    outputs = [question(n, 0, [f"x{n}", f"y{n}"]) for n in range(3)]
    outputs += [
        Prediction(f"open {n}", "b", "", "", (answer,), {}) for n, answer in enumerate(["rain", "rain", "hail"])
    ]
    assert baseline(find("clotho_aqa"), outputs) == pytest.approx(5 / 6)


def test_free_answers_and_captions_have_the_best_of_the_commonest_texts_as_baseline() -> None:
    outputs = predict(("x", "a dog barks"), ("x", "a dog barks"), ("x", "a dog runs"), ("x", "rain"))
    assert best_answer(find("quickstart_captions"), outputs) == ("always 'a dog barks'", pytest.approx((2 + 2 / 3) / 4))
    assert best_answer(find("slurp"), outputs) == ("always 'a dog barks'", 0.5)
    assert best_answer(find("librispeech_test_clean"), outputs) is None


@pytest.mark.parametrize("name", ["choices_keys", "choices_decibels"])
@pytest.mark.parametrize(
    "metric", ["accuracy", "multiple_choice", "multiple_choice_text", "multiple_choice_first", "item_accuracy"]
)
def test_choices_that_differ_in_a_sign_are_different_answers(name: str, metric: str) -> None:
    lines = (Path(__file__).parent / f"golden/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    benchmark = replace(BENCHMARKS["quickstart_questions"], metrics=(metric,))
    twins = [
        next(c for c in r["meta"]["choices"] if c != r["target"] and c.lstrip("-")[0] == r["target"].lstrip("-")[0])
        for r in records
    ]
    for texts, right in (
        ([r["target"] for r in records], 1.0),
        ([f"It is {r['target']}." for r in records], 1.0),
        (twins, 0.0),
    ):
        outputs = [
            Prediction(r["id"], "b", "", text, (r["target"],), r["meta"])
            for r, text in zip(records, texts, strict=True)
        ]
        assert score(benchmark, outputs)[0].value == right


def test_choices_that_differ_in_case_are_different_answers() -> None:
    benchmark = BENCHMARKS["quickstart_questions"]
    outputs = predict(("us", "US"), ("US", "US"), choices=["US", "us"])
    assert [(item.metric, item.value) for item in score(benchmark, outputs)] == [
        ("accuracy", 0.5),
        ("following_rate", 1),
        ("exact_match", 0.5),
    ]


def test_a_report_on_choices_that_an_official_rule_lets_repeat_has_that_rule_alone() -> None:
    outputs = [question(n, n % 2, ["two", "one", "two"], "two") for n in range(4)]
    result = analyze(find("mmau"), outputs, {}, {})
    assert result.scores[0].value == 0.5
    assert "multiple_choice_text" not in [other.metric for other in result.sensitivity]


def test_bbh_reads_letters_and_yes_or_no_and_gives_nothing_for_nothing() -> None:
    rows = [("", "(A)"), ("", "yes"), ("A", "(A)"), ("The answer is (B).", "(B)"), ("yes and no", "yes"), ("No.", "No")]
    rows += [("A dog, perhaps", "(A)"), ("(B)", "(A)")]
    benchmark = find("voicebench_bbh")
    outputs = predict(*rows)
    scores = {item.metric: item.value for item in score(benchmark, outputs)}
    assert scores["accuracy"] == 3 / 8
    assert scores["following_rate"] == 4 / 8
    assert list(score_items(benchmark, outputs).values()) == [0, 0, 1, 1, 0, 1, 0, 0]
    empty = [replace(output, text="") for output in outputs]
    assert [item.value for item in score(benchmark, empty)] == [0, 0, 0]


def test_an_answer_of_clotho_aqa_is_judged_by_its_own_item() -> None:
    benchmark = find("clotho_aqa")
    raining = Prediction("a", "b", "", "Yes, it rains.", ("yes",), {"choices": ["yes", "no"]})
    falling = [Prediction("b", "b", "", text, ("rain", "water"), {}) for text in ("Rain.", "rain and hail", "")]
    others = [
        Prediction(f"c{n}", "b", "", "", (text,), {}) for n, text in enumerate(("hail", "rain and hail", "no rain"))
    ]
    for output, right in zip((raining, *falling), (1, 1, 0, 0), strict=True):
        for company in ([output], [output, *others]):
            assert score_items(benchmark, company)[output.id] == right
    assert "else_equal" in score(benchmark, falling[:1])[0].signature


def test_spellings_of_one_label_are_one_but_signs_are_not() -> None:
    benchmark = BENCHMARKS["quickstart_sounds"]
    outputs = predict(("dog", "Dog."), ("a Dog!", "dog"), ("C", "C"), ("C#", "C"), ("C", "C#"), ("c sharp", "C#"))
    assert list(score_items(benchmark, outputs).values()) == [1, 1, 1, 0, 0, 1]


def test_an_emotion_is_read_among_the_choices_of_its_item() -> None:
    outputs = [
        Prediction("0", "b", "", "sad, not angry", ("sad",), {"choices": ["sad", "happy"]}),
        Prediction("1", "b", "", "neutral", ("happy",), {"choices": ["happy", "neutral"]}),
        Prediction("2", "b", "", "angry", ("angry",), {}),
        Prediction("3", "b", "", "sad, not angry", ("sad",), {}),
    ]
    scores = {item.metric: item.value for item in score(find("iemocap"), outputs)}
    assert scores["weighted_accuracy"] == 0.5
    assert scores["following_rate"] == 0.75  # "neutral" is no reference, but a choice


def test_air_bench_is_asked_to_answer_by_letter_as_its_script_does() -> None:
    benchmark = find("airbench_foundation")
    assert benchmark.prompt is not None
    example = Example("a", (), "audio_QA", "no", question="Is it a man?\nA. yes\nB. no")
    assert PromptPool({"audio_QA": [benchmark.prompt]}).ask(example, "{}") == (
        "<Speech><SpeechHere></Speech> Choose the most suitable answer from options A, B, C, and D to respond the "
        "question in next line, you may only choose A or B or C or D.\nIs it a man?\nA. yes\nB. no"
    )
    assert benchmark.published is None
    assert benchmark.count == 21_426


def test_punctuation_is_no_error_of_gigaspeech() -> None:
    outputs = predict(("Yes, um, it's e-commerce; isn\u2019t it?", "YES IT'S E COMMERCE ISN'T IT"))
    assert score(find("gigaspeech"), outputs)[0].value == 0
    outputs = predict(("Yes, <COMMA> sir.", "YES MADAM"))
    assert score(find("gigaspeech"), outputs)[0].value == 0.5


def test_no_two_metrics_give_different_captions_scores_under_one_key() -> None:
    names = ("caption_overlap", "rouge_l_coco_ptb", "rouge_l_google", "token_f1", "caption_bleu", "cider_d")
    keys = [key for name in names for key in METRICS[name]({"a": ["x"]}).keys]
    assert len(set(keys)) == len(keys)


def test_trials_have_an_equal_error_rate_however_yes_and_no_are_spelled() -> None:
    trials = [
        Prediction(
            str(n), "voxceleb1", "", "Yes", (("Yes", "No")[n % 2],), {"choices": ["Yes", "No"], LIKELIHOOD: noted}
        )
        for n, noted in enumerate(
            [{"reference": [-1.0, 1], "choices": [[-1.0 - n % 2, 1], [-1.5, 1]]} for n in range(6)]
        )
    ]
    assert [one.value for one in score(find("voxceleb1"), trials) if one.metric == "eer"] == [0]


def test_the_best_constant_answer_is_named_as_it_is_written() -> None:
    benchmark = BENCHMARKS["quickstart_sounds"]
    best = best_answer(benchmark, predict(("x", "R&B"), ("x", "R&B"), ("x", "rock")))
    assert best is not None
    assert (best.policy, best.value) == ("always 'R&B'", pytest.approx(2 / 3))
