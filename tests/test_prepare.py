"""The command that makes manifests lists the corpora, reads one, and says what is missing."""

import sys
from pathlib import Path

import pytest
import soundfile
from samples import waveform

from salmonn_lab.console import run_command
from salmonn_lab.data.corpora.readers import CORPORA
from salmonn_lab.data.manifest import read_manifest
from salmonn_lab.prepare import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare", *map(str, arguments)])
    main()


def test_every_corpus_is_listed_with_its_licence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch)
    listed = " ".join(capsys.readouterr().err.split())
    for name, corpus in CORPORA.items():
        assert name in listed
        assert " ".join(corpus.licence.split()) in listed


def test_a_corpus_becomes_a_manifest_and_its_missing_items_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chapter = tmp_path / "LibriSpeech" / "test-clean" / "61" / "70968"
    chapter.mkdir(parents=True)
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").write_text("61 | M | test-clean | 8.08 | A Reader\n")
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN A CONFUSED COMPLAINT\n")
    soundfile.write(chapter / "61-70968-0000.flac", waveform(1.0, 0), 16_000)
    places = ("--root", tmp_path / "LibriSpeech", "--out", tmp_path / "data")
    run(monkeypatch, "librispeech", *places, "--split", "test-clean")
    examples = read_manifest(tmp_path / "data" / "librispeech_test-clean.jsonl")
    assert [example.target for example in examples] == ["he began a confused complaint"]
    assert "1 examples of 2,620 published" in capsys.readouterr().err


def test_a_corpus_that_is_not_there_ends_the_command_with_what_is_expected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare", "iemocap", "--root", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "IEMOCAP_full_release" in error
    assert "How to get it" in error
