"""A run is a folder that explains itself: resolved config, provenance, checkpoints, predictions, scores."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import psutil
import torch
from lightning_utilities.core.rank_zero import rank_zero_only

from salmonn_lab import assets
from salmonn_lab.config import RunConfig, differences, flatten, load_stored, revealed, to_yaml
from salmonn_lab.console import console
from salmonn_lab.data.config import reading
from salmonn_lab.files import read_json_object, remove_unfinished, write_atomically
from salmonn_lab.locks import Lock
from salmonn_lab.model.checkpoint import Coverage, Original, parse_original
from salmonn_lab.model.config import ModelConfig
from salmonn_lab.model.llm import fastest_dtype
from salmonn_lab.optim import precision_of
from salmonn_lab.plain import read_plain
from salmonn_lab.salmonn import Salmonn, original_config

LIBRARIES = ("torch", "lightning", "transformers", "peft", "torchaudio", "torchmetrics", "jiwer", "omegaconf")
CONFIG = "config.yaml"
PREDICTIONS = "predictions"
SCORES = "scores.json"
LOCK = ".lock"
LOOKED_AT_SECONDS = 0.3
"""For so long at most does a process that only looks at a lock keep it."""
OTHERS_WAIT_SECONDS = 300.0
"""How long a process of a multi-device run waits for the first one to make the folder."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class Run:
    """The places in a run's folder."""

    folder: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.folder / CONFIG

    @property
    def checkpoint(self) -> Path:
        """The latest state of training."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def provenance_file(self) -> Path:
        """What the run was made from: code, libraries, hardware, data, weights, time."""
        return self.folder / "provenance.json"

    @property
    def predictions(self) -> Path:
        """A file of predictions per benchmark."""
        return self.folder / PREDICTIONS

    @property
    def predictions_before(self) -> Path:
        """Those of the untrained model."""
        return self.predictions / "before"

    @property
    def before(self) -> Path:
        """Scores of the untrained model."""
        return self.folder / "before.json"

    @property
    def scores(self) -> Path:
        """Scores of the trained model, those of the untrained one beside them."""
        return self.folder / SCORES

    def config(self, overrides: Sequence[str] = ()) -> RunConfig:
        """The stored configuration, with `key=value` overrides.

        Raises:
            ValueError: as in `load_config`; what is wrong with the stored file names it.
        """
        return load_stored(self.config_file, overrides)

    def provenance(self) -> dict[str, Any]:
        """Facts that are recorded so far.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is torn, or a fact is of another kind; the file and the key are named.
        """
        record = read_json_object(self.provenance_file)
        for key in ("seconds", "part_seconds"):
            if not isinstance(record.get(key, {}), dict):
                raise ValueError(f"{self.provenance_file}: key '{key}' must be an object of seconds by part")
        parts = flatten({key: record.get(key, {}) for key in ("seconds", "part_seconds")})
        numbers = {key: value for key, value in parts.items() if value != {}}
        numbers["peak_memory_gib"] = record.get("peak_memory_gib", 0.0)
        for key, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{self.provenance_file}: key '{key}' must be a number from 0, got {value!r:.60}")
        return record

    def config_text(self) -> str:
        """The stored configuration as it is written."""
        try:
            return self.config_file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.config_file}: the file is not UTF-8: {error.reason}") from None

    @rank_zero_only
    def record(self, **facts: Any) -> None:
        """Add facts to the provenance; the first process of a run does."""
        known = self.provenance() if self.provenance_file.is_file() else {}
        write_atomically(self.provenance_file, json.dumps(known | facts, indent=2) + "\n")

    def finished(self) -> bool:
        """Whether it was trained and measured to the end."""
        if not self.scores.is_file() or not self.provenance_file.is_file():
            return False
        return "measuring after" in self.provenance().get("seconds", {})

    def facts(self) -> dict[str, str]:
        """Return the provenance as one line of text each, nested facts with dotted names."""
        return {"run": self.folder.name} | {key: str(value) for key, value in flatten(self.provenance()).items()}


def start(config: RunConfig, *, resume: bool) -> Run:
    """Make the folder of a new run, or open that of the run to resume.

    The first of several processes does; the others, which Lightning starts with the same command line, open what it
    made.

    Raises:
        FileExistsError: if the folder holds a run and `resume` is False.
        ValueError: if the run to resume was made with another configuration; the keys are named.
    """
    run = Run(Path(revealed(config.out_dir)))
    if not first_process():
        return wait_for(run)
    if run.config_file.is_file():
        if not resume:
            raise FileExistsError(f"{run.folder} holds a run: continue it with --resume, or choose another out_dir=...")
        if changed := changes(run.config(), config):
            raise ValueError(f"{run.folder} was made with another configuration; it differs in {', '.join(changed)}")
        if not run.provenance_file.is_file():
            run.record(**environment())
        return run
    run.folder.mkdir(parents=True, exist_ok=True)
    settled = with_dtype(config, fastest_dtype()) if config.model.llm.dtype == "fastest" else config
    # The configuration comes last: a folder that has one is a run, and lacks nothing.
    run.provenance_file.unlink(missing_ok=True)
    run.record(started=datetime.now(UTC).isoformat(timespec="seconds"), **environment())
    write_atomically(run.config_file, to_yaml(settled))
    return run


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes from writing into a run's folder, or a variant's, meanwhile.

    The first of several processes of a run does, for all of them. A sweep that starts a run hands its lock on.

    Args:
        folder: the run's or the variant's.
        wait: for another process to end, instead of raising.

    Raises:
        BlockingIOError: another process is at work on it; says which.
    """
    if not first_process():
        yield
        return
    lock = Lock(folder / LOCK)
    if not lock.inherit() and not patiently(lock, LOOKED_AT_SECONDS):
        who = lock.holder()
        if not wait:
            raise BlockingIOError(f"{folder}: {who} is at work on it; wait for its end with --wait, or stop it")
        console.print(f"{folder}: waiting for {who}", soft_wrap=True)
        patiently(lock, math.inf)
    try:
        remove_unfinished(folder)
        yield
    finally:
        lock.release()


