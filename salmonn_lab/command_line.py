"""The command lines of the commands: what each takes, and what it refuses before the libraries of models are imported.

Those take seconds to import, so a command's file opens with `check(...)`, which ends it where the command line is wrong
or asks for nothing that needs them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import takewhile
from pathlib import Path
from typing import NoReturn, get_args

from salmonn_lab.config import RunConfig, check_references, load_config, load_stored, revealed, to_yaml
from salmonn_lab.console import console, run_command
from salmonn_lab.data.config import Heard, SourceConfig
from salmonn_lab.explain import explain, lines
from salmonn_lab.known import check_benchmarks

COMMANDS = {
    "fit": "trains a run and measures it on benchmarks",
    "evaluate": "measures trained runs on benchmarks, or rescores answers",
    "infer": "asks a run a question about audio files",
    "report": "writes reports of runs, comparisons and experiments",
    "sweep": "lists and does the runs of an experiment",
    "vary": "measures runs at other LoRA scales or without audio",
    "encode": "fills the feature store with encoded clips",
    "prepare": "turns corpora and hub datasets into manifests",
    "convert": "reads and writes checkpoints of the original SALMONN",
    "activate": "trains a run on stories that it tells",
    "benchmarks": "lists benchmarks and whether their data is here",
    "assets": "lists and fetches the pinned weights and data",
    "tiny": "writes miniature checkpoints for tests and trials",
}
"""What each command does."""
CONFIG, SWEEP_FILE = "config.yaml", "sweep.py"
PLAYERS = 50
RANK_KEYS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables that number the processes of a run, the first that is set counts (Lightning's order)."""
STORIES = 12
"""How many the paper trains on, one step each."""
SLURM_PARAMETERS = ("partition", "account", "qos", "constraint", "time", "gpus", "cpus", "mem")
KEY = re.compile(r"--([a-z][a-z_0-9]*(?:\.\w+)*)(=.*)?", re.DOTALL)


def check(read: Callable[[list[str]], object]) -> None:
    """Read the command line of this process; what is wrong with it ends the process, with one line and exit code 2."""
    run_command(lambda: ignore(read(sys.argv[1:])))


def ignore(_: object) -> None:
    """Do nothing: what was read is read again by the command."""


