"""The readers of parquet files made like datasets of the hub, VoiceBench among them, and of OpenAQA."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from trees import record, write

from salmonn_lab.data.corpora import hub, openaqa, voicebench
from salmonn_lab.data.corpora.choices import add_question
from salmonn_lab.data.corpora.hub import Columns
from salmonn_lab.data.corpora.reading import Reading


def encoded(suffix: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(1_600), 16_000, format=suffix)
    return buffer.getvalue()


def parquet(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def row(text: str, content: bytes | None, path: str | None = None) -> dict[str, Any]:
    return {"text": text, "audio": {"bytes": content, "path": path}}


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_audio_inside_is_written_as_it_is_with_the_suffix_of_its_format(tmp_path: Path, suffix: str) -> None:
    content = encoded(suffix)
    file = parquet(tmp_path / "a.parquet", [row("one", content, "misnamed.xyz")])
    (example,) = hub.read(file, "asr", Columns("text"), tmp_path / "audio")
    path = Path(example.audio[0].path)
    assert path == tmp_path / f"audio/000000.{suffix}"
    assert path.read_bytes() == content
    assert soundfile.info(path).samplerate == 16_000
    assert (example.id, example.task, example.target, example.references) == ("000000", "asr", "one", ("one",))


def test_a_path_is_used_where_it_is_and_rows_without_audio_or_target_are_left_out(tmp_path: Path) -> None:
    rows = [row("one", None, "clips/1.wav"), row("two", None, "clips/2.wav"), row("", encoded("wav")), row("x", None)]
    record(tmp_path / "clips", ["1.wav"])
    parquet(tmp_path / "a.parquet", rows)
    reading = hub.read(tmp_path, "asr", Columns("text"), tmp_path / "audio")
    assert [example.audio[0].path for example in reading] == [str(tmp_path / "clips/1.wav")]
    assert reading.left_out == {"no recording": ["000001", "000003"], "an empty target": ["000002"]}


def test_columns_are_mapped_and_class_labels_are_their_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {
            "name": datasets.Value("string"),
            "wave": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "label": datasets.ClassLabel(names=["dog", "cat"]),
            "others": datasets.List(datasets.Value("string")),
            "choices": datasets.List(datasets.Value("string")),
        }
    )
    values = {"name": ["n"], "wave": [{"bytes": encoded("wav"), "path": None}], "label": [1]}
    lists = {"others": [["cat", "kitten"]], "choices": [["dog", "cat"]]}
    datasets.Dataset.from_dict(values | lists, features=features).to_parquet(tmp_path / "a.parquet")
    columns = Columns("label", audio="wave", id="name", question="name", references="others", meta=("choices",))
    (example,) = hub.read(tmp_path, "sound_label", columns, tmp_path / "audio")
    assert (example.id, example.target, example.question) == ("n", "cat", "n")
    assert example.references == ("cat", "kitten")
    assert example.meta == {"choices": ["dog", "cat"]}


def test_columns_that_are_not_there_are_named_with_those_that_are(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", [row("one", encoded("wav"))])
    with pytest.raises(ValueError, match=r"a.parquet: no column 'transcript'; there are text, audio"):
        hub.read(file, "asr", Columns("transcript"), tmp_path)
    with pytest.raises(ValueError, match=r"a.parquet: no column 'sound'; there are text, audio"):
        hub.read(file, "asr", Columns("text", audio="sound"), tmp_path)


def test_what_is_no_text_or_no_audio_is_named_by_its_row(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", [{"text": 7, "audio": {"bytes": encoded("wav"), "path": None}}])
    with pytest.raises(ValueError, match=r"a.parquet: row 0: column 'text' must hold a text, got 7"):
        hub.read(file, "asr", Columns("text"), tmp_path)
    file = parquet(tmp_path / "b.parquet", [row("one", b"what is this")])
    with pytest.raises(ValueError, match=r"b.parquet: row 0: the audio begins with b'what'"):
        hub.read(file, "asr", Columns("text"), tmp_path)


def test_a_dataset_of_the_hub_is_asked_for_by_config_split_and_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def load(*names: str, **options: str) -> datasets.Dataset:
        asked.append((names, options))
        return datasets.Dataset.from_list([row("one", encoded("flac"))])

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    columns = Columns("text")
    (example,) = hub.read("someone/speech", "asr", columns, tmp_path / "a", config="en", split="dev", revision="4f2a")
    assert asked == [(("someone/speech", "en"), {"split": "dev", "revision": "4f2a"})]
    assert example.audio[0].path == str(tmp_path / "a/000000.flac")


def spoken(prompt: str, reference: str | None) -> dict[str, Any]:
    return {"prompt": prompt, "audio": {"bytes": encoded("wav"), "path": None}, "reference": reference}


def test_spoken_options_are_answered_by_letter(tmp_path: Path) -> None:
    parquet(tmp_path / "mmsu/law-00000-of-00001.parquet", [spoken("Which? A. x B. y", "B"), spoken("What?", None)])
    parquet(tmp_path / "mmsu/history-00000-of-00001.parquet", [spoken("When? A. x B. y", "A")])
    reading = voicebench.read(tmp_path, "mmsu", tmp_path / "audio")
    when, which = reading
    assert (when.id, which.id) == ("history-00000-of-00001/0", "law-00000-of-00001/0")
    assert (which.task, which.target, which.references) == ("spoken_QA", "B", ("B",))
    assert which.meta == {
        "category": "law",
        "transcript": "Which? A. x B. y",
        "choices": ["A", "B", "C", "D"],
        "answer_letter": "B",
    }
    assert Path(which.audio[0].path) == tmp_path / "audio/law-00000-of-00001/000000.wav"
    assert reading.left_out == {"no reference": ["law-00000-of-00001/1"]}


def test_spoken_questions_keep_their_region(tmp_path: Path) -> None:
    parquet(tmp_path / "sd-qa/ind_n-00000-of-00001.parquet", [spoken("who wrote it", "Tagore")])
    (example,) = voicebench.read(tmp_path, "sd-qa", tmp_path / "audio")
    assert (example.target, example.meta) == ("Tagore", {"category": "ind_n", "transcript": "who wrote it"})


def test_the_id_of_a_spoken_question_is_kept_and_names_its_subset(tmp_path: Path) -> None:
    rows = [spoken("Which?", "(A)") | {"id": "hyperbaton_3"}, spoken("Is it?", "yes") | {"id": "web_of_lies_0"}]
    parquet(tmp_path / "bbh/test-00000-of-00001.parquet", rows)
    order, lies = voicebench.read(tmp_path, "bbh", tmp_path / "audio")
    assert order.meta == {"category": "hyperbaton", "transcript": "Which?", "id": "hyperbaton_3"}
    assert (lies.meta["category"], lies.references) == ("web_of_lies", ("yes",))


def test_choices_that_differ_in_case_are_two(tmp_path: Path) -> None:
    reading = Reading()
    for id, answer in enumerate(("us", "US", "Us", "Them")):
        add_question(reading, str(id), tmp_path / "a.wav", "Who?", ["US", "us", "them", "us"], answer, {})
    assert [(example.target, example.meta["answer_letter"]) for example in reading] == [
        ("us", "B"),
        ("US", "A"),
        ("them", "C"),
    ]
    assert reading[0].meta["choices"] == ["US", "us", "them"]
    assert reading.left_out == {"several choices may be the answer": ["2"]}


def test_configurations_that_need_a_judge_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be one of openbookqa, mmsu, sd-qa, bbh, got 'alpacaeval'"):
        voicebench.read(tmp_path, "alpacaeval", tmp_path)


def test_openaqa_finds_its_clips_under_other_roots(tmp_path: Path) -> None:
    item = {"instruction": "What is heard?", "input": "", "dataset": "audioset", "task": "open-ended question"}
    items = [
        item | {"audio_id": "/data/sls/audioset/-Abc.flac", "output": 'Rain, "hard".'},
        item | {"audio_id": "/data/sls/audioset/gone.flac", "output": "Wind."},
        item | {"audio_id": "/data/sls/audioset/-Abc.flac", "output": " "},
        item | {"audio_id": "fsd50k/1.wav", "output": "A dog.", "dataset": "fsd50k"},
    ]
    write(tmp_path / "open_ended/as.json", json.dumps(items))
    record(tmp_path, ["audio/audioset/-Abc.flac", "fsd50k/1.wav"])
    reading = openaqa.read(tmp_path)
    rain, dog = reading
    assert (rain.id, rain.task, rain.question, rain.target) == (
        "open_ended/as/0",
        "audio_QA",
        "What is heard?",
        'Rain, "hard".',
    )
    assert rain.meta == {"category": "open-ended question", "dataset": "audioset"}
    assert (dog.id, dog.audio[0].path) == ("open_ended/as/3", str(tmp_path / "fsd50k/1.wav"))
    assert reading.left_out == {"no recording": ["open_ended/as/1"], "an empty answer": ["open_ended/as/2"]}


def optioned(answer: Any, **more: Any) -> dict[str, Any]:
    options = ["Red", "Green", "Blue"]
    return {"text": answer, "options": options, "q": "Which?", "audio": {"bytes": encoded("wav"), "path": None}} | more


@pytest.mark.parametrize("answer", ["Green", "green", "B", "b", "(B)", "B."])
def test_an_answer_is_a_choice_or_its_letter(tmp_path: Path, answer: str) -> None:
    file = parquet(tmp_path / "a.parquet", [optioned(answer, level="hard")])
    columns = Columns("text", question="q", choices="options", meta=("level",))
    (example,) = hub.read(file, "spoken_QA", columns, tmp_path / "audio")
    assert (example.task, example.target, example.references) == ("spoken_QA", "Green", ("Green",))
    assert example.question == "Which?\n(A) Red\n(B) Green\n(C) Blue"
    assert example.meta == {"level": "hard", "choices": ["Red", "Green", "Blue"], "answer_letter": "B"}


def test_an_answer_may_be_the_number_of_a_choice_and_one_that_is_no_choice_is_left_out(tmp_path: Path) -> None:
    columns = Columns("text", question="q", choices="options")
    file = parquet(tmp_path / "a.parquet", [optioned(0), optioned(3)])
    reading = hub.read(file, "audio_QA", columns, tmp_path / "audio")
    assert [example.target for example in reading] == ["Red"]
    assert reading.left_out == {"none of the choices is the answer": ["000001"]}


FAULTS = Path(__file__).parents[1] / "golden" / "hub"


def test_a_label_of_minus_one_is_unlabelled_and_not_the_last_class(tmp_path: Path) -> None:
    reading = hub.read(FAULTS / "unlabelled.parquet", "sound_label", Columns("label"), tmp_path)
    names = datasets.Features.from_arrow_schema(pyarrow.parquet.read_schema(FAULTS / "unlabelled.parquet"))[
        "label"
    ].names
    assert [example.target for example in reading] == [names[0], names[1], names[2]]
    assert reading.left_out == {"no label": ["000002"]}


def labelled(path: Path, labels: list[Any], feature: Any) -> Path:
    features = {"text": feature, "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    audio = [{"bytes": encoded("wav"), "path": None} for _ in labels]
    dataset = datasets.Dataset.from_dict({"text": labels, "audio": audio}, features=datasets.Features(features))
    dataset.to_parquet(path)
    return path


def test_a_null_label_is_unlabelled_and_one_without_a_name_is_refused(tmp_path: Path) -> None:
    kinds = datasets.ClassLabel(names=["dog", "cat"])
    reading = hub.read(labelled(tmp_path / "a.parquet", [1, None], kinds), "sound_label", Columns("text"), tmp_path)
    assert [example.target for example in reading] == ["cat"]
    assert reading.left_out == {"no label": ["000001"]}
    # What a newer list of names may leave behind: the file's column of integers under another feature.
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    table = table.set_column(0, "text", pyarrow.array([1, 2])).replace_schema_metadata(table.schema.metadata)
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"row 1: column 'text' has the label 2, there are 2 names"):
        hub.read(tmp_path / "b.parquet", "sound_label", Columns("text"), tmp_path)


def test_lists_of_labels_are_lists_of_their_names(tmp_path: Path) -> None:
    kinds = datasets.List(datasets.ClassLabel(names=["dog", "cat", "bird"]))
    file = labelled(tmp_path / "a.parquet", [[2, 0, -1]], kinds)
    table = pyarrow.parquet.read_table(file)
    text = table.append_column("answer", pyarrow.array(["bird"]))
    pyarrow.parquet.write_table(text, file)
    (example,) = hub.read(file, "sound_label", Columns("answer", references="text"), tmp_path)
    assert example.references == ("bird", "dog")


def test_a_null_reference_is_dropped_so_that_an_empty_answer_is_not_perfect(tmp_path: Path) -> None:
    file = FAULTS / "null_reference.parquet"
    reading = hub.read(file, "asr", Columns("t", references="r"), tmp_path)
    assert [example.references for example in reading] == [("turn on the light",), ("and off",)]
    assert reading.mended == {"a reference without text": ["000000", "000001"]}
    rows = [{"r": [None, "  "], **row("one", encoded("wav"))}]
    (alone,) = hub.read(parquet(tmp_path / "a.parquet", rows), "asr", Columns("text", references="r"), tmp_path)
    assert alone.references == ("one",), "the target, where no reference is left"


def numbered(folder: Path, numbers: Sequence[int], options: Sequence[str] = ("3", "4", "5"), **more: Any) -> list[str]:
    rows = [optioned(answer, options=list(options)) for answer in numbers]
    columns = Columns("text", question="q", choices="options")
    reading = hub.read(parquet(folder / "n.parquet", rows), "audio_QA", columns, folder / "audio", **more)
    return [example.target for example in reading]


def test_integers_are_choices_where_only_that_fits_and_counts_where_only_that_does(tmp_path: Path) -> None:
    assert numbered(tmp_path, [3, 5, 4]) == ["3", "5", "4"]
    assert numbered(tmp_path, [0, 2, 1]) == ["3", "5", "4"]
    assert numbered(tmp_path, [1, 2], ("0", "1", "2")) == ["1", "2"]


def test_integers_that_may_be_choices_or_counts_are_refused_until_the_description_says(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 0: the answer 2 may be the choice '2', or the number of '3'"):
        numbered(tmp_path, [2, 1], ("1", "2", "3"))
    assert numbered(tmp_path, [0, 2, 1], ("1", "2", "3")) == ["1", "3", "2"], "0 is no choice"
    assert numbered(tmp_path, [1, 2], ("1", "2", "3"), answers="text") == ["1", "2"]
    assert numbered(tmp_path, [1, 2], ("1", "2", "3"), answers="number") == ["2", "3"]
    assert numbered(tmp_path, [1, 2], ("1", "2", "3"), answers="number_from_1") == ["1", "2"]


def test_integers_that_may_count_from_one_are_refused_until_the_description_says(tmp_path: Path) -> None:
    colours = ("Red", "Green", "Blue")
    with pytest.raises(
        ValueError, match=r"row 1: the answer is 3 of 3 choices and no row's is 0, so they may count from"
    ):
        numbered(tmp_path, [1, 3], colours)
    assert numbered(tmp_path, [1, 3], colours, answers="number_from_1") == ["Red", "Blue"]
    assert numbered(tmp_path, [1, 2], colours) == ["Green", "Blue"]


def test_a_letter_is_a_letter_where_the_description_says_so(tmp_path: Path) -> None:
    rows = [optioned("A", options=["B", "A"])]
    columns = Columns("text", question="q", choices="options")
    file = parquet(tmp_path / "a.parquet", rows)
    (text,) = hub.read(file, "audio_QA", columns, tmp_path / "audio")
    (letter,) = hub.read(file, "audio_QA", columns, tmp_path / "audio", answers="letter")
    assert (text.target, letter.target) == ("A", "B")


OPTIONED = Columns("text", question="q", choices="options")


def test_whole_numbers_in_floating_point_count_unless_they_are_choices(tmp_path: Path) -> None:
    """A column of integers with nulls is one of floating point once pandas wrote it."""
    rows = [optioned(1.0), optioned(0.0), optioned(float("nan")), optioned(None)]
    reading = hub.read(parquet(tmp_path / "a.parquet", rows), "QA", OPTIONED, tmp_path / "audio")
    assert [example.meta["answer_letter"] for example in reading] == ["B", "A"]
    assert reading.left_out == {"an empty target": ["000002", "000003"]}
    rows = [optioned(2.0, options=["1.0", "2.0"])]
    (example,) = hub.read(parquet(tmp_path / "b.parquet", rows), "QA", OPTIONED, tmp_path / "audio")
    assert example.target == "2.0"


def test_true_is_yes_where_the_choices_are_yes_and_no(tmp_path: Path) -> None:
    rows = [optioned(True, options=["No", "Yes"]), optioned(False, options=["No", "Yes"])]
    reading = hub.read(parquet(tmp_path / "a.parquet", rows), "QA", OPTIONED, tmp_path / "audio")
    assert [example.target for example in reading] == ["Yes", "No"]


def test_questions_without_choices_are_left_out_among_those_that_have_some(tmp_path: Path) -> None:
    rows = [optioned("cat", options=["cat", "dog"]), optioned("cat", options=[]), optioned("cat", options=None)]
    reading = hub.read(parquet(tmp_path / "a.parquet", rows), "QA", OPTIONED, tmp_path / "audio")
    assert len(reading) == 1
    assert reading.left_out == {"no choices": ["000001", "000002"]}


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        (["A. cat", "B. dog"], ["B", "dog", "B. dog", "(b) dog"]),
        (["(a) cat", "(b) dog"], ["B", "dog", "(b) dog"]),
        (["cat", "dog"], ["B. dog", "(B) Dog", "b: dog"]),
    ],
)
def test_letters_in_front_of_choices_are_no_part_of_them(
    tmp_path: Path, options: list[str], answers: list[str]
) -> None:
    file = parquet(tmp_path / "a.parquet", [optioned(answer, options=options) for answer in answers])
    for example in hub.read(file, "QA", OPTIONED, tmp_path / "audio"):
        assert (example.target, example.meta["choices"]) == ("dog", ["cat", "dog"])
        assert example.question == "Which?\n(A) cat\n(B) dog"


def test_a_letter_that_is_not_that_of_its_place_belongs_to_the_choice(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", [optioned("E. coli", options=["E. coli", "B. cereus"])])
    (example,) = hub.read(file, "QA", OPTIONED, tmp_path / "audio")
    assert (example.target, example.meta["choices"]) == ("E. coli", ["E. coli", "B. cereus"])
    reading = hub.read(parquet(tmp_path / "b.parquet", [optioned("B. cat")]), "QA", OPTIONED, tmp_path / "audio")
    assert reading.left_out == {"none of the choices is the answer": ["000000"]}


def test_meta_is_what_a_manifest_can_hold(tmp_path: Path) -> None:
    day = datetime.date(2020, 1, 2)
    odd = {"day": day, "snr": float("nan"), "who": {"age": 5, "born": day}}
    file = parquet(tmp_path / "a.parquet", [row("one", encoded("wav")) | odd])
    (example,) = hub.read(file, "asr", Columns("text", meta=("day", "snr", "who")), tmp_path / "audio")
    assert example.meta == {"day": "2020-01-02", "snr": None, "who": {"age": 5, "born": "2020-01-02"}}
    file = parquet(tmp_path / "b.parquet", [row("one", encoded("wav")) | {"raw": b"x"}])
    with pytest.raises(ValueError, match="row 0: column 'raw' holds b'x', which no manifest can"):
        hub.read(file, "asr", Columns("text", meta=("raw",)), tmp_path / "audio")


def test_a_null_id_is_refused(tmp_path: Path) -> None:
    file = parquet(
        tmp_path / "a.parquet", [row("one", encoded("wav")) | {"key": "k"}, row("two", None) | {"key": None}]
    )
    with pytest.raises(ValueError, match="row 1: column 'key' must hold an id, got None"):
        hub.read(file, "asr", Columns("text", id="key"), tmp_path / "audio")


def test_a_dataset_is_described_by_a_file(tmp_path: Path) -> None:
    parquet(tmp_path / "clips/a.parquet", [row("one", encoded("wav"))])
    write(tmp_path / "mine.yaml", "source: clips\ntask: asr\ncolumns: {target: text, meta: [text]}\n")
    described = hub.read_source(tmp_path / "mine.yaml")
    assert described == hub.Source(str(tmp_path / "clips"), "asr", Columns("text", meta=("text",)))
    write(tmp_path / "hub.yaml", "source: a/b\nconfig: en\nrevision: 4f2a\ntask: asr\ncolumns: {target: text}\n")
    remote = hub.read_source(tmp_path / "hub.yaml")
    assert (remote.source, remote.config, remote.split, remote.revision) == ("a/b", "en", "test", "4f2a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source: [", r"mine.yaml: while parsing"),
        ("- a", r"mine.yaml: must be a mapping, got \['a'\]"),
        ("source: a\ntask: asr", r"mine.yaml: no key 'columns'; there are source, task"),
        ("source: a\ntask: asr\ncolumns: {}", r"mine.yaml: columns: no key 'target'"),
        ("sorce: a\ntask: asr\ncolumns: {target: x}", r"mine.yaml: unknown key 'sorce'; did you mean 'source'\?"),
        ("source: a\ntask: asr\ncolumns: {target: x, sound: y}", r"columns: unknown key 'sound'; known keys: target,"),
        (
            "source: a\ntask: asr\nanswers: index\ncolumns: {target: x}",
            r"mine.yaml: key 'answers' must be one of text, letter, number, number_from_1, got 'index'",
        ),
        ("source: a\ntask: 3\ncolumns: {target: x}", r"mine.yaml: key 'task' must be a str, got 3"),
        ("source: a\ntask: asr\ncolumns: {target: x, meta: y}", r"columns: key 'meta' must be a list, got 'y'"),
        ("source: a\ntask: asr\ncolumns: text", r"mine.yaml: key 'columns' must be a dict, got 'text'"),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hub.read_source(write(tmp_path / "mine.yaml", text))