def patiently(lock: Lock, seconds: float) -> bool:
    """Whether a lock was taken within some seconds."""
    deadline = time.monotonic() + seconds
    while not lock.acquire():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def changes(stored: RunConfig, config: RunConfig) -> list[str]:
    """Return the keys in which a stored run is not what a configuration asks for: none where it satisfies it.

    What the run stored must be equal, what it lacks is read as its default: a new key keeps old runs valid, a changed
    default does not. Where it ran is not compared, and what was left to the machine is as the machine decided.
    """
    return differences(with_stride(stored), with_stride(with_dtype(config, stored.model.llm.dtype)))


def first_process() -> bool:
    """Tell whether this process is the one of a run that writes its folder."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)  # Lightning sets it once it knows


def wait_for(run: Run) -> Run:
    """Return a run once the first process has written its configuration."""
    deadline = time.monotonic() + OTHERS_WAIT_SECONDS
    while not run.config_file.is_file():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run.folder}: the first process of the run has not made it")
        time.sleep(0.1)
    return run


def find(folder: str | Path) -> Run:
    """Open a finished or interrupted run.

    Raises:
        FileNotFoundError: if the folder holds no run.
    """
    run = Run(Path(folder))
    if not run.config_file.is_file():
        raise FileNotFoundError(f"{folder} is not a run: it has no config.yaml")
    return run


def load_model(run: Run, checkpoint: Path | None = None, config: ModelConfig | None = None) -> Salmonn:
    """Build a run's model and load its trained weights, in evaluation mode.

    Args:
        run: gives configuration and checkpoint.
        checkpoint: another file than the run's last one.
        config: another (localized) configuration, such as one with a different `lora.scale`.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if the file is no checkpoint of this kit, or does not fit the configuration.
    """
    path = checkpoint or run.checkpoint
    if not path.is_file():  # before the LLM is loaded
        raise FileNotFoundError(f"no checkpoint {path}; the run may not have reached its first checkpoint_every")
    stored = run.config()
    model = Salmonn(config or localize(stored.model), reading=reading(stored.data))
    console.print(f"{path}: {load_weights(model, path)}", soft_wrap=True)
    return model.eval()


def load_weights(model: Salmonn, path: Path, config: ModelConfig | None = None) -> Coverage:
    """Load the weights that learn from a checkpoint of this kit, or of the original SALMONN.

    Args:
        model: what they are for.
        path: the file.
        config: of the model that a checkpoint of this kit was trained in, where it is known.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is neither, or was trained with another bridge, LoRA or frozen part; the key is named.
    """
    loaded = read_plain(path)
    if "state_dict" in loaded:
        check_agreement(config, model.config, str(path))
        return model.load_checkpoint(loaded, str(path))
    if "model" not in loaded:
        raise ValueError(f"{path} is not a checkpoint of salmonn_lab")
    original = parse_original(loaded, str(path))
    check_agreement(described(original, model.config), model.config, str(path))
    return model.load_trainable_state(original.state(), str(path), ignored=original.leaked)


def described(original: Original, beside: ModelConfig) -> ModelConfig:
    """Return the model that a checkpoint of the original was trained in, its frozen parts those of another config."""
    return original_config(
        original,
        whisper="" if beside.whisper is None else beside.whisper.checkpoint,
        llm=beside.llm.checkpoint,
        beats="" if "audio" in original.streams else None,
        num_heads=beside.bridge.num_heads,
    )


def check_agreement(theirs: ModelConfig | None, mine: ModelConfig, source: str) -> None:
    """Refuse weights that were trained in a model of other keys than the config's.

    Raises:
        ValueError: names the keys, with both values.
    """
    if theirs is None:
        return
    known, wanted = trained_keys(theirs), trained_keys(mine)
    different = [
        f"{key}={known.get(key)}, the config says {wanted.get(key)}"
        for key in sorted(known.keys() | wanted.keys())
        if known.get(key) != wanted.get(key)
    ]
    if different:
        raise ValueError(f"{source} was trained with {'; with '.join(different)}")


def trained_keys(config: ModelConfig) -> dict[str, Any]:
    """Return what weights are tied to: the keys of bridge and LoRA that change what they mean, and the encoders."""
    bridge = dataclasses.asdict(config.bridge)
    bridge |= {"feedforward_dim": config.bridge.inner_dim, "stride_seconds": config.bridge.step_seconds}
    keys = {f"model.bridge.{key}": value for key, value in bridge.items() if key not in ("span", "dropout")}
    if config.lora is None:
        keys["model.lora"] = None
    else:
        lora = config.lora
        keys |= {"model.lora.rank": lora.rank, "model.lora.alpha": lora.alpha}
        keys["model.lora.targets"] = sorted(lora.targets)
    keys["model.whisper"] = "null" if config.whisper is None else "on"
    keys["model.audio_encoder"] = "null" if config.audio_encoder is None else "on"
    return keys


def initialize(model: Salmonn, source: str) -> Coverage:
    """Load the weights that `init_from` names: a run's folder, or a checkpoint; errors as in `load_weights`."""
    path = Path(revealed(source))
    if path.is_dir():
        run = find(path)
        return load_weights(model, run.checkpoint, run.config().model)
    return load_weights(model, path)


