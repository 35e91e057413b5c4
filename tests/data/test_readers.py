"""The table of corpora, and manifests made by its rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from trees import record, write

from salmonn_lab.batch import Prediction
from salmonn_lab.benchmarks import find, score
from salmonn_lab.data.corpora import readers
from salmonn_lab.data.manifest import read_manifest


def librispeech(root: Path) -> Path:
    write(root / "SPEAKERS.TXT", "61 | M | test-clean | 8.08 | Paul\n")
    write(root / "test-clean/61/7/61-7.trans.txt", "61-7-0000 HE SAID\n61-7-0001 NO\n")
    record(root / "test-clean/61/7", ["61-7-0000.flac"])
    return root


def test_a_manifest_is_written_for_each_split_that_is_there(tmp_path: Path) -> None:
    done = readers.prepare("librispeech", librispeech(tmp_path / "LibriSpeech"), tmp_path / "manifests")
    assert list(done) == ["test-clean"]
    prepared = done["test-clean"]
    assert prepared.manifest == tmp_path / "manifests/librispeech_test-clean.jsonl"
    assert (prepared.count, prepared.published) == (1, 2_620)
    assert prepared.left_out == {"no recording": ["61-7-0001"]}
    (example,) = read_manifest(prepared.manifest)
    assert (example.target, example.meta["gender"]) == ("he said", "male")


def test_a_shortfall_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    readers.prepare("librispeech", librispeech(tmp_path), tmp_path)
    assert "1 of 2620 examples; left out: no recording: 1 (61-7-0001)" in caplog.text


def test_what_is_mended_is_in_the_account(tmp_path: Path) -> None:
    asked = {"question": "Who?", "choices": ["He", "She", "He"], "answer": "She", "category": "['Reasoning']"}
    item = {"id": "q", "audio_id": "./test-mini-audios/q.wav", "task": "speech"}
    write(tmp_path / "mmau-test-mini.json", json.dumps([item | asked]))
    record(tmp_path / "test-mini-audios", ["q.wav"])
    mended = readers.prepare("mmau", tmp_path, tmp_path)["test-mini"].mended
    assert mended == {"a label that was a list": ["q"], "a choice listed twice or empty": ["q"]}


def test_a_missing_corpus_is_named_with_the_folder_and_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        readers.prepare("librispeech", tmp_path, tmp_path)
    message = str(error.value)
    assert message.startswith(f"librispeech in {tmp_path}: there is no SPEAKERS.TXT; no test-clean/*/*/*.trans.txt")
    assert "Expected: the folder LibriSpeech, which holds SPEAKERS.TXT" in message
    assert "How to get it: openslr.org/12" in message
    assert "licence: CC BY 4.0" in message
    assert "meant" not in message


def test_the_folder_above_the_right_one_is_recognised(tmp_path: Path) -> None:
    librispeech(tmp_path / "LibriSpeech")
    with pytest.raises(FileNotFoundError, match=f"It looks as if you meant {tmp_path / 'LibriSpeech'}"):
        readers.prepare("librispeech", tmp_path, tmp_path)


def test_a_split_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no test-other/\*/\*/\*.trans.txt. Expected"):
        readers.prepare("librispeech", librispeech(tmp_path), tmp_path, ["test-clean", "test-other"])
    assert not list(tmp_path.glob("*.jsonl"))


def test_tables_without_a_single_recording_are_missing_data(tmp_path: Path) -> None:
    write(tmp_path / "dataset/test.csv", "audiocap_id,youtube_id,start_time,caption\n1,a,1,x\n2,b,1,x\n")
    with pytest.raises(
        FileNotFoundError, match=r"split 'test' has no examples: left out: no recording: 2 \(a_1, b_1\)"
    ):
        readers.prepare("audiocaps", tmp_path, tmp_path)


def test_a_split_without_recordings_does_not_hide_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns = "ytid,start_s,end_s,aspect_list,caption,is_balanced_subset,is_audioset_eval\n"
    write(tmp_path / "musiccaps-public.csv", columns + "a,0,10,[],Guitars.,False,True\nb,0,10,[],Flutes.,False,False\n")
    record(tmp_path / "audio", ["a_0.wav"])
    assert list(readers.prepare("musiccaps", tmp_path, tmp_path)) == ["eval"]
    assert "split 'train' has no examples: left out: no recording: 1 (b_0)" in caplog.text
    with pytest.raises(FileNotFoundError, match="split 'train' has no examples"):
        readers.prepare("musiccaps", tmp_path, tmp_path, ["eval", "train"])


def test_a_file_that_a_reader_misses_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    table = "mixture_ID,source_1_path,source_2_path\n61-7-0000_61-7-0001,a,b\n"
    write(tmp_path / "Libri2Mix/wav16k/max/metadata/mixture_test_mix_both.csv", table)
    write(tmp_path / "LibriSpeech/SPEAKERS.TXT", "61 | M | test-clean | 8.08 | Paul\n")
    record(tmp_path / "Libri2Mix/wav16k/max/test/mix_both", ["61-7-0000_61-7-0001.wav"])
    with pytest.raises(
        FileNotFoundError, match=r"61-7.trans.txt: no such file. Expected: .* github.com/JorisCos/LibriMix"
    ):
        readers.prepare("libri2mix", tmp_path, tmp_path)
    librispeech(tmp_path / "LibriSpeech")
    assert list(readers.prepare("libri2mix", tmp_path, tmp_path)) == ["test_mix_both"]


def test_phones_need_a_lexicon_in_the_folder(tmp_path: Path) -> None:
    librispeech(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no librispeech-lexicon.txt; .* openslr.org/11"):
        readers.prepare("librispeech_phones", tmp_path, tmp_path)
    write(tmp_path / "librispeech-lexicon.txt", "HE HH IY1\nSAID S EH1 D\n")
    (example,) = read_manifest(readers.prepare("librispeech_phones", tmp_path, tmp_path)["test-clean"].manifest)
    assert example.target == "HH IY1 S EH1 D"


def test_a_right_answer_to_a_lettered_question_scores_full_marks(tmp_path: Path) -> None:
    asked = {"question": "Who?", "choices": ["He", "She", "he", "It"], "answer": "She", "task": "speech"}
    items = [{"id": f"q{n}", "audio_id": "./test-mini-audios/q.wav"} | asked for n in range(2)]
    write(tmp_path / "mmau-test-mini.json", json.dumps(items))
    record(tmp_path / "test-mini-audios", ["q.wav"])
    manifest = readers.prepare("mmau", tmp_path, tmp_path)["test-mini"].manifest
    texts = dict(zip(("q0", "q1"), ("(B) She", "It is him"), strict=True))
    predictions = [
        Prediction(example.id, "mmau", example.question, texts[example.id], example.references, example.meta)
        for example in read_manifest(manifest)
    ]
    headline = score(find(manifest), predictions, samples=10)[0]
    assert (headline.metric, headline.value, headline.count) == ("accuracy", 0.5, 2)


def test_one_of_two_forms_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "covost_v2.en_de.test.tsv", "path\tsentence\ttranslation\tclient_id\na.mp3\tOne\tEins\tx\n")
    record(tmp_path / "clips", ["a.mp3"])
    assert list(readers.prepare("covost2", tmp_path, tmp_path)) == ["en_de_test"]


def test_an_unknown_corpus_or_split_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no corpus 'librispech'; .* Did you mean 'librispeech'\?"):
        readers.prepare("librispech", tmp_path, tmp_path)
    with pytest.raises(ValueError, match="mmau has no split 'test'; it has test-mini"):
        readers.prepare("mmau", tmp_path, tmp_path, ["test"])


def test_splits_make_file_names(tmp_path: Path) -> None:
    names = [f"{name}_{split}" for name, corpus in readers.CORPORA.items() for split in corpus.splits]
    assert all(Path(name).name == name for name in names)
    assert len(names) == len(set(names))
