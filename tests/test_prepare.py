"""The command that makes manifests lists the corpora, reads one, and says what is missing."""

import io
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from samples import waveform

from salmonn_lab.benchmarks import find
from salmonn_lab.console import run_command
from salmonn_lab.data.audio import read_audio
from salmonn_lab.data.corpora import hub
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


def test_a_dataset_of_columns_becomes_a_manifest_that_is_a_benchmark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    content = io.BytesIO()
    soundfile.write(content, waveform(0.5, 0), 16_000, format="FLAC")
    rows = [
        {"said": "eins zwei", "wave": {"bytes": content.getvalue(), "path": None}},
        {"said": "drei", "wave": {"bytes": None, "path": None}},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    description = tmp_path / "numbers.yaml"
    description.write_text("source: a.parquet\ntask: asr_de\ncolumns: {audio: wave, target: said}\n")
    run(monkeypatch, "hub", description, "--out", tmp_path / "data")
    assert "1 examples; 1 left out: no recording" in " ".join(capsys.readouterr().err.split())
    manifest = tmp_path / "data" / "numbers.jsonl"
    (example,) = read_manifest(manifest)
    assert len(read_audio(example.audio)) == 8_000
    benchmark = find(manifest)
    assert (benchmark.name, benchmark.metrics) == ("numbers", ("wer_multilingual",))


def test_the_help_of_hub_shows_a_description_that_can_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "hub", "--help")
    shown = capsys.readouterr().out
    lines = [line[2:] for line in shown.splitlines() if line.startswith("  ") and ":" in line and "-" not in line[:5]]
    (tmp_path / "shown.yaml").write_text("\n".join(lines[: lines.index(next(x for x in lines if "meta" in x)) + 1]))
    described = hub.read_source(tmp_path / "shown.yaml")
    assert described.source == "PolyAI/minds14"
    assert described.columns.meta == ("lang_id",)