def with_dtype(config: RunConfig, dtype: Literal["auto", "float32", "bfloat16", "float16", "fastest"]) -> RunConfig:
    """Decide what `model.llm.dtype: fastest` leaves to the machine; other configurations are returned as they are."""
    if config.model.llm.dtype != "fastest":
        return config
    llm = dataclasses.replace(config.model.llm, dtype=dtype)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, llm=llm))


def with_stride(config: RunConfig) -> RunConfig:
    """The same configuration, the distance between windows being spelled out where it is the window's length."""
    bridge = config.model.bridge
    bridge = dataclasses.replace(bridge, stride_seconds=bridge.step_seconds)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, bridge=bridge))


def settle_precision(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a trainer, with a precision that its device has: a CPU takes float16 as float32, which is said."""
    settled = revealed(dict(options))
    asked = precision_of(settled)
    if asked != "16-mixed" or not on_cpu(settled):
        return settled
    say_once(f"trainer.precision={asked} is for GPUs: on this CPU it is 32-true (bf16-mixed would be another choice)")
    return {**settled, "precision": "32-true"}


def on_cpu(options: Mapping[str, Any]) -> bool:
    """Whether a trainer with these options runs on a CPU."""
    accelerator = options.get("accelerator") or "auto"
    elsewhere = torch.cuda.is_available() or torch.backends.mps.is_available()
    return bool(accelerator == "cpu" or (accelerator == "auto" and not elsewhere))


@cache
def say_once(text: str) -> None:
    """Print a line, once in this process; the first process of a run does."""
    if first_process():
        console.print(text, soft_wrap=True)


def localize(value: Value) -> Value:
    """Configuration with environment variables resolved and `asset:NAME` replaced by its folder, fetched if need be.

    Options of the trainer and the loggers stay as they are: what they hide is resolved where they are used.
    """
    value = replace_texts(value, revealed)
    texts: list[str] = []

    def note(text: str) -> str:
        texts.append(text)
        return text

    replace_texts(value, note)
    assets.fetch_referenced(texts)
    return replace_texts(value, assets.resolve)


def replace_texts(value: Value, replace: Callable[[str], str]) -> Value:
    """Return a configuration with `replace` applied to every text in it."""
    result: Any = value
    if isinstance(value, str):
        result = replace(value)
    elif isinstance(value, list):
        result = [replace_texts(item, replace) for item in value]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [entry.name for entry in dataclasses.fields(value)]
        result = dataclasses.replace(value, **{name: replace_texts(getattr(value, name), replace) for name in names})
    return cast(Value, result)


def environment() -> dict[str, Any]:
    """Return code version, library versions and hardware."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "salmonn_lab": version("salmonn-lab"),
        "git": git_revision(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "hardware": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpus": gpus,
        },
    }


def peak_memory_gib() -> float:
    """Return the most memory that this process has held so far."""
    unit = 1 if platform.system() == "Darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)


def git_revision() -> str | None:
    """Return the commit of the code, marked where files differ from it; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """Return the name of the CPU."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def file_hash(path: Path) -> str:
    """Return a file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