def parser_of(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Parser of a command."""
    return argparse.ArgumentParser(prog=f"python -m salmonn_lab.{command}", description=description, epilog=epilog)


def add_config(parser: argparse.ArgumentParser, example: str) -> None:
    """Let a parser take YAML files and overrides."""
    parser.add_argument("--config", action="append", default=[], metavar="FILE", help="a YAML file; repeat to merge")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"dotted keys, such as {example}")


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Options of a command line, in which keys may also be written `--trainer.max_steps=3` or with the value apart."""
    known = {option for action in parser._actions for option in action.option_strings}
    sections = {entry.name for entry in fields(RunConfig)} | {"benchmarks"}
    words: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        match = KEY.fullmatch(word)
        if match is None or word.partition("=")[0] in known or match[1].partition(".")[0] not in sections:
            words.append(word)
        elif match[2] is not None:
            words.append(word.removeprefix("--"))
        elif left and (not left[0].startswith("--")):
            words.append(f"{match[1]}={left.pop(0)}")
        else:
            parser.error(f"{word} is a key of the configuration: give its value, as in {match[1]}=VALUE")
    return parser.parse_intermixed_args(words)


def require_run(folder: Path) -> None:
    """Refuse a folder that holds no run.

    Raises:
        FileNotFoundError: it has no config.yaml.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} is not a run: it has no {CONFIG}")


def require_sources(config: RunConfig) -> None:
    """Refuse manifests of the training data that are not there, as far as that is known without reading them.

    Raises:
        ValueError: names the manifest.
    """
    sources: list[SourceConfig] = [*config.data.sources, *config.data.validation]
    for manifest in (revealed(source.manifest) for source in sources):
        if not manifest.startswith(("asset:", "data:")) and not Path(manifest).is_file():
            raise ValueError(f"{manifest}: no such manifest")


def shipped_configs() -> list[Path]:
    """Configurations that may be named: those of the working folder, or of the checkout."""
    for folder in (Path("configs"), Path(__file__).parents[1] / "configs"):
        if found := sorted(folder.glob("*.yaml")):
            return found
    return []


def say_usage(parser: argparse.ArgumentParser) -> NoReturn:
    """End a command that needs a configuration and was given none: its usage, and the configurations that there are."""
    parser.print_usage(sys.stderr)
    console.print("--config names what to run. There are:" if shipped_configs() else "--config names what to run.")
    for path in shipped_configs():
        header = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        sentence = " ".join(line.lstrip("# ") for line in header).partition(". ")[0].rstrip(".")
        console.print(f"  {path}  {sentence}", markup=False, soft_wrap=True)
    sys.exit(2)


def parse_fit(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of `fit`."""
    parser = parser_of(
        "fit",
        "Train a run and measure it on benchmarks, before and after.",
        "Example: python -m salmonn_lab.fit --config configs/quickstart.yaml model.bridge.level=sequence",
    )
    add_config(parser, "model.lora=null")
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration and stop")
    parser.add_argument(
        "--explain", nargs="?", const="", metavar="KEY", help="print what keys mean, with types and defaults, and stop"
    )
    parser.add_argument(
        "--estimate",
        type=float,
        nargs="?",
        const=10.0,
        metavar="SECONDS",
        help="print weights, memory, tokens and operations for clips of so many seconds (default: 10), and stop",
    )
    parser.add_argument("--check-data", action="store_true", help="read every manifest and audio header and stop")
    parser.add_argument("--resume", action="store_true", help="continue the run in out_dir from its last checkpoint")
    parser.add_argument("--wait", action="store_true", help="wait where another process is at work on the run")
    options = parsed(parser, arguments)
    if options.explain is not None and "=" in options.explain:  # an override that follows it
        options.overrides, options.explain = [options.explain, *options.overrides], ""
    stops = options.print_config or options.explain is not None or options.estimate is not None
    if not options.config and not stops:
        say_usage(parser)
    return options


def check_fit(arguments: Sequence[str]) -> argparse.Namespace:
    """End `fit` where its command line or configuration is wrong, or where it is to print keys alone."""
    options = parse_fit(arguments)
    if options.explain is not None:
        for line in lines(explain(options.explain or None)):
            print(line)
        sys.exit(0)
    config = load_config(options.config, options.overrides)
    if options.print_config:
        print(to_yaml(config), end="")
        sys.exit(0)
    if options.estimate is None:
        check_references(config)
        check_benchmarks(config.evaluation.benchmarks)
        if not options.check_data:
            require_sources(config)
            folder = Path(revealed(config.out_dir))
            if (folder / CONFIG).is_file() and not options.resume and is_first_process():
                raise FileExistsError(f"{folder} holds a run: continue it with --resume, or choose another out_dir=...")
    return options


def is_first_process() -> bool:
    """Whether this is the process of a run that makes its folder: Lightning starts the others with the same words."""
    ranks = [os.environ[key] for key in RANK_KEYS if key in os.environ]
    return not ranks or ranks[0] == "0"


def parse_evaluate(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of `evaluate`."""
    parser = parser_of(
        "evaluate",
        "Measure trained runs on benchmarks; predictions, scores and report land in each run's folder, or "
        "in one of its variants/ where another checkpoint or other settings are asked for. What is answered already is "
        "kept: a call that was stopped goes on where it was.",
        "Example: python -m salmonn_lab.evaluate --run runs/quickstart benchmarks=[asterisk]",
    )
    parser.add_argument("--run", required=True, action="append", type=Path, help="a run's folder; repeat for several")
    parser.add_argument("--checkpoint", type=Path, help="another checkpoint than the run's last.ckpt")
    parser.add_argument("--again", action="store_true", help="answer anew what is complete")
    parser.add_argument("--wait", action="store_true", help="wait where another process is at work on the run")
    parser.add_argument(
        "--rescore",
        action="store_true",
        help="score the predictions that are there, without a model; --run may name one of a run's variants/",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="benchmarks=[NAME or MANIFEST, ...], model.lora.scale=2.0, evaluation.audio=mute, trainer.devices=2",
    )
    options = parsed(parser, arguments)
    if options.again and options.rescore:
        parser.error("--again answers anew, --rescore does not answer: choose one")
    if options.checkpoint and len(options.run) > 1:
        parser.error("--checkpoint is one run's: give one --run with it")
    return options


def check_evaluate(arguments: Sequence[str]) -> argparse.Namespace:
    """End `evaluate` where its command line, or the only run that it names, is wrong."""
    options = parse_evaluate(arguments)
    if len(options.run) > 1:  # what is wrong with one of several does not keep the others from being measured
        return options
    if not options.rescore:
        check_measured(options.run[0], options.overrides)
        if options.checkpoint is not None and not options.checkpoint.is_file():
            raise FileNotFoundError(f"no checkpoint {options.checkpoint}")
    return options


def check_measured(folder: Path, overrides: Sequence[str]) -> None:
    """Refuse a folder that is no run, and overrides that its configuration does not take."""
    require_run(folder)
    check_benchmarks(load_stored(folder / CONFIG, full_keys(overrides)).evaluation.benchmarks)


def full_keys(overrides: Sequence[str]) -> list[str]:
    """Overrides as `load_config` takes them: the commands that measure take `benchmarks=` for short."""
    return [f"evaluation.{key}" if key.startswith("benchmarks=") else key for key in overrides]


def parse_vary(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of `vary`."""
    parser = parser_of(
        "vary",
        "Measure trained runs at other scales of LoRA, and with silence, noise, other clips or one encoder "
        "fewer in place of what they hear. Nothing is trained; what is answered already is kept. Results land in each "
        "run's variants/, the report that compares them in --out.",
        "Example: python -m salmonn_lab.vary --run runs/quickstart benchmarks=[quickstart_sounds]",
    )
    parser.add_argument("--run", required=True, action="append", type=Path, help="a run's folder; repeat for its seeds")
    parser.add_argument(
        "--scales", type=float, nargs="*", help="of LoRA; default: 0, 1/4, 1/2, 3/4, 5/4 of alpha / rank"
    )
    parser.add_argument(
        "--audio", choices=[one for one in get_args(Heard) if one != "clip"], nargs="*", help="default: all"
    )
    parser.add_argument("--wait", action="store_true", help="wait where another process is at work on a run")
    parser.add_argument("--out", type=Path, help="folder of the report; default: the run's variants/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="benchmarks=[NAME or MANIFEST, ...]")
    options = parsed(parser, arguments)
    if len(options.run) > 1 and options.out is None:
        parser.error("with several runs, --out must say where the report of them goes")
    return options


def check_vary(arguments: Sequence[str]) -> argparse.Namespace:
    """End `vary` where its command line, or a run that it names, is wrong."""
    options = parse_vary(arguments)
    for folder in options.run:
        check_measured(folder, options.overrides)
    return options


def parse_encode(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of `encode`."""
    parser = parser_of(
        "encode",
        "Encode every clip of a config (training at each speed, validation, benchmarks) into its feature "
        "store; what is there already is not encoded again, and a command that was stopped goes on.",
        "Example: python -m salmonn_lab.encode --config configs/quickstart.yaml features=runs/features",
    )
    add_config(parser, "features_dtype=bfloat16")
    parser.add_argument("--estimate", action="store_true", help="print the size of all clips' frames and stop")
    parser.add_argument("--verify", action="store_true", help="read all audio again, in case files changed unnoticed")
    parser.add_argument("--prune", action="store_true", help="remove what neither this config nor a --keep needs")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="FILE", help="with --prune: a run's config.yaml; may be repeated"
    )
    options = parsed(parser, arguments)
    if options.keep and not options.prune:
        raise ValueError("--keep says what --prune leaves; give both")
    if not options.config:
        say_usage(parser)
    return options


def check_encode(arguments: Sequence[str]) -> argparse.Namespace:
    """End `encode` where its command line or configuration is wrong."""
    options = parse_encode(arguments)
    config = load_config(options.config, options.overrides)
    for file in options.keep:
        load_config([file])
    if config.features is None and not options.estimate:
        raise ValueError("features is null: name the folder of the feature store, such as features=runs/features")
    check_benchmarks(config.evaluation.benchmarks)
    require_sources(config)
    return options


def parse_activate(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of `activate`."""
    parser = parser_of(
        "activate",
        "Activation tuning: a run tells long stories at a reduced LoRA scale, and trains a step on each.",
        "Example: python -m salmonn_lab.activate --run runs/stage2 --clips clips.jsonl --out runs/stage3",
    )
    parser.add_argument("--run", required=True, help="the run to activate")
    parser.add_argument("--clips", type=Path, required=True, help="a manifest of clips to tell stories about")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the new run")
    parser.add_argument("--lora-scale", type=float, default=2.0, help="while telling (default: 2.0)")
    parser.add_argument("--stories", type=int, default=STORIES, help=f"how many, and steps (default: {STORIES})")
    parser.add_argument("--min-words", type=int, default=50, help="of a story that is kept (default: 50)")
    parser.add_argument("--max-new-tokens", type=int, default=300, help="of a story (default: 300)")
    return parser.parse_args(arguments)


def check_activate(arguments: Sequence[str]) -> argparse.Namespace:
    """End `activate` where its command line names no run or no manifest."""
    options = parse_activate(arguments)
    require_run(Path(options.run))
    if not options.clips.is_file():
        raise ValueError(f"{options.clips}: no such manifest")
    return options


def parse_sweep(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of `sweep`."""
    parser = parser_of(
        "sweep",
        "List an experiment's runs and what they take; with --run, do those that are missing. Listing runs the "
        "experiment's sweep.py, which is Python, and those of no other folder.",
        "Example: python -m salmonn_lab.sweep experiments/bridge_level --run --jobs 2",
    )
    parser.add_argument("experiment", type=Path, help="a folder with a sweep.py")
    parser.add_argument("--run", action="store_true", help="do what is missing; after any stop, again")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument("--only", metavar="PATTERN", help="runs whose name fits, such as '*seed=0'")
    parser.add_argument("--retry-failed", action="store_true", help="do those that failed, too")
    parser.add_argument("--print", action="store_true", help="print the commands of the runs that are to do, and stop")
    parser.add_argument(
        "--slurm",
        metavar="KEY=VALUE,...",
        help=f"put them into Slurm's queue as one array: {', '.join(SLURM_PARAMETERS)}; cluster=local does it here",
    )
    parser.add_argument("--no-probe", action="store_true", help="do not train for some seconds to estimate the time")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    return options


def check_sweep(arguments: Sequence[str]) -> argparse.Namespace:
    """End `sweep` where its command line names no experiment."""
    options = parse_sweep(arguments)
    if not (options.experiment / SWEEP_FILE).is_file():
        raise FileNotFoundError(f"{options.experiment} is no experiment: it has no {SWEEP_FILE}")
    return options


def parse_report(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of `report`."""
    parser = parser_of(
        "report",
        "Write report.json, .html, .md, .tex and .csv of a run's predictions; no model is loaded. Of an experiment, "
        "its sweep.py, which is Python, is run.",
        "Example: python -m salmonn_lab.report runs/quickstart runs/sequence",
    )
    parser.add_argument("run", type=Path, help="a run's folder, one of its variants/, or an experiment with a sweep.py")
    parser.add_argument("other", type=Path, nargs="?", help="another run, to compare on the items that both answered")
    parser.add_argument("--players", type=int, default=PLAYERS, help=f"clips in the page (default: {PLAYERS})")
    return parser.parse_args(arguments)


def check_report(arguments: Sequence[str]) -> argparse.Namespace:
    """End `report` where its command line names neither a run nor an experiment."""
    options = parse_report(arguments)
    if not (options.run / SWEEP_FILE).is_file():
        for folder in filter(None, (options.run, options.other)):
            inside = folder.parent.name == "variants" and not (folder / CONFIG).is_file()
            require_run(folder.parents[1] if inside else folder)
    return options


def parse_convert(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of `convert`."""
    parser = parser_of(
        "convert",
        "Turn a checkpoint of the original SALMONN into a run that evaluate, infer and fit take, or a run "
        "into such a checkpoint.",
        "Example: python -m salmonn_lab.convert salmonn_v1.pth runs/salmonn_13b --llm lmsys/vicuna-13b-v1.1 "
        "--beats BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt. "
        "Back: python -m salmonn_lab.convert runs/salmonn_13b salmonn.pth",
    )
    parser.add_argument("source", type=Path, help="a .pth of the original, or a run's folder")
    parser.add_argument("target", type=Path, help="the run's folder to make, or the .pth to write")
    parser.add_argument("--whisper", default="openai/whisper-large-v2", help="folder, hub name or asset:NAME")
    parser.add_argument("--llm", help="folder, hub name or asset:NAME; needed to make a run")
    parser.add_argument("--beats", help="the BEATs file, where the checkpoint was trained with it")
    parser.add_argument("--num-heads", type=int, default=12, help="attention heads of the Q-Former (default: 12)")
    return parser.parse_args(arguments)


def check_convert(arguments: Sequence[str]) -> argparse.Namespace:
    """End `convert` where its command line names no source, or lacks the language model."""
    options = parse_convert(arguments)
    if options.source.is_dir():
        require_run(options.source)
    elif not options.source.is_file():
        raise FileNotFoundError(f"there is no {options.source}")
    elif options.llm is None:
        raise ValueError("--llm names the language model that the checkpoint was trained with")
    return options
