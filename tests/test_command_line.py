"""Command lines: what each command says before the libraries of models are imported, and how keys may be written."""

import subprocess
import sys
from pathlib import Path

import pytest
from samples import few_fast

import salmonn_lab
from salmonn_lab import command_line, known
from salmonn_lab.command_line import COMMANDS, RANK_KEYS, check_fit, parse_fit
from salmonn_lab.config import load_config
from salmonn_lab.explain import docstrings, explain, keys, lines
from salmonn_lab.library_options import CSV, trainer_options

HEAVY = ("torch", "lightning", "transformers", "datasets", "torchaudio", "torchmetrics", "peft")
TINY = str(Path(__file__).parents[1] / "configs" / "tiny.yaml")
RUN_IT = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(".".join(filter(None, ("salmonn_lab", sys.argv[0]))), run_name="__main__", alter_sys=False)
except SystemExit as end:
    print("code", end.code or 0)
print("imported", *(name for name in %r if name in sys.modules))
"""


def run(command: str, *words: str) -> tuple[int, str, list[str]]:
    """Exit code of a command in a process of its own, what it printed, and which large libraries it imported."""
    program = RUN_IT % (HEAVY,)
    ended = subprocess.run([sys.executable, "-c", program, command, *words], capture_output=True, text=True, check=True)
    *printed, imported = ended.stdout.splitlines()
    code = int(printed.pop().split()[1]) if printed and printed[-1].startswith("code ") else 0
    return code, "\n".join([*printed, ended.stderr]), imported.split()[1:]


@pytest.mark.parametrize("command", few_fast(["", "fit", *sorted({*COMMANDS} - {"tiny", "fit"})], 2))
def test_help_imports_no_large_library(command: str) -> None:
    code, printed, imported = run(command, "--help")
    assert code == 0
    assert f"salmonn_lab.{command or 'COMMAND'}" in printed
    assert imported == []


@pytest.mark.parametrize(
    ("words", "said"),
    few_fast(
        [
            (("fit",), "configs/quickstart.yaml"),
            (("fit", "--config", "nowhere.yaml"), "no config file nowhere.yaml"),
            (("fit", "--config", TINY, "model.bridge.levle=window"), "Did you mean 'level'?"),
            (("fit", "--config", TINY, "--trainer.max_step=3"), "Did you mean 'max_steps'?"),
            (("fit", "--config", TINY, "trainer.max_steps=''"), "trainer.max_steps takes a whole number, got ''"),
            (("fit", "--config", TINY, "benchmarks=[asterix]"), "Key 'benchmarks' not in 'RunConfig'"),
            (("fit", "--config", TINY, "evaluation.benchmarks=asterix"), "Did you mean 'asterisk'?"),
            (("fit", "--config", TINY, "data.sources=[{manifest: absent.jsonl}]"), "absent.jsonl: no such manifest"),
            (("fit", "--config", TINY, "init_from=${oc.env:NO_SUCH}"), "Environment variable 'NO_SUCH' not found"),
            (("fit", "--config", TINY, "evaluation.benchmarks=absent.jsonl"), "absent.jsonl: no such manifest"),
            (("fit", "--explain", "max_steps"), "Did you mean trainer.max_steps?"),
            (("evaluate", "--run", "nowhere"), "nowhere is not a run"),
            (("infer", "--run", "nowhere", "a.wav", "What?"), "nowhere is not a run"),
            (("report", "nowhere"), "nowhere is not a run"),
            (("vary", "--run", "nowhere"), "nowhere is not a run"),
            (("activate", "--run", "nowhere", "--clips", "a.jsonl", "--out", "b"), "nowhere is not a run"),
            (("encode", "--config", TINY), "features is null"),
            (("encode",), "configs/quickstart.yaml"),
            (("sweep", "nowhere"), "nowhere is no experiment"),
            (("convert", "nowhere.pth", "runs/a", "--llm", "b"), "there is no nowhere.pth"),
            (("prepare", "librispech", "--root", "."), "Did you mean 'librispeech'?"),
            (("prepare", "librispeech", "--root", "nowhere"), "nowhere is not a folder"),
            (("prepare", "hub", "nowhere.yaml"), "there is no nowhere.yaml"),
            (("benchmarks", "asterix"), "Did you mean 'asterisk'?"),
            (("assets", "yamnt"), "Did you mean 'yamnet'?"),
            (("", "fit"), "there is no command here"),
        ],
        3,
    ),
    ids=lambda value: "_".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_mistake_is_said_before_any_large_library_is_imported(words: tuple[str, ...], said: str) -> None:
    code, printed, imported = run(*words)
    assert code == 2
    assert said in printed
    assert "Traceback" not in printed
    assert imported == []


def test_the_package_lists_every_command_with_what_it_does() -> None:
    folder = Path(salmonn_lab.__file__).parent
    ran = {path.stem for path in folder.glob("[a-z]*.py") if "run_command(main" in path.read_text()}
    ran |= {path.parent.name for path in folder.glob("*/__main__.py")} | {"tiny"}
    assert set(COMMANDS) == ran - {"probe"}, "a process of sweep's estimate, not for people"
    assert all(5 <= len(does.split()) <= 9 for does in COMMANDS.values())


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.max_steps=3", "seed=1"],
        ["--trainer.max_steps=3", "--seed=1"],
        ["--trainer.max_steps", "3", "--seed", "1"],
        ["--trainer.max_steps", "3", "--resume", "seed=1"],
    ],
)
def test_keys_may_be_written_like_options(words: list[str]) -> None:
    assert sorted(parse_fit(["--config", TINY, *words]).overrides) == ["seed=1", "trainer.max_steps=3"]


def test_a_key_without_a_value_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_fit(["--config", TINY, "--trainer.max_steps"])
    assert "give its value, as in trainer.max_steps=VALUE" in capsys.readouterr().err


def test_every_key_says_what_it_means() -> None:
    assert [key.name for key in keys() if not key.meaning] == []
    meanings = docstrings(type(load_config().optim))
    assert meanings["warmup_steps"] == "Optimizer steps over which the rate rises to its peak."


def test_explain_tells_type_default_limits_and_meaning() -> None:
    (key,) = explain("optim.lr")
    assert list(lines([key])) == ["optim.lr = 3e-05  (number; must be above 0)", "    Peak rate of the bridge."]
    (key,) = explain("model.bridge.level")
    assert (key.kind, key.default) == ("window | sequence", "window")
    (key,) = explain("trainer.max_epochs")
    assert key.meaning.startswith("Stop training once this number of epochs is reached.")
    assert {"model.lora.rank", "model.lora.targets"} <= {key.name for key in explain("model.lora")}
    assert [key.name for key in explain("data.sources[0].manifest")] == ["data.sources[].manifest"]
    with pytest.raises(ValueError, match=r"there is no key max_steps\. Did you mean trainer\.max_steps\?"):
        explain("max_steps")


def test_what_is_known_of_libraries_and_tables_without_importing_them_is_what_they_are() -> None:
    import inspect

    from lightning import Trainer

    from salmonn_lab.benchmarks import BENCHMARKS
    from salmonn_lab.data.corpora.readers import CORPORA
    from salmonn_lab.experiment import SWEEP_FILE
    from salmonn_lab.library_options import RESERVED
    from salmonn_lab.runs import CONFIG
    from salmonn_lab.slurm import PARAMETERS
    from salmonn_lab.training.metrics_csv import MetricsCsv

    assert tuple(BENCHMARKS) == known.BENCHMARKS
    assert tuple(CORPORA) == known.CORPORA
    assert {*trainer_options(), *RESERVED} == set(inspect.signature(Trainer).parameters)
    assert {"folder", *CSV} == set(inspect.signature(MetricsCsv).parameters)
    assert tuple(PARAMETERS) == command_line.SLURM_PARAMETERS
    assert (CONFIG, SWEEP_FILE) == (command_line.CONFIG, command_line.SWEEP_FILE)


@pytest.mark.parametrize(("rank", "refused"), [(None, True), ("0", True), ("1", False)])
def test_the_further_processes_of_a_run_find_the_folder_that_the_first_has_made(
    rank: str | None, refused: bool, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in RANK_KEYS:
        monkeypatch.delenv(key, raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    if refused:
        with pytest.raises(FileExistsError, match="holds a run: continue it with --resume"):
            check_fit(["--config", str(settings)])
    else:
        assert check_fit(["--config", str(settings)]).overrides == []
