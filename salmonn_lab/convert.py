"""The command that turns checkpoints of the original SALMONN into runs, and back: `python -m salmonn_lab.convert`."""

from __future__ import annotations

from salmonn_lab import command_line

if __name__ == "__main__":
    command_line.check(command_line.check_convert)

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from salmonn_lab import runs
from salmonn_lab.config import RunConfig, to_yaml
from salmonn_lab.console import console, run_command
from salmonn_lab.files import write_atomically
from salmonn_lab.model.checkpoint import Coverage, read_original, to_original
from salmonn_lab.model.config import ModelConfig
from salmonn_lab.model.fingerprint import hash_weights
from salmonn_lab.model.pretrained import check_weights
from salmonn_lab.plain import read_plain
from salmonn_lab.progress import quiet_libraries
from salmonn_lab.salmonn import STATE_HASH, Salmonn, original_config

ORIGINAL = "original"
"""The key of a converted checkpoint that keeps what only the original needs: its configuration, and what it leaked."""


def import_original(
    source: Path, folder: Path, *, whisper: str, llm: str, beats: str | None, num_heads: int = 12
) -> Coverage:
    """Write a run that `evaluate`, `infer` and `fit init_from=` take, from a checkpoint of the original.

    Shapes are checked against the frozen parts' configurations; their weights are not read.

    Raises:
        FileExistsError: the folder holds a run.
        ValueError: the file is no SALMONN checkpoint, or does not fit the parts; the tensors are named.
    """
    if (folder / runs.CONFIG).exists():
        raise FileExistsError(f"{folder} holds a run; choose another --out")
    original = read_original(source)
    model = original_config(original, whisper=whisper, llm=llm, beats=beats, num_heads=num_heads)
    skeleton = Salmonn.skeleton(runs.localize(model))
    coverage = skeleton.coverage(original.state(), original.leaked)
    coverage.check(str(source))
    run = runs.Run(folder)
    kept = {"config": dict(original.config), "leaked": dict(original.leaked), "epoch": original.epoch}
    state = original.state()
    content = {"state_dict": state, "frozen": {}, STATE_HASH: hash_weights(state), "global_step": 0, ORIGINAL: kept}
    save(content, run.checkpoint)
    write_atomically(run.config_file, to_yaml(RunConfig(model=model, out_dir=str(folder))))
    run.record(converted_from={"file": str(source), "sha256": runs.file_hash(source)}, **runs.environment())
    return coverage


def export_original(run: runs.Run, target: Path) -> int:
    """Write a run's weights as a checkpoint of the original; return how many tensors it holds.

    A run that was imported gives back every tensor, bit for bit. The state of the optimizer is not exported.
    """
    config, loaded = run.config().model, read_plain(run.checkpoint)
    state, kept = loaded.get("state_dict"), loaded.get(ORIGINAL, {})
    if not isinstance(state, Mapping) or not isinstance(kept, Mapping):
        raise ValueError(f"{run.checkpoint} is not a checkpoint of salmonn_lab")
    check_weights(state, str(run.checkpoint))
    streams = tuple(
        name for name, part in (("speech", config.whisper), ("audio", config.audio_encoder)) if part is not None
    )
    model = {to_original(name, streams): weight for name, weight in state.items()}  # type: ignore[arg-type]
    content = {
        "model": model | kept.get("leaked", {}),
        "optimizer": {},
        "config": kept.get("config") or describe(config),
        "scaler": None,
        "epoch": kept.get("epoch", 0),
    }
    save(content, target)
    return len(content["model"])


def describe(config: ModelConfig) -> dict[str, Any]:
    """Return the `model` part of the original's configuration that makes the same model.

    Raises:
        ValueError: the original has no such model; the keys are named.
    """
    bridge, audio, lora = config.bridge, config.audio_encoder, config.lora
    ours = {
        "model.bridge.output_scale": bridge.output_scale != "none",
        "model.bridge.span": bridge.span != "thirty_seconds",
        "model.whisper": config.whisper is None,
        "model.audio_encoder.kind": audio is not None and audio.kind != "beats",
    }
    if any(ours.values()):
        names = ", ".join(name for name, ours_alone in ours.items() if ours_alone)
        raise ValueError(f"the original SALMONN has no model with these settings: {names}")
    return {
        "llama_path": config.llm.checkpoint,
        "whisper_path": config.whisper.checkpoint if config.whisper else "",
        "beats_path": audio.checkpoint if audio else "",
        "num_speech_query_token": bridge.num_queries,
        "window_level_Qformer": bridge.level == "window",
        "second_per_window": bridge.window_seconds,
        "second_stride": bridge.step_seconds,
        "lora": lora is not None,
        "prompt_template": config.llm.prompt_template,
        **({} if lora is None else {"lora_rank": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}),
    }


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a kill or a full disk leaves no torn one under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    """Run the command."""
    quiet_libraries()
    options = command_line.check_convert(sys.argv[1:])
    if options.source.is_dir():
        count = export_original(runs.find(options.source), options.target)
        console.print(f"{options.target}: {count} tensors")
        return
    if options.llm is None:
        raise ValueError("--llm names the language model that the checkpoint was trained with")
    coverage = import_original(
        options.source,
        options.target,
        whisper=options.whisper,
        llm=options.llm,
        beats=options.beats,
        num_heads=options.num_heads,
    )
    console.print(f"{options.target}: {coverage}")


if __name__ == "__main__":
    run_command(main)
