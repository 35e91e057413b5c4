"""The command of activation tuning (paper, section 4.3): a run tells stories, and is trained on twelve of them."""

from __future__ import annotations

from salmonn_lab import command_line

if __name__ == "__main__":
    command_line.check(command_line.check_activate)

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from salmonn_lab import runs
from salmonn_lab.batch import Example, Prediction
from salmonn_lab.config import RunConfig
from salmonn_lab.console import console, progress, run_command
from salmonn_lab.data.config import DataConfig, SourceConfig
from salmonn_lab.data.manifest import read_manifest, write_manifest
from salmonn_lab.data.modules import Benchmark
from salmonn_lab.evaluate import data_module
from salmonn_lab.fit import fit
from salmonn_lab.metrics.health import find_words, symptoms
from salmonn_lab.model.config import DecodingConfig
from salmonn_lab.progress import quiet_libraries

TASK = "audio_story_telling"


def tell_stories(
    run: runs.Run, clips: Iterable[Example], *, scale: float, count: int, shortest: int, decoding: DecodingConfig
) -> Iterator[tuple[Example, Prediction]]:
    """Yield clips with the story that the run tells about each, until `count` are long and sound enough.

    Args:
        run: of stage 2.
        clips: what the stories are about; tasks and targets do not matter.
        scale: of LoRA; the published one is 4, and at about 2 the paper's model begins to tell stories.
        count: stories to keep.
        shortest: words of a story that is kept.
        decoding: how they are generated.
    """
    config = runs.localize(run.config())
    model = runs.load_model(run)
    model.llm.set_lora_scale(scale)
    model.decoding = decoding
    data = data_module(config, model)
    kept = 0
    for clip in clips:
        asked = dataclasses.replace(clip, task=TASK, target="", references=())
        for index, batch in enumerate(data.predict_loader(Benchmark([asked]))):
            for prediction in model.predict_step(batch, index):
                told = dataclasses.replace(prediction, references=())
                if len(find_words(told.text)) >= shortest and not symptoms(told):
                    yield clip, told
                    kept += 1
        if kept == count:
            return


def activation_config(run: runs.Run, stories: Path, folder: Path, count: int) -> RunConfig:
    """Return a run's configuration, changed to train `count` steps of one story each, from the run's weights."""
    config = run.config()
    data = dataclasses.replace(
        config.data,
        sources=[SourceConfig(str(stories))],
        validation=[],
        max_batch_size=1,
        batch_budget=DataConfig().batch_budget,
    )
    optim = dataclasses.replace(config.optim, warmup_steps=0, align_steps=0, min_lr=config.optim.lr)
    trainer = {key: value for key, value in config.trainer.items() if key not in ("max_epochs", "val_check_interval")}
    return dataclasses.replace(
        config,
        data=data,
        optim=optim,
        trainer=trainer | {"max_steps": count, "accumulate_grad_batches": 1},
        init_from=str(run.folder),
        out_dir=str(folder),
    )


def activate(
    run: runs.Run, clips: Path, folder: Path, *, scale: float, count: int, shortest: int, tokens: int
) -> runs.Run:
    """Write `stories.jsonl` into a folder, unless it is there, and train there on the stories.

    Raises:
        ValueError: too few stories were long and sound enough; what was told is in the message.
    """
    stories = folder / "stories.jsonl"
    if not stories.is_file():
        told = []
        examples = read_manifest(clips)
        decoding = DecodingConfig(max_new_tokens=tokens, num_beams=4)
        with progress() as bar:
            task = bar.add_task("telling stories", total=count)
            for clip, story in tell_stories(
                run, examples, scale=scale, count=count, shortest=shortest, decoding=decoding
            ):
                told.append(dataclasses.replace(clip, task=TASK, target=story.text, references=()))
                bar.advance(task)
        if len(told) < count:
            raise ValueError(
                f"of {len(examples)} clips only {len(told)} gave a story of {shortest} words or more without a loop or "
                f"refusal, and with an end, at a LoRA scale of {scale:g}; {count} are needed: try another "
                "--lora-scale, a smaller --min-words, a larger --max-new-tokens, or more clips"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_manifest(stories, told)
    else:
        told_before = "is there already: no story is told, whatever clips, scale and lengths are asked for"
        console.print(f"{stories} {told_before}", soft_wrap=True)
    return fit(activation_config(run, stories, folder, count))


def main() -> None:
    """Run the command."""
    quiet_libraries()
    options = command_line.check_activate(sys.argv[1:])
    activated = activate(
        runs.find(options.run),
        options.clips,
        options.out,
        scale=options.lora_scale,
        count=options.stories,
        shortest=options.min_words,
        tokens=options.max_new_tokens,
    )
    console.print(f"activated: {activated.folder}")


if __name__ == "__main__":
    run_command(main)
