"""A run that is killed and resumed trains on exactly the batches that the straight run trains on."""

from __future__ import annotations

import json
import os
import socket
import warnings
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, OnExceptionCheckpoint
from transformers import PreTrainedTokenizerBase

from salmonn_lab.batch import Batch
from salmonn_lab.data.modules import DataConfig, SourceConfig, SpeechDataModule

Trained = list[list[str]]


class KilledError(Exception):
    """Stands for a power cut."""


class Recorder(lightning.LightningModule):
    """Learns nothing, and writes down what it is given."""

    def __init__(self, kill_at: int | None = None, asks_for_total_steps: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.kill_at, self.asks_for_total_steps = kill_at, asks_for_total_steps
        self.trained: Trained = []
        self.validated: Trained = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        if len(self.trained) == self.kill_at:
            raise KilledError
        self.trained.append([f"{id} {prompt}" for id, prompt in zip(batch.ids, batch.prompts, strict=True)])
        return self.weight.sum() * batch.waveforms.mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated.append(batch.ids)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.asks_for_total_steps:
            assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Bench:
    """Runs training on the small corpus, straight, killed and resumed."""

    def __init__(self, clips: Path, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        self.clips, self.tokenizer, self.folder = clips, tokenizer, folder

    def data(self, **config: Any) -> SpeechDataModule:
        # a budget that holds one to five clips, so that the number of batches would differ from epoch to epoch
        settings = {"batch_budget": 300, "max_batch_size": None, "min_seconds": 0.0, "num_workers": 0, **config}
        sources = [SourceConfig(str(self.clips))]
        return SpeechDataModule(DataConfig(sources=sources, **settings), self.tokenizer, seed=1)

    def fit(
        self,
        checkpoint: Path | None = None,
        *,
        data: SpeechDataModule | None = None,
        kill_at: int | None = None,
        callbacks: list[Callback] | None = None,
        asks_for_total_steps: bool = False,
        **options: Any,
    ) -> tuple[Trained, lightning.Trainer]:
        trainer = lightning.Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=bool(callbacks),
            callbacks=callbacks,
            use_distributed_sampler=False,
            default_root_dir=self.folder,
            **{"max_epochs": 3, **options},
        )
        model = Recorder(kill_at, asks_for_total_steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                trainer.fit(model, datamodule=data or self.data(), ckpt_path=checkpoint)
            except KilledError:
                assert kill_at is not None
        return model.trained, trainer

    def every_step(self) -> list[Callback]:
        name = "{step}"
        return [ModelCheckpoint(self.folder, filename=name, every_n_train_steps=1, save_top_k=-1)]


@pytest.fixture
def bench(clips: Path, byte_tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Bench:
    return Bench(clips, byte_tokenizer, tmp_path)


def test_an_epoch_holds_every_clip_once_and_has_as_many_steps_as_the_first(bench: Bench) -> None:
    trained, _ = bench.fit()
    steps = len(trained) // 3
    assert len(trained) == 3 * steps
    orders = []
    for epoch in range(3):
        ids = [row.split()[0] for batch in trained[epoch * steps : (epoch + 1) * steps] for row in batch]
        assert len(set(ids)) == len(ids) >= 20
        orders.append(ids)
    assert orders[0] != orders[1] != orders[2]


def test_killed_after_any_batch_it_resumes_with_the_next(bench: Bench) -> None:
    straight, _ = bench.fit(callbacks=bench.every_step())
    for done in range(1, len(straight)):
        resumed, _ = bench.fit(bench.folder / f"step={done}.ckpt")
        assert straight[:done] + resumed == straight, f"killed after {done} batches"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kill_at", [2, 11])
def test_killed_in_the_middle_of_a_batch_it_trains_on_that_batch_again(
    bench: Bench, workers: int, kill_at: int
) -> None:
    straight, _ = bench.fit()
    killed, _ = bench.fit(data=bench.data(num_workers=workers), kill_at=kill_at, callbacks=bench.every_step())
    resumed, _ = bench.fit(bench.folder / f"step={kill_at}.ckpt", data=bench.data(num_workers=workers))
    assert killed + resumed == straight


def test_a_checkpoint_written_by_the_exception_itself_resumes_with_the_batch_that_failed(bench: Bench) -> None:
    straight, _ = bench.fit()
    killed, _ = bench.fit(kill_at=5, callbacks=[OnExceptionCheckpoint(bench.folder)])
    resumed, _ = bench.fit(bench.folder / "on_exception.ckpt")
    assert killed + resumed == straight


def test_touching_the_estimated_steps_does_not_lose_the_place(bench: Bench) -> None:
    straight, _ = bench.fit(asks_for_total_steps=True)
    killed, _ = bench.fit(kill_at=5, callbacks=bench.every_step())
    for workers in (0, 2):
        data = bench.data(num_workers=workers)
        resumed, _ = bench.fit(bench.folder / "step=5.ckpt", data=data, asks_for_total_steps=True)
        assert killed + resumed == straight


@pytest.mark.parametrize("workers", [0, 2])
def test_checkpoints_at_an_epochs_end_resume_with_the_next_epoch(bench: Bench, workers: int) -> None:
    callback = ModelCheckpoint(bench.folder, filename="{epoch}", save_on_train_epoch_end=True, save_top_k=-1)
    straight, _ = bench.fit(callbacks=[callback])
    steps = len(straight) // 3
    for epoch in range(2):
        resumed, _ = bench.fit(bench.folder / f"epoch={epoch}.ckpt", data=bench.data(num_workers=workers))
        assert resumed == straight[(epoch + 1) * steps :]


@pytest.mark.parametrize("interval", [2, 1.0])
def test_checkpoints_after_a_validation_resume_with_the_next_batch(bench: Bench, interval: float) -> None:
    callback = ModelCheckpoint(
        bench.folder, filename="{step}", save_on_train_epoch_end=False, save_top_k=-1, every_n_epochs=1
    )
    validation = [SourceConfig(str(bench.clips))]
    straight, trainer = bench.fit(
        data=bench.data(validation=validation), callbacks=[callback], val_check_interval=interval, max_epochs=2
    )
    checkpoints = sorted(bench.folder.glob("step=*.ckpt"))
    assert checkpoints
    model = trainer.lightning_module
    assert isinstance(model, Recorder)
    assert {id for batch in model.validated for id in batch} == {f"c{i}" for i in range(23)}
    for checkpoint in checkpoints:
        resumed, _ = bench.fit(
            checkpoint, data=bench.data(validation=validation), val_check_interval=interval, max_epochs=2
        )
        done = int(checkpoint.stem.removeprefix("step="))
        assert straight[:done] + resumed == straight, checkpoint.name


def test_accumulating_gradients_does_not_move_the_place(bench: Bench) -> None:
    straight, _ = bench.fit(accumulate_grad_batches=2)
    killed, _ = bench.fit(accumulate_grad_batches=2, kill_at=7, callbacks=bench.every_step())
    newest = max(bench.folder.glob("step=*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    resumed, _ = bench.fit(newest, accumulate_grad_batches=2)
    assert killed[:6] + resumed == straight, "the seventh batch had not yet been stepped on, so it comes again"


def test_a_run_stopped_by_max_steps_goes_on_in_the_middle_of_the_epoch(bench: Bench) -> None:
    straight, _ = bench.fit(max_epochs=-1, max_steps=20)
    first, trainer = bench.fit(max_epochs=-1, max_steps=5)
    trainer.save_checkpoint(bench.folder / "five.ckpt")
    for workers in (0, 2):
        data = bench.data(num_workers=workers)
        rest, _ = bench.fit(bench.folder / "five.ckpt", data=data, max_epochs=-1, max_steps=20)
        assert first + rest == straight


def test_short_lightning_epochs_walk_on_through_the_data(bench: Bench) -> None:
    straight, _ = bench.fit(max_epochs=4)
    for workers in (0, 2):
        walked, _ = bench.fit(data=bench.data(num_workers=workers), limit_train_batches=4, max_epochs=6)
        assert walked == straight[:24]
    killed, _ = bench.fit(limit_train_batches=4, max_epochs=6, kill_at=9, callbacks=bench.every_step())
    resumed, _ = bench.fit(bench.folder / "step=9.ckpt", limit_train_batches=4, max_epochs=6)
    assert killed + resumed == straight[:24]


def test_a_second_fit_without_a_checkpoint_starts_anew(bench: Bench) -> None:
    straight, _ = bench.fit(callbacks=bench.every_step())
    data = bench.data()
    bench.fit(bench.folder / "step=5.ckpt", data=data)
    again, _ = bench.fit(data=data)
    assert again == straight


def test_resuming_with_other_batches_is_refused(bench: Bench) -> None:
    bench.fit(kill_at=5, callbacks=bench.every_step())
    with pytest.raises(ValueError, match="cannot resume: the checkpoint's batches are not this run's"):
        bench.fit(bench.folder / "step=5.ckpt", data=bench.data(batch_budget=200))


def run_rank(rank: int, port: int, bench: Bench) -> None:
    """Run as one of two processes: straight, then resumed from each of three checkpoints."""
    os.environ.update(
        MASTER_ADDR="localhost", MASTER_PORT=str(port), WORLD_SIZE="2", NODE_RANK="0", LOCAL_RANK=str(rank)
    )
    torch.set_num_threads(1)
    options: dict[str, Any] = {"strategy": "ddp", "devices": 2, "max_epochs": 2}
    straight, _ = bench.fit(callbacks=bench.every_step(), **options)
    half = len(straight) // 2
    resumed = [bench.fit(bench.folder / f"step={done}.ckpt", **options)[0] for done in (half - 1, half, half + 1)]
    (bench.folder / f"rank{rank}.json").write_text(json.dumps([straight, *resumed]))


@pytest.mark.slow
def test_two_processes_share_out_the_batches_and_resume(bench: Bench) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(run_rank, (port, bench), nprocs=2)
    ranks: list[list[Trained]] = [json.loads((bench.folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    steps = len(ranks[0][0])
    assert len(ranks[1][0]) == steps
    half = steps // 2
    ids = [{row.split()[0] for batch in straight[:half] for row in batch} for straight, *_ in ranks]
    assert not ids[0] & ids[1]
    assert len(ids[0] | ids[1]) >= 18
    for straight, *resumed in ranks:
        for done, rest in zip((half - 1, half, half + 1), resumed, strict=True):
            assert straight[:done] + rest == straight


def copied(bench: Bench, name: str) -> Path:
    """Copy the manifest of the corpus to another folder; its audio stays."""
    path = bench.folder / name / bench.clips.name
    path.parent.mkdir()
    path.write_text(bench.clips.read_text().replace('"audio": "', f'"audio": "{bench.clips.parent}/'))
    return path


def state_of(data: SpeechDataModule) -> dict[str, Any]:
    data.setup("fit")
    return data.state_dict()


def resume_from(data: SpeechDataModule, state: dict[str, Any]) -> None:
    data.setup("fit")
    data.load_state_dict(json.loads(json.dumps(state)))
    data.train_dataloader()


def test_edited_data_of_equal_length_is_not_resumed_in_silence(bench: Bench) -> None:
    bench.clips = copied(bench, "first")
    state = state_of(bench.data())
    lines = bench.clips.read_text().splitlines()
    record = json.loads(lines[3])
    edited = record["target"][::-1]
    assert edited != record["target"]
    lines[3] = json.dumps({**record, "target": edited})
    bench.clips.write_text("\n".join(lines) + "\n")
    with pytest.raises(
        ValueError, match=rf"cannot resume: .*data\.sources\[0\]\.manifest \({bench.clips}\); restore it"
    ):
        resume_from(bench.data(), state)
    del state["contents"]  # as in checkpoints of earlier versions
    resume_from(bench.data(), state)


def test_edited_validation_and_prompts_are_named_and_moved_data_is_the_same(bench: Bench) -> None:
    first, prompts = copied(bench, "first"), bench.folder / "prompts.json"
    own = bench.data().prompts.prompts
    prompts.write_text(json.dumps({task: list(own[task]) for task in own}))
    options = {"validation": [SourceConfig(str(first))], "prompts": str(prompts)}
    state = state_of(bench.data(**options))
    moved = bench.folder / "moved.jsonl"
    moved.write_text(first.read_text())
    resume_from(bench.data(**{**options, "validation": [SourceConfig(str(moved))]}), state)
    first.write_text(first.read_text().replace('"id": "c0"', '"id": "cx"'))
    with pytest.raises(ValueError, match=r"edited since: data\.validation\[0\]\.manifest"):
        resume_from(bench.data(**options), state)
    prompts.write_text(prompts.read_text().replace("?", "!"))
    with pytest.raises(ValueError, match=r"data\.validation\[0\]\.manifest \(.*\), data\.prompts \(.*prompts\.json\)"):
        resume_from(bench.data(**options), state)
