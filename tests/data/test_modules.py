"""Data configuration fails in the user's words, and the loaders hold what it says."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from transformers import PreTrainedTokenizerBase

from salmonn_lab.batch import Batch, Example, Segment
from salmonn_lab.data.audio import AudioError
from salmonn_lab.data.dataset import target_ids
from salmonn_lab.data.features import Clip
from salmonn_lab.data.manifest import read_manifest, write_manifest
from salmonn_lab.data.modules import (
    Benchmark,
    DataCheck,
    DataConfig,
    SourceConfig,
    SpeechDataModule,
    benchmark_clips,
    check_data,
    clip_frames,
    trained_clips,
)


def source(path: Path, **options: Any) -> SourceConfig:
    return SourceConfig(str(path), **options)


def test_the_config_goes_through_omegaconf() -> None:
    schema = OmegaConf.structured(DataConfig)
    given = OmegaConf.create(
        {"sources": [{"manifest": "a.jsonl", "weight": None, "tasks": ["asr"]}], "channels": "mean"}
    )
    config = OmegaConf.to_object(OmegaConf.merge(schema, given))
    assert config == DataConfig(sources=[SourceConfig("a.jsonl", None, ["asr"])], channels="mean")
    for wrong, message in [
        ({"channels": "left"}, "channels"),
        ({"sources": [{"manifest": "a", "wieght": 1}]}, "Key 'wieght' not in 'SourceConfig'"),
        ({"batch_budget": "many"}, "batch_budget"),
    ]:
        with pytest.raises(OmegaConfBaseException, match=message):
            OmegaConf.merge(schema, OmegaConf.create(wrong))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_budget": 0}, r"data\.batch_budget must be at least 1, got 0"),
        ({"max_batch_size": 0}, r"data\.max_batch_size"),
        ({"epoch_size": 0}, r"data\.epoch_size"),
        ({"frame_cost": 0.0}, r"data\.frame_cost must be above 0, got 0\.0"),
        ({"max_target_tokens": 1}, r"data\.max_target_tokens"),
        ({"num_workers": -1}, r"data\.num_workers"),
        ({"min_seconds": 31.0}, r"data\.min_seconds and data\.max_seconds"),
        ({"sources": [SourceConfig("a"), SourceConfig("b", -1.0)]}, r"data\.sources\[1\]\.weight"),
        (
            {"sources": [SourceConfig("a"), SourceConfig("b", None)]},
            r"data\.sources: give every source a weight, or null",
        ),
        ({"sources": [SourceConfig("a", 0.0)]}, r"data\.sources: every weight is 0"),
        ({"validation": [SourceConfig("a", tasks=[])]}, r"data\.validation\[0\]\.tasks is empty"),
    ],
)
def test_a_wrong_value_is_named_by_its_dotted_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig(**options)


class Module:
    """Makes data modules over the small corpus."""

    def __init__(self, clips: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        self.clips, self.tokenizer = clips, tokenizer

    def __call__(
        self, *, fixed_frames: int | None = None, benchmarks: Any = (), warm_up: Any = (0, ()), **config: Any
    ) -> SpeechDataModule:
        settings = {"sources": [source(self.clips)], "num_workers": 0, **config}
        return SpeechDataModule(
            DataConfig(**settings),
            self.tokenizer,
            seed=1,
            fixed_frames=fixed_frames,
            warm_up_batches=warm_up[0],
            warm_up_tasks=warm_up[1],
            benchmarks=benchmarks,
        )


@pytest.fixture
def module(clips: Path, byte_tokenizer: PreTrainedTokenizerBase) -> Module:
    return Module(clips, byte_tokenizer)


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_yield_batches_without_a_trainer(module: Module, clips: Path, workers: int) -> None:
    data = module(validation=[source(clips, tasks=["asr"])], num_workers=workers, max_batch_size=4)
    data.setup("fit")
    trained = list(data.train_dataloader())
    assert sorted(id for batch in trained for id in batch.ids) == sorted(f"c{n}" for n in range(23))
    assert isinstance(trained[0], Batch)
    assert max(len(batch.ids) for batch in trained) == 4
    assert min(int(batch.lengths.min()) for batch in trained) == 16_000, "padded to data.min_seconds"
    validation = data.val_dataloader()
    assert not isinstance(validation, list)
    seen = [id for batch in validation for id in batch.ids]
    assert sorted(seen) == sorted(f"c{n}" for n in range(23) if n % 3)
    assert [id for batch in validation for id in batch.ids] == seen, "the same order every time"


def test_the_budget_counts_real_seconds_or_a_fixed_number_of_frames(module: Module) -> None:
    def sizes(**options: Any) -> list[int]:
        data = module(max_batch_size=None, batch_budget=1700, min_seconds=0.0, **options)
        data.setup("fit")
        return [len(batch.ids) for batch in data.train_dataloader()]

    assert max(sizes(fixed_frames=1500)) == 1
    assert max(sizes()) > 20
    assert max(sizes(fixed_frames=750)) == 2
    assert max(sizes(fixed_frames=1500, frame_cost=0.1)) > 5


def test_a_warm_up_holds_its_tasks_alone_and_draws_from_sources_by_weight(
    module: Module, clips: Path, tmp_path: Path
) -> None:
    few = [example for example in read_manifest(clips) if example.task == "asr"][:3]
    write_manifest(tmp_path / "few.jsonl", [dataclasses.replace(e, id=f"few-{e.id}") for e in few])
    sources = [source(clips, weight=1.0), source(tmp_path / "few.jsonl", weight=3.0)]
    data = module(sources=sources, epoch_size=8, max_batch_size=4, warm_up=(2, ["asr"]))
    data.setup("fit")
    batches = list(data.train_dataloader())
    warm = [id for batch in batches[:2] for id in batch.ids]
    assert {task for batch in batches[:2] for task in batch.tasks} == {"asr"}
    assert len(warm) == 8
    assert sum(id.startswith("few") for id in warm) == 6
    kept = module(sources=[source(clips, tasks=["audio_QA"])], max_batch_size=4, warm_up=(1, ["asr", "audio_QA"]))
    kept.setup("fit")
    assert {*next(iter(kept.train_dataloader())).tasks} == {"audio_QA"}, "and a source keeps its own tasks"
    with pytest.raises(ValueError, match=r"no source in data\.sources has a task of optim\.align: lyrics"):
        module(warm_up=(2, ["lyrics"])).setup("fit")


def test_a_source_has_its_own_speeds_in_a_warm_up_and_after_it(module: Module, clips: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "few.jsonl", list(read_manifest(clips))[:3])
    sources = [source(clips, speeds=[0.5]), source(tmp_path / "few.jsonl")]
    data = module(sources=sources, speeds=[2.0], min_seconds=0.0, warm_up=(1, ["asr"]))
    data.setup("fit")
    dataset = data.train_dataloader().dataset
    kept = {example.id: example.duration for example in read_manifest(clips)}
    for index, example in enumerate(dataset.examples):
        speed = 2.0 if data._training.source_of(index) % 2 else 0.5
        assert len(dataset[(0, index)].waveform) == pytest.approx(16_000 * kept[example.id] / speed, abs=2)
    with pytest.raises(ValueError, match=r"data\.sources\[0\]\.speeds must be numbers from 0\.5 to 2, got \[3\.0\]"):
        DataConfig(sources=[source(clips, speeds=[3.0])])


def test_a_clip_that_is_played_often_is_one_clip_and_a_source_that_is_not_drawn_from_none(
    clips: Path, flawed: Path, tmp_path: Path
) -> None:
    asked = [dataclasses.replace(example, id=f"q-{example.id}") for example in list(read_manifest(clips))[:5]]
    write_manifest(tmp_path / "asked.jsonl", asked)
    config = DataConfig(
        sources=[source(clips, tasks=["asr"]), source(tmp_path / "asked.jsonl"), source(flawed, weight=0.0)],
        validation=[source(clips, tasks=["audio_QA"])],
        speeds=[0.5, 1.0],
    )
    found = trained_clips(config)
    assert len(found) == len(set(found)) == 23 + 17, "the questions of training and all of speech at both speeds"
    config.sources[0].speeds = [1.0, 0.75]
    assert {clip.speed for clip in trained_clips(config)} == {0.5, 0.75, 1.0}, "a source may have speeds of its own"
    assert benchmark_clips([Benchmark(asked), Benchmark(asked)]) == [Clip(example.audio) for example in asked]


def test_the_frames_of_clips_are_those_of_their_headers_where_no_duration_is_written(clips: Path) -> None:
    stated = [Clip(example.audio, 2.0, (example.duration or 0) / 2) for example in read_manifest(clips)]
    unknown = [Clip(clip.audio, clip.speed) for clip in [*stated, Clip((Segment("/gone.wav"),))]]
    config = DataConfig(min_seconds=0.1, max_seconds=0.2)
    counts = clip_frames(stated, config).tolist()
    assert clip_frames(unknown, config).tolist() == [*counts, 10]
    assert min(counts) == 5
    assert max(counts) == 10


def test_weights_decide_how_often_a_source_is_seen(module: Module, tmp_path: Path, clips: Path) -> None:
    few = list(read_manifest(clips))[:3]
    write_manifest(
        tmp_path / "few.jsonl", [Example(f"few{n}", e.audio, e.task, e.target, e.question) for n, e in enumerate(few)]
    )
    data = module(sources=[source(clips, weight=1.0), source(tmp_path / "few.jsonl", weight=3.0)], epoch_size=40)
    data.setup("fit")
    ids = [id for batch in data.train_dataloader() for id in batch.ids]
    assert len(ids) == 40
    assert sum(id.startswith("few") for id in ids) == 30
    data = module(sources=[source(clips, weight=None), source(tmp_path / "few.jsonl", weight=None)])
    data.setup("fit")
    assert len({id for batch in data.train_dataloader() for id in batch.ids}) == 26


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    """Return a manifest with one good clip of 31 s, one lost, one corrupt, one whose duration is wrong."""
    soundfile.write(tmp_path / "long.wav", np.zeros(31 * 8000), 8000)
    soundfile.write(tmp_path / "short.wav", np.zeros(16_000), 16_000)
    (tmp_path / "corrupt.flac").write_bytes(b"fLaC" + bytes(100))
    names = {"long.wav": None, "lost.wav": None, "corrupt.flac": None, "short.wav": 7.0}
    examples = [Example(n, (Segment(str(tmp_path / n)),), "asr", "x", duration=d) for n, d in names.items()]
    write_manifest(tmp_path / "flawed.jsonl", examples)
    return tmp_path / "flawed.jsonl"


def test_missing_durations_are_measured_and_long_clips_announced(
    module: Module, flawed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = module(sources=[source(flawed)], on_error="skip", max_batch_size=None, batch_budget=3100)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
        batches = list(data.train_dataloader())
    assert "reading 3 audio headers" in caplog.text
    assert "1 of 4 clips are longer than 30 s and are cut" in caplog.text
    assert {id for batch in batches for id in batch.ids} == {"long.wav"}
    assert "example 'short.wav': 'duration' is 7 s, the audio 1.00 s: " in caplog.text
    assert max(batch.waveforms.shape[1] for batch in batches) == 480_000
    with pytest.raises(AudioError, match=r"lost\.wav: no such audio file"):
        module(sources=[source(flawed)]).setup("fit")


def test_checking_the_data_collects_everything_that_is_wrong(flawed: Path, clips: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "odd.jsonl", [Example("odd", (Segment("/x.wav"),), "juggling", "x")])
    progress: list[tuple[int, int]] = []
    sources = [source(clips), source(flawed), source(tmp_path / "none.jsonl"), source(tmp_path / "odd.jsonl")]
    check = check_data(DataConfig(sources=sources), lambda done, total: progress.append((done, total)))
    problems = check.problems
    assert check.notes == ["data.sources[1]: 1 of 4 clips are longer than data.max_seconds=30 and are cut"]
    for expected in (
        "lost.wav: no such audio file",
        "corrupt.flac: ",
        "data.sources[1]: example 'short.wav': 'duration' is 7 s, the audio 1.00 s",
        "none.jsonl: no such manifest",
        "task 'juggling' has no prompts",
    ):
        assert sum(expected in problem for problem in problems) == 1, expected
    assert len(problems) == 5
    assert progress[22:] == [(23, 23), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert check_data(DataConfig(sources=[source(clips)], validation=[source(clips)])) == DataCheck([], [])


def test_checking_the_data_goes_on_after_any_file(clips: Path, tmp_path: Path) -> None:
    good = read_manifest(clips)[0]
    (tmp_path / "a.raw").write_bytes(b"\x01\x02" * 1000)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    names = ["a.raw", "folder", "pipe.wav", "new\nline.wav", "\udcff.wav", "x" * 300, "a\0b.wav"]
    bad = [Example(str(number), (Segment(str(tmp_path / name)),), "asr", "x") for number, name in enumerate(names)]
    write_manifest(tmp_path / "bad.jsonl", [*bad, dataclasses.replace(good, duration=9.0)])
    problems = check_data(DataConfig(sources=[source(tmp_path / "bad.jsonl")])).problems
    assert len(problems) == len(names) + 1
    for number, problem in enumerate(problems[:-1]):
        assert problem.startswith(f"data.sources[0]: example '{number}': {tmp_path}")
        assert problem.isprintable()
        assert problem.encode()
    assert "'duration' is 9 s, the audio" in problems[-1]
    assert read_manifest(tmp_path / "bad.jsonl")[4].audio[0].path == str(tmp_path / "\udcff.wav")


def test_setup_refuses_what_cannot_be_trained_on(module: Module, tmp_path: Path) -> None:
    segment = (Segment("/x.wav"),)
    write_manifest(tmp_path / "open.jsonl", [Example("o", segment, "asr", "", references=("a",))])
    write_manifest(tmp_path / "odd.jsonl", [Example("odd", segment, "juggling", "x")])
    for sources, message in [
        ([], r"data\.sources is empty"),
        ([source(tmp_path / "open.jsonl")], r"data\.sources: example 'o' has an empty target"),
        ([source(tmp_path / "odd.jsonl")], r"data\.sources: task 'juggling' has no prompts"),
    ]:
        with pytest.raises(ValueError, match=message):
            module(sources=sources).setup("fit")


class Predictor(lightning.LightningModule):
    """Answers with the prompts it was asked."""

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> list[tuple[str, str, int]]:
        assert batch.target_ids.shape[1] == 0
        return [(id, prompt, dataloader_idx) for id, prompt in zip(batch.ids, batch.prompts, strict=True)]


def test_the_trainer_predicts_every_example_of_every_benchmark(
    module: Module, clips: Path, recwarn: pytest.WarningsRecorder
) -> None:
    examples = read_manifest(clips)
    some = [Example(e.id, e.audio, e.task, "", e.question, ("r",)) for e in list(examples)[:5]]
    own = "<SpeechHere> Say {}!"
    data = module(benchmarks=[Benchmark(examples), Benchmark(some[::3], own)], sources=[])
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        enable_checkpointing=False,
    )
    first, second = trainer.predict(Predictor(), datamodule=data)
    answers = [answer for batch in first for answer in batch]
    assert sorted(id for id, *_ in answers) == sorted(example.id for example in examples)
    assert {index for *_, index in answers} == {0}
    assert {(id, prompt) for batch in second for id, prompt, _ in batch} == {
        (f"c{n}", "USER: <SpeechHere> Say what is it?!\nASSISTANT:") for n in (0, 3)
    }
    assert not [warning for warning in recwarn if "sampler" in str(warning.message)]


def test_a_benchmark_stops_at_unreadable_audio_even_where_training_would_skip(module: Module, flawed: Path) -> None:
    data = module(on_error="skip")
    with pytest.raises(AudioError, match="lost"):
        data.predict_loader(Benchmark(read_manifest(flawed)))
    with pytest.raises(ValueError, match="no examples"):
        data.predict_loader(Benchmark([]))


def test_a_batch_survives_pinning_and_the_device_move(module: Module) -> None:
    data = module()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    moved = data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    assert isinstance(moved, Batch)
    assert moved.ids == batch.ids
    assert moved.references == batch.references


def test_target_pieces_are_those_of_every_training_target_and_the_end(
    module: Module, clips: Path, byte_tokenizer: PreTrainedTokenizerBase
) -> None:
    data = module(sources=[source(clips)])
    data.setup("fit")
    wanted = {byte_tokenizer.eos_token_id}
    for example in read_manifest(clips):
        wanted.update(byte_tokenizer(example.target, add_special_tokens=False)["input_ids"])
    assert data.target_pieces() == sorted(wanted)


def test_target_pieces_hold_what_a_special_token_in_a_transcript_is_made_of(
    module: Module, clips: Path, byte_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    text = f"a {byte_tokenizer.eos_token} b"
    examples = [dataclasses.replace(example, target=text) for example in read_manifest(clips)]
    write_manifest(tmp_path / "special.jsonl", examples)
    data = module(sources=[source(tmp_path / "special.jsonl")])
    data.setup("fit")
    assert set(target_ids(byte_tokenizer, text)) <= set(data.target_pieces())
    assert len(data.target_pieces()) > 4
