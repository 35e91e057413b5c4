"""SALMONN as one LightningModule: frozen encoders, the bridge, and an LLM with LoRA."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, cast

import lightning
import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from salmonn_lab.batch import (
    GENERATION,
    LIKELIHOOD,
    AudioTokens,
    Batch,
    Frames,
    Generation,
    Prediction,
    Sample,
)
from salmonn_lab.data.audio import AudioReading, read_clip
from salmonn_lab.data.collate import collate, pad
from salmonn_lab.data.dataset import prompt_ids, target_ids
from salmonn_lab.data.modules import SpeechDataModule
from salmonn_lab.data.prompts import PLACE
from salmonn_lab.model.alignment import alignment_losses
from salmonn_lab.model.bridge import Bridge
from salmonn_lab.model.checkpoint import Coverage, Original, cover, read_original
from salmonn_lab.model.config import (
    AudioEncoderConfig,
    DecodingConfig,
    Dtype,
    LLMConfig,
    ModelConfig,
    WhisperConfig,
)
from salmonn_lab.model.encoders import Encoders
from salmonn_lab.model.fingerprint import fingerprint, hash_weights
from salmonn_lab.model.llm import Answer, LanguageModel
from salmonn_lab.model.pretrained import check_weights, commit
from salmonn_lab.optim import Objective, OptimConfig, learning_rate_factor

Waveform = Tensor | str | Path
STATE_HASH = "state_sha256"
"""The key of a checkpoint that holds the hash of its trainable weights."""
CLIPS_AT_ONCE = 16
"""How many clips `listen` and `score` run as one batch."""

log = logging.getLogger(__name__)


class Salmonn(lightning.LightningModule):
    """Whisper + audio encoder -> Q-Former -> LLM with LoRA (paper section 3)."""

    def __init__(
        self,
        config: ModelConfig,
        optim: OptimConfig | None = None,
        *,
        total_steps: int = 0,
        seed: int = 0,
        load: bool = True,
        reading: AudioReading | None = None,
    ) -> None:
        """Load the frozen parts and make the trainable ones.

        Args:
            config: what the model is made of; checkpoints are folders, files or hub names.
            optim: needed to train.
            total_steps: optimizer steps of the whole training, over which the rate decays.
            seed: of the new weights, and of dropout in every step.
            load: False makes the shapes alone; see `skeleton`.
            reading: how `listen`, `score` and `audio_tokens` read clips; None is the original's way.
        """
        super().__init__()
        self.reading = reading or AudioReading()
        self.config, self.optim, self.total_steps, self.seed = config, optim, total_steps, seed
        whole = config.bridge.span == "thirty_seconds"
        self.encoders = Encoders(config.whisper, config.audio_encoder, thirty_seconds=whole, load=load)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.llm = LanguageModel(config.llm, config.lora, load=load)
            spread = float(self.llm.embedding.weight.float().std()) if load else 1.0
            self.bridge = Bridge(config.bridge, self.encoders.dims, self.llm.dim, spread)
        self.decoding = DecodingConfig()
        self.benchmark = ""
        self.likelihood = False
        """Whether predictions note how likely the reference and the choices of an item are."""
        self._frozen = self.fingerprints() if load else {}
        self._deaf: int | None = None
        self.strict_loading = False  # on_load_checkpoint checks coverage itself: frozen weights are not stored
        self.align_vocabulary: Tensor | None = None
        """The word pieces that compete in alignment, sorted: those of the training targets and the end symbol; None is
        every word piece, which is slower."""
        self._step = [0.0, 0]
        """The sum of the token losses since the last optimizer step, and how many there were; of this rank."""
        self._validation = [0.0, 0]

    @classmethod
    def skeleton(cls, config: ModelConfig) -> Salmonn:
        """Return a model of shapes without values: whatever its size it takes no memory, and is there at once.

        Published networks (model/published.py) need no files for it, others their configuration.
        """
        with torch.device("meta"):
            return cls(config, load=False)

    def encode(self, batch: Batch) -> tuple[Frames, ...]:
        """Return the frozen encoders' frames: those that came with the batch, or else run the encoders."""
        if batch.features:
            streams = list(map(Frames, batch.features, batch.feature_masks, batch.feature_repeats))
        else:
            streams = list(self.encoders(batch.waveforms, batch.lengths))
        if self._deaf is not None:
            frames = streams[self._deaf]
            streams[self._deaf] = replace(frames, features=torch.zeros_like(frames.features))
        return tuple(streams)

    def deafen(self, encoder: Literal["whisper", "audio_encoder"] | None) -> None:
        """Have the frames of an encoder be 0 from now on, as a trained model never had them; None undoes that.

        Raises:
            ValueError: the model has no such encoder.
        """
        there = [name for name in ("whisper", "audio_encoder") if getattr(self.config, name) is not None]
        if encoder is not None and encoder not in there:
            raise ValueError(f"the model has no {encoder} that could be turned off")
        self._deaf = None if encoder is None else there.index(encoder)

    def hear(self, batch: Batch) -> AudioTokens:
        """Return what the LLM reads in place of each clip."""
        return self.bridge(self.encode(batch))  # type: ignore[no-any-return]

    def token_losses(self, batch: Batch) -> Tensor:
        """Return the loss of every target token, in nats, shape (target tokens,)."""
        return self.llm.token_losses(self.hear(batch), batch)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss over the batch's target tokens."""
        return self.token_losses(batch).mean()

    def generate(self, batch: Batch, decoding: DecodingConfig | None = None) -> list[str]:
        """Answer each prompt about its clip."""
        return [answer.text for answer in self.answer(batch, decoding)]

    @torch.no_grad()
    def answer(self, batch: Batch, decoding: DecodingConfig | None = None) -> list[Answer]:
        """Answer each prompt about its clip, and tell how many tokens that took, and whether it came to an end."""
        return self.llm.generate(self.hear(batch), batch, decoding or self.decoding)

    # For notebooks and scripts

    @classmethod
    def from_original(
        cls,
        path: str | Path,
        *,
        whisper: str,
        llm: str,
        beats: str | None = None,
        num_heads: int = 12,
        dtype: Dtype = "auto",
    ) -> Salmonn:
        """Load a checkpoint of the original SALMONN, such as `salmonn_v1.pth`, ready to answer.

        Clips are read as the original reads them: the first channel, at least 1 s and at most 30 s.

        Args:
            path: the `.pth`; windows, queries and LoRA are those it was trained with, sizes those of its tensors.
            whisper: folder, hub name or `asset:NAME` of Whisper-large-v2.
            llm: the same of Vicuna: 13B v1.1, or 7B v1.5 for the 7B checkpoint.
            beats: the BEATs file; not needed by a checkpoint that was trained without it.
            num_heads: attention heads of the Q-Former, which no file states; 12 in the released ones.
            dtype: of the LLM's weights; `auto` is that of its own files.

        Raises:
            ValueError: the file is no SALMONN checkpoint, or does not fit the parts given; the tensors are named.
        """
        from salmonn_lab import runs  # above this file: the door opens on whole runs

        original = read_original(path)
        config = runs.localize(original_config(original, whisper=whisper, llm=llm, beats=beats, num_heads=num_heads))
        config.llm.dtype = dtype
        model = cls(config)
        model.load_trainable_state(original.state(), str(path), ignored=original.leaked)
        return model.eval()

    @classmethod
    def from_run(cls, run: str | Path) -> Salmonn:
        """Load the trained model of a run's folder, ready to answer; errors as in `runs.find` and `runs.load_model`.

        Clips are read as the run's `data.channels`, `data.min_seconds` and `data.max_seconds` say.
        """
        from salmonn_lab import runs

        return runs.load_model(runs.find(run))

    @torch.no_grad()
    def audio_tokens(self, waveforms: Sequence[Waveform]) -> AudioTokens:
        """Return what the LLM would read in place of each clip.

        Args:
            waveforms: paths of audio files of any kind, or tensors of shape (samples,), mono at 16 kHz: floating point
                of full scale 1, int16 or int32. They are read as evaluation reads them: padded and cut to the run's
                `data.min_seconds` and `data.max_seconds`, with a warning where something is cut.
        """
        prompts = [PLACE] * len(waveforms)
        with answering(self):
            return self.hear(self.make_batch(waveforms, prompts))

    def listen(self, waveforms: Sequence[Waveform], prompts: Sequence[str], **decoding: Any) -> list[str]:
        """Return the answer about each clip.

        Args:
            waveforms: as in `audio_tokens`.
            prompts: one per clip, template applied, `<SpeechHere>` where the audio goes, such as
                "USER: <Speech><SpeechHere></Speech> What is said?\nASSISTANT:".
            decoding: fields of `DecodingConfig`, such as `num_beams=1`.
        """
        texts: list[str] = []
        with answering(self):
            for first in range(0, len(waveforms), CLIPS_AT_ONCE):
                some = slice(first, first + CLIPS_AT_ONCE)
                texts += self.generate(self.make_batch(waveforms[some], prompts[some]), DecodingConfig(**decoding))
        return texts

    @torch.no_grad()
    def score(
        self, waveforms: Sequence[Waveform], prompts: Sequence[str], targets: Sequence[str]
    ) -> list[Float[Tensor, " target"]]:
        """Return the log-probability of every token of each target, the end symbol's last.

        Natural logarithms, of a softmax over the LLM's own vocabulary: the `[PAD]` that the original adds to it, with
        random weights that are in no checkpoint, is not among the choices.

        Args:
            waveforms: as in `audio_tokens`.
            prompts: as in `listen`.
            targets: a text per clip.
        """
        scores: list[Tensor] = []
        with answering(self):
            for first in range(0, len(waveforms), CLIPS_AT_ONCE):
                some = slice(first, first + CLIPS_AT_ONCE)
                batch = self.make_batch(waveforms[some], prompts[some], targets[some])
                scores += torch.split(-self.token_losses(batch), batch.target_mask.sum(1).tolist())
        return scores

    def make_batch(
        self, waveforms: Sequence[Waveform], prompts: Sequence[str], targets: Sequence[str] | None = None
    ) -> Batch:
        """Clips, read as `reading` says, and prompts as a batch on the model's device.

        Raises:
            ValueError: the lists differ in length, a prompt lacks its `<SpeechHere>`, or a clip cannot be read.
        """
        counts = {len(waveforms), len(prompts), len(waveforms if targets is None else targets)}
        if len(counts) > 1 or isinstance(prompts, str):
            raise ValueError("give one prompt, and one target if any, for each waveform")
        samples = []
        for index, (waveform, prompt) in enumerate(zip(waveforms, prompts, strict=True)):
            if prompt.count(PLACE) != 1:
                raise ValueError(f"prompt {index} must hold {PLACE} exactly once, got {prompt!r}")
            before, after = prompt_ids(self.llm.tokenizer, prompt)
            samples.append(
                Sample(
                    id=str(index),
                    waveform=read_clip(waveform, self.reading, f"waveform {index}"),
                    before_ids=before,
                    after_ids=after,
                    target_ids=() if targets is None else target_ids(self.llm.tokenizer, targets[index]),
                    prompt=prompt,
                    task="",
                )
            )
        batch = collate(samples, self.llm.pad_id)
        return Batch._make(part.to(self.device) if isinstance(part, Tensor) else part for part in batch)

    # Training

    def on_fit_start(self) -> None:
        """Have the LLM answer once, so that one that cannot is known before training, not after it."""
        self.llm.check_answers()

    def on_train_start(self) -> None:
        """Ask the data, opened by now, which word pieces compete where alignment is still to come."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SpeechDataModule) and self.optim and (self.aligning or self.optim.align_weight):
            self.align_vocabulary = torch.tensor(data.target_pieces())

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout by (seed, batches so far, rank): a resumed run draws what the straight run would have drawn."""
        done = cast(_ProcessedTracker, self.trainer.fit_loop.epoch_loop.batch_progress.total).processed
        state = np.random.SeedSequence([self.seed, done, self.global_rank]).generate_state(1)
        torch.manual_seed(int(state[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the *sum* of the token losses; `on_before_optimizer_step` divides by all tokens of the step."""
        audio = self.hear(batch)
        loss = self.align(audio, batch) if self.aligning else self.llm.token_losses(audio, batch).sum()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {self.global_step} "
                f"(epoch {self.current_epoch}, batch {batch_idx}); "
                f"clips of the batch: {', '.join(batch.ids)}"
            )
        self._step[0] += value
        self._step[1] += int(batch.target_mask.sum())
        if self.optim and self.optim.align_weight and not self.aligning:
            loss = loss + self.optim.align_weight * self.align(audio, batch)
        return loss

    @property
    def aligning(self) -> bool:
        """Whether this is a step of alignment."""
        return self.optim is not None and self.global_step < self.optim.align_steps

    def align(self, audio: AudioTokens, batch: Batch) -> Tensor:
        """Return the sum of the losses of alignment over those clips of a batch whose tasks train on it."""
        assert self.optim is not None
        rows = [row for row, task in enumerate(batch.tasks) if task in self.optim.align]
        targets = [batch.target_ids[row][batch.target_mask[row]].tolist()[:-1] for row in rows]
        objectives = [cast(Objective, self.optim.align[batch.tasks[row]]) for row in rows]
        table, blank = self.llm.embedding.weight, cast(int, self.llm.tokenizer.eos_token_id)
        pieces = None if self.align_vocabulary is None else self.align_vocabulary.to(table.device)
        audio = AudioTokens(audio.embeds[rows], audio.mask[rows])
        return alignment_losses(audio, targets, objectives, table, blank, pieces).sum()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Turn the gradient of the summed loss into that of the mean over all target tokens of the step.

        Lightning has divided by the number of accumulated batches, DDP by the number of ranks; both are undone here,
        so that a token weighs the same in whatever batch and on whatever rank it came.
        """
        total, targets = self.sum_over_ranks(self._step)
        self._step = [0.0, 0]
        if targets:
            self.log_loss(total / targets)
        factor = self.trainer.accumulate_grad_batches * self.trainer.world_size / max(targets, 1.0)
        weights = (weight for group in optimizer.param_groups for weight in group["params"])
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_mul_(gradients, factor)

    def log_loss(self, loss: float) -> None:
        """Show a step's loss, and write it to the loggers at once.

        Lightning writes what it is told to log after the callbacks of the step have run; a run killed in between
        would have a checkpoint of this step, and never its loss.
        """
        name = "align_loss" if self.aligning else "train_loss"
        self.log(name, loss, prog_bar=True, logger=False)
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            for logger in self.loggers:
                logger.log_metrics({name: loss}, self.global_step)
                logger.save()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW over the trainable weights, and its schedule per optimizer step."""
        if self.optim is None:
            raise ValueError("this Salmonn was built without an OptimConfig and cannot be trained")
        config, groups = self.optim, []
        for part, rate in ((self.bridge, config.lr), (self.llm, config.lora_lr or config.lr)):
            weights = [p for p in part.parameters() if p.requires_grad]
            groups.append({"params": [p for p in weights if p.ndim >= 2], "lr": rate})
            groups.append({"params": [p for p in weights if p.ndim < 2], "lr": rate, "weight_decay": 0.0})
        groups = [group for group in groups if group["params"]]
        first, second = config.betas
        # On a CPU one fused pass takes a third of the time (benchmarks/model_parts.py). On a GPU the default is as
        # fast. Under mixed precision Lightning refuses to clip the gradients of a fused one.
        mixed = self._trainer is not None and isinstance(self.trainer.precision_plugin, MixedPrecision)
        fused = self.device.type == "cpu" and not mixed
        optimizer = AdamW(groups, betas=(first, second), weight_decay=config.weight_decay, fused=fused)
        schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, config, self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Validation and prediction

    def on_validation_epoch_start(self) -> None:
        """Start new sums."""
        self._validation = [0.0, 0]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up the teacher-forced loss."""
        losses = self.token_losses(batch)
        self._validation[0] += float(losses.double().sum())
        self._validation[1] += losses.numel()

    def on_validation_epoch_end(self) -> None:
        """Log `val_loss`, the mean over all target tokens of all ranks."""
        total, count = self.sum_over_ranks(self._validation)
        self.log("val_loss", total / count, prog_bar=True)

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Return each value summed over all processes."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64  # which MPS does not have
        sums = self.trainer.strategy.reduce(torch.tensor(values, dtype=dtype, device=self.device), reduce_op="sum")
        return cast(Tensor, sums).tolist()

    def predict_step(self, batch: Batch, batch_idx: int) -> list[Prediction]:
        """Answer each prompt of the batch, and note how the answers came about."""
        start = time.perf_counter()
        audio = self.hear(batch)
        answers = self.llm.generate(audio, batch, self.decoding)
        seconds = round((time.perf_counter() - start) / len(answers), 6)
        notes: list[dict[str, Any]] = [
            {GENERATION: asdict(Generation(answer.finished, answer.tokens, seconds))} for answer in answers
        ]
        if self.likelihood:
            for note, found in zip(notes, self.likelihoods(audio, batch), strict=True):
                note[LIKELIHOOD] = found
        rows = zip(batch.ids, batch.prompts, answers, batch.references, batch.meta, notes, strict=True)
        return [
            Prediction(id, self.benchmark, prompt, answer.text, references, {**meta, **note})
            for id, prompt, answer, references, meta, note in rows
        ]

    @torch.no_grad()
    def likelihoods(self, audio: AudioTokens, batch: Batch) -> list[dict[str, list[Any]]]:
        """Return how likely each row's first reference is, and each of the `choices` in its meta.

        Returns:
            a log-likelihood in nats, summed over tokens, and the number of tokens: one such pair under `reference`, a
            list of them under `choices`.
        """
        texts = [
            (references[0], *(meta.get("choices") or ()))
            for references, meta in zip(batch.references, batch.meta, strict=True)
        ]
        rows = [row for row, some in enumerate(texts) for _ in some]
        ids = [target_ids(self.llm.tokenizer, text) for some in texts for text in some]
        pairs: list[list[float]] = []
        for first in range(0, len(rows), len(texts)):
            some = rows[first : first + len(texts)]
            targets, mask = pad(ids[first : first + len(texts)], self.llm.pad_id)
            asked = batch._replace(
                before_ids=batch.before_ids[some],
                before_mask=batch.before_mask[some],
                after_ids=batch.after_ids[some],
                after_mask=batch.after_mask[some],
                target_ids=targets.to(batch.before_ids.device),
                target_mask=mask.to(batch.before_ids.device),
            )
            losses = self.llm.token_losses(AudioTokens(audio.embeds[some], audio.mask[some]), asked).double()
            counts = mask.sum(1).tolist()
            pairs += [[round(-float(part.sum()), 6), len(part)] for part in torch.split(losses, counts)]
        found = iter(pairs)
        return [{"reference": next(found), "choices": [next(found) for _ in some[1:]]} for some in texts]

    # Checkpoints

    def trainable_state(self) -> dict[str, Tensor]:
        """Return the weights that learn, by name."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def coverage(self, state: Mapping[str, Tensor], ignored: Iterable[str] = ()) -> Coverage:
        """Compare a checkpoint's tensors with the weights that learn."""
        return cover(self.trainable_state(), state, ignored)

    def load_trainable_state(self, state: Mapping[str, Tensor], source: str, ignored: Iterable[str] = ()) -> Coverage:
        """Load exactly the weights that learn, and say what was loaded; `ignored` names what was left out by rule.

        Raises:
            ValueError: where a name is missing or unknown, a shape differs, or what a name stands for is no tensor of
                finite numbers.
        """
        check_weights(state, source)
        coverage = self.coverage(state, ignored)
        coverage.check(source)
        with torch.no_grad():
            for name, weight in self.trainable_state().items():
                weight.copy_(state[name])
        log.info("%s: %s", source, coverage)
        return coverage

    def fingerprints(self) -> dict[str, str]:
        """Return a hash of each frozen part, with LoRA or without."""
        parts: dict[str, nn.Module] = {"llm": self.llm.base}
        parts |= {type(stream).__name__: stream for stream in self.encoders.streams}
        return {name: fingerprint(part) for name, part in parts.items()}

    def revisions(self) -> dict[str, str]:
        """Commit of the hub repository of each part that came from the hub, by the part's key in the config."""
        parts = {"model.llm": self.config.llm, "model.whisper": self.config.whisper}
        commits = {key: commit(part.checkpoint, part.revision) for key, part in parts.items() if part is not None}
        return {key: value for key, value in commits.items() if value is not None}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only trainable weights with their hash, and say which frozen ones they belong to."""
        checkpoint["state_dict"] = self.trainable_state()
        checkpoint[STATE_HASH] = hash_weights(checkpoint["state_dict"])
        checkpoint["frozen"] = self._frozen  # as they were loaded: on a GPU, quantized weights are others

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check coverage and the frozen parts before Lightning loads the weights."""
        self.load_checkpoint(checkpoint, "the checkpoint")

    def load_checkpoint(self, checkpoint: Mapping[str, Any], source: str) -> Coverage:
        """Load a checkpoint's trainable weights.

        Raises:
            ValueError: where it is no checkpoint of this kit, does not fit, belongs to other frozen weights, or was
                changed since it was written.
        """
        state, theirs = checkpoint.get("state_dict"), checkpoint.get("frozen")
        if not isinstance(state, Mapping) or not isinstance(theirs, Mapping):
            raise ValueError(f"{source} is not a checkpoint of salmonn_lab")
        coverage = self.load_trainable_state(state, source)
        recorded = checkpoint.get(STATE_HASH)  # which those of earlier versions lack
        if recorded is not None and recorded != hash_weights(state):
            raise ValueError(
                f"{source} is damaged: its weights are not those that were written (to use weights that you changed "
                f"yourself, remove its '{STATE_HASH}')"
            )
        # Empty where the original's file did not say. Earlier versions hashed quantized weights as a GPU holds them.
        mine, now = self._frozen, self.fingerprints()
        different = sorted(str(name) for name in theirs if theirs[name] not in (mine.get(name), now.get(name)))
        if different:
            raise ValueError(f"{source} was trained beside other frozen weights: {', '.join(different)}")
        return coverage


def original_config(
    original: Original, *, whisper: str, llm: str, beats: str | None, num_heads: int = 12
) -> ModelConfig:
    """Return the model that a checkpoint of the original describes, beside the given frozen parts.

    Raises:
        ValueError: the checkpoint was trained with BEATs, and there is none, or the other way round.
    """
    if ("audio" in original.streams) != (beats is not None):
        raise ValueError(
            "the checkpoint was trained with BEATs: its file is needed"
            if beats is None
            else "the checkpoint was trained without BEATs, so it cannot use the file given"
        )
    return ModelConfig(
        whisper=WhisperConfig(whisper) if "speech" in original.streams else None,
        audio_encoder=None if beats is None else AudioEncoderConfig("beats", beats),
        bridge=original.bridge(num_heads),
        llm=LLMConfig(llm, prompt_template=original.setting("prompt_template")),
        lora=original.lora(),
    )


@contextmanager
def answering(model: Salmonn) -> Iterator[None]:
    """Keep a model in evaluation mode meanwhile."""
    mode = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(mode)
