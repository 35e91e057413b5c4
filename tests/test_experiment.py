"""What an experiment asks for: its runs, their names, and which stored run is the one that is meant."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from salmonn_lab import command_line, runs
from salmonn_lab import experiment as experiments
from salmonn_lab.assets import find_ready
from salmonn_lab.assets.table import ASSETS
from salmonn_lab.benchmarks import BENCHMARKS
from salmonn_lab.command_line import full_keys
from salmonn_lab.config import load_config, to_yaml
from salmonn_lab.data.corpora.readers import CORPORA, manifest_name
from salmonn_lab.experiment import (
    Experiment,
    Planned,
    Stored,
    Sweep,
    assignments,
    grid,
    load_experiment,
    stored_folders,
)
from salmonn_lab.jobs import state_of
from salmonn_lab.known import check_benchmarks

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted(path.parent for path in (ROOT / "experiments").glob("*/sweep.py"))
SEEDS = {"seed": [0, 1]}
OF_THE_AUTHORS = ("salmonn_stage1_data.json", "salmonn_stage2_data.json", "runs/stage3/stories.jsonl")
"""Manifests that the headers of configs say where to get."""


def write(
    folder: Path,
    runs: str,
    baseline: str = "{'model.bridge.num_queries': 1}",
    question: str = "How many?",
    base: str = "",
) -> Path:
    """Write an experiment over a config of two lines."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.yaml").write_text("checkpoint_every: 7\nmodel: {bridge: {hidden_dim: 96}}\n")
    base = base or str(folder / "base.yaml")
    (folder / "sweep.py").write_text(
        f'"""{question}"""\nfrom salmonn_lab.experiment import Sweep, grid\n'
        f"SWEEP = Sweep(base={base!r}, baseline={baseline}, runs={runs})\n"
    )
    return folder


QUERIES = "grid({'model.bridge.num_queries': [1, 2], 'seed': [0, 1]})"


def store(planned: Planned, overrides: Sequence[str] = (), *, folder: Path | None = None, done: bool = True) -> Path:
    """Write a run as `fit` leaves it."""
    folder = folder or planned.folder
    folder.mkdir(parents=True)
    config = load_config(planned.files, [*assignments(planned.overrides), *overrides, f"out_dir={folder}"])
    (folder / "config.yaml").write_text(to_yaml(config))
    seconds = {"training": 10.0} | ({"measuring after": 1.0} if done else {})
    (folder / "provenance.json").write_text(json.dumps({"seconds": seconds, "peak_memory_gib": 1.5}))
    if done:
        (folder / "scores.json").write_text("[]")
    return folder


def test_a_grid_holds_every_combination_the_last_axis_turning_fastest() -> None:
    assert grid({"a": [1, 2], "b": ["x", None]}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": None},
        {"a": 2, "b": "x"},
        {"a": 2, "b": None},
    ]
    for values in ("window", [], {"a": 1}, 3):
        with pytest.raises(ValueError, match="grid: level must be a list of values"):
            grid({"level": values})  # type: ignore[dict-item]


def test_names_tell_runs_apart_by_what_they_set(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "levels",
        "[*grid({'model.bridge.level': ['window'], 'seed': [0], 'optim.lr': [1e-3]}),"
        " *grid({'model.bridge.level': ['sequence'], 'model.bridge.num_queries': [1, 8], 'seed': [0],"
        " 'optim.lr': [1e-3]}),"
        " {'model.lora': None, 'optim.lr': 1e-3}, {'model.lora.targets': ['q_proj', 'k_proj'], 'optim.lr': 1e-3}]",
        baseline="{'model.bridge.level': 'window'}",
    )
    experiment = load_experiment(folder)
    assert [run.name for run in experiment.planned] == [
        "level=window,seed=0",
        "level=sequence,num_queries=1,seed=0",
        "level=sequence,num_queries=8,seed=0",
        "lora=null",
        "targets=_q_proj,_k_proj_",
    ]
    assert experiment.baseline == "level=window"
    assert list(experiment.settings)[1] == "level=sequence, num_queries=1"


def test_two_axes_of_one_last_word_are_named_by_two_words(tmp_path: Path) -> None:
    experiment = load_experiment(
        write(
            tmp_path / "ends",
            "grid({'model.bridge.dropout': [0.0, 0.2], 'model.lora.dropout': [0.0, 0.1]})",
            baseline="{'model.bridge.dropout': 0.0, 'model.lora.dropout': 0.0}",
        )
    )
    assert experiment.planned[1].name == "bridge.dropout=0.0,lora.dropout=0.1"


def test_the_command_of_a_run_is_the_one_that_makes_its_configuration(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "x y",
        "[{'model.lora': None, 'model.llm.prompt_template': 'say: {}\\n', 'data.speeds': [0.9, 1.0]}, {'seed': 3}]",
        baseline="{'model.lora': None}",
    )
    first, second = load_experiment(folder).planned
    words = first.command(resume=False)
    assert words[:4] == ["-m", "salmonn_lab.fit", "--config", str(folder / "base.yaml")]
    config = load_config([words[3]], words[4:])
    assert (config.model.lora, config.data.speeds, config.out_dir) == (None, [0.9, 1.0], str(first.folder))
    assert config.model.llm.prompt_template == "say: {}\n"
    assert second.command(resume=True)[-1] == "--resume"
    assert first.typed().startswith("python -m salmonn_lab.fit --config '")


@pytest.mark.parametrize(
    ("runs", "baseline", "message"),
    [
        ("[]", "{}", "runs is empty"),
        ("grid({'model.bridge.num_queries': [1, 1]})", "{}", "are the same run"),
        ("[{'out_dir': 'a'}, {'out_dir': 'b'}]", "{}", "are the same run"),
        ("grid({'model.bridge.num_querys': [1, 2]})", "{}", "Did you mean 'num_queries'"),
        (QUERIES, "{'model.bridge.num_queries': 3}", "no setting has model.bridge.num_queries=3"),
        (QUERIES, "{}", "2 settings have nothing set"),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_refused_before_anything_starts(
    tmp_path: Path, runs: str, baseline: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_experiment(write(tmp_path / "bad", runs, baseline))
    assert "sweep.py" in str(caught.value)


def test_a_folder_that_is_no_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no sweep\.py"):
        load_experiment(tmp_path)
    with pytest.raises(ValueError, match="open with the question"):
        load_experiment(write(tmp_path / "silent", QUERIES, question=" "))
    (tmp_path / "silent" / "sweep.py").write_text('"""Why?"""\nRUNS = []\n')
    with pytest.raises(ValueError, match=r"must set SWEEP = Sweep\(\.\.\.\), got None"):
        load_experiment(tmp_path / "silent")
    with pytest.raises(FileNotFoundError, match="no config file"):
        load_experiment(write(tmp_path / "baseless", QUERIES, base="absent.yaml"))


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return load_experiment(write(tmp_path / "queries", QUERIES))


def again(experiment: Experiment) -> Experiment:
    return load_experiment(experiment.folder)


def test_a_stored_run_is_found_by_what_it_is_and_not_by_its_name(experiment: Experiment) -> None:
    store(experiment.planned[0], ["data.num_workers=1"], folder=experiment.runs_folder / "some old name")
    found = again(experiment).planned[0]
    assert found.folder.name == "some old name"
    assert found.done()
    assert not again(experiment).planned[1].done()


def test_a_run_of_an_experiment_beside_this_one_is_not_asked_for_again(tmp_path: Path) -> None:
    base = str(write(tmp_path / "queries", QUERIES) / "base.yaml")
    shared = store(load_experiment(tmp_path / "queries").planned[0])
    layers = "grid({'model.bridge.num_layers': [2, 3], 'seed': [0]})"
    write(tmp_path / "layers", layers, baseline="{'model.bridge.num_layers': 2}", base=base)
    first, second = load_experiment(tmp_path / "layers").planned
    assert first.folder == shared
    assert first.done()
    assert second.folder.parent == tmp_path / "layers" / "runs"


def test_a_key_that_a_stored_run_lacks_is_at_its_default(experiment: Experiment) -> None:
    """As when a field is new: results from before it stay valid, unless another value is asked for."""
    folder = store(experiment.planned[0])
    file = folder / "config.yaml"
    text = file.read_text()
    assert "    output_scale: none\n" in text
    file.write_text(text.replace("    output_scale: none\n", ""))
    assert again(experiment).planned[0].done()
    file.write_text(text.replace("output_scale: none", "output_scale: embedding"))
    assert not again(experiment).planned[0].done()


def test_a_run_of_another_configuration_is_left_alone_and_the_new_one_gets_a_name_of_its_own(
    experiment: Experiment,
) -> None:
    store(experiment.planned[0], ["optim.lr=0.5"])
    first, second = again(experiment).planned[0], again(experiment).planned[0]
    assert first.name.startswith("num_queries=1,seed=0~")
    assert first.name == second.name
    assert not first.done()
    store(first)
    assert again(experiment).planned[0].done()
    assert again(experiment).planned[1].name == "num_queries=1,seed=1"


def test_a_stored_run_whose_keys_are_not_known_any_more_satisfies_nothing(experiment: Experiment) -> None:
    folder = store(experiment.planned[0])
    with (folder / "config.yaml").open("a") as file:
        file.write("key_of_long_ago: 1\n")
    assert not again(experiment).planned[0].done()


def test_what_was_left_to_the_machine_is_as_the_machine_decided(tmp_path: Path) -> None:
    experiment = load_experiment(
        write(tmp_path / "fast", "[{'model.llm.dtype': 'fastest', 'seed': 0}]", "{'model.llm.dtype': 'fastest'}")
    )
    store(experiment.planned[0], ["model.llm.dtype=bfloat16"])
    assert again(experiment).planned[0].done()


def test_a_run_is_done_once_it_is_measured_and_not_before(experiment: Experiment) -> None:
    folder = store(experiment.planned[0], done=False)
    (folder / "scores.json").write_text("[]")
    assert not again(experiment).planned[0].done()


def test_resuming_a_run_compares_as_the_sweep_does(experiment: Experiment) -> None:
    folder = store(experiment.planned[0])
    assert runs.changes(runs.Run(folder).config(), experiment.planned[0].config) == []
    assert runs.changes(runs.Run(folder).config(), experiment.planned[2].config) == ["model.bridge.num_queries"]


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda path: path.name)
def test_every_run_of_every_experiment_loads_and_no_two_are_equal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    experiment = load_experiment(folder.relative_to(ROOT))
    assert {len(planned) for planned in experiment.settings.values()} == {3}
    assert len({run.name for run in experiment.planned}) == len(experiment.planned)
    assert experiment.question.endswith((".", "?"))
    assert {run.folder.parent.relative_to("experiments").parts[1:] for run in experiment.planned} == {("runs",)}


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
def test_what_an_experiment_trains_and_is_measured_on_can_be_had(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for run in load_experiment(folder.relative_to(ROOT)).planned:
        evaluation = run.config.evaluation
        assert evaluation.benchmarks
        for name in evaluation.benchmarks:
            assert name in BENCHMARKS, f"{folder.name}: no benchmark {name}"
            assert_can_be_had(BENCHMARKS[name].manifest)
        assert set(evaluation.before or ()) <= set(evaluation.benchmarks)
        for source in (*run.config.data.sources, *run.config.data.validation):
            assert_can_be_had(source.manifest)


def assert_can_be_had(manifest: str) -> None:
    """A manifest is one that `assets` or `prepare` makes, or that a config says where to get."""
    kind, _, name = manifest.rpartition(":")
    if kind == "asset":
        folder, _, file = name.partition("/")
        assert folder in ASSETS
        ready = find_ready(f"asset:{folder}")
        assert ready is None or (ready / file).is_file(), f"{manifest} is not there"
    elif kind == "data":
        corpus, _, split = name.partition("/")
        assert split in CORPORA[corpus].splits
    else:
        assert manifest in OF_THE_AUTHORS


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_config_names_and_the_commands_of_its_header_can_be_had(path: Path) -> None:
    config = load_config([path])
    for name in config.evaluation.benchmarks:
        assert_can_be_had(BENCHMARKS[name].manifest)
    for source in (*config.data.sources, *config.data.validation):
        assert_can_be_had(source.manifest)
    header = "\n".join(line.removeprefix("#") for line in path.read_text().splitlines() if line.startswith("#"))
    commands = re.findall(r"(?m)^ {3}python -m salmonn_lab\.(\w+)((?:[^\n\\]|\\\n)*)", header)
    assert commands
    for command, words in commands:
        options = getattr(command_line, f"parse_{command}")(shlex.split(words.replace("\\\n", " "), comments=True))
        if command == "evaluate":
            check_benchmarks(load_config([], full_keys(options.overrides)).evaluation.benchmarks)
        for file in getattr(options, "config", []):
            assert (ROOT / file).is_file()
        clips = getattr(options, "clips", None)
        if clips is not None:
            corpus, _, split = clips.stem.partition("_")
            assert clips == Path("data") / manifest_name(corpus, split)
            assert split in CORPORA[corpus].splits


def test_a_value_of_a_sweep_stays_of_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (
        ("init_from", "1e-4"),
        ("out_dir", "no"),
        ("out_dir", "007"),
        ("features", None),
        ("evaluation.benchmarks", ["a, b", "null", "12:30", "#c"]),
        ("evaluation.before", []),
        ("evaluation.likelihood", True),
        ("optim.lr", 1e-05),
        ("data.speeds", (0.9, 1.1)),
        ("trainer.devices", "2"),
        ("trainer.devices", [0, 1]),
        ("loggers.mlflow", {"tags": {"a b": "no", "n": 3, "x": 1e-4}, "tracking_uri": "a: {b}, 'c' \"d\" #e\n\u2028"}),
    ):
        read: Any = load_config([], assignments({key: value}))
        for word in key.split("."):
            read = read[word] if isinstance(read, dict) else getattr(read, word)
        assert read == (list(value) if isinstance(value, tuple) else value)
        assert type(read) is (list if isinstance(value, tuple) else type(value))


@pytest.mark.parametrize("value", [Path("a"), float("nan"), {1, 2}, object])
def test_a_value_of_a_sweep_that_no_config_has_is_refused_with_its_key(value: object) -> None:
    with pytest.raises(ValueError, match="init_from: ") as caught:
        assignments({"init_from": value})
    assert "\n" not in str(caught.value)


def test_the_experiments_of_the_log_are_those_that_there_are() -> None:
    log = (ROOT / "experiments" / "README.md").read_text()
    assert EXPERIMENTS
    assert all(f"`{folder.name}`" in log for folder in EXPERIMENTS)


def test_an_experiment_may_merge_several_files(tmp_path: Path) -> None:
    values: dict[str, Any] = {"base": ["a.yaml", "b.yaml"], "runs": [{}], "baseline": {}}
    assert Sweep(**values).files == ("a.yaml", "b.yaml")
    assert Sweep(**values | {"base": "a.yaml"}).files == ("a.yaml",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"code": 2, "err', "malformed JSON"),
        ("[1]", "expected a JSON object, got list"),
        ('{"code": 2}', "key 'error' must be a text; remove the file to have the run tried again"),
        ('{"error": 7}', "key 'error' must be a text"),
        ('{"error": " "}', "key 'error' must be a text"),
    ],
)
def test_a_torn_or_foreign_record_of_a_failure_is_named(tmp_path: Path, content: str, message: str) -> None:
    planned = load_experiment(write(tmp_path / "e", QUERIES)).planned[0]
    planned.folder.mkdir(parents=True)
    planned.failure.write_text(content)
    with pytest.raises(ValueError, match=rf"failed\.json.*: {message}"):
        planned.error()


def test_settings_take_labels_from_their_grid_or_by_name(tmp_path: Path) -> None:
    label = "{num_queries} tokens, {bridge.num_queries}"
    grids = f"grid({{'model.bridge.num_queries': [1, 2], 'seed': [0, 1]}}, label='{label}')"
    experiment = load_experiment(write(tmp_path / "grid", grids, baseline="'1 tokens, 1'"))
    assert list(experiment.settings) == ["1 tokens, 1", "2 tokens, 2"]
    assert experiment.baseline == "1 tokens, 1"
    assert experiment.planned[2].name == "num_queries=2,seed=0", "folders are named by what a run sets"
    assert "label" not in experiment.planned[0].overrides
    assert not [word for word in experiment.planned[0].command(resume=False) if word.startswith("label=")]
    folder = write(
        tmp_path / "mapping", QUERIES, baseline="{'model.bridge.num_queries': 2}, labels={'num_queries=2': 'two'}"
    )
    assert list(load_experiment(folder).settings) == ["num_queries=1", "two"]
    assert load_experiment(folder).baseline == "two"


def test_a_setting_of_two_labels_is_refused(tmp_path: Path) -> None:
    runs = "[{'seed': 0, 'label': 'a'}, {'seed': 1, 'label': 'b'}]"
    with pytest.raises(ValueError, match="the setting base has two labels, 'a' and 'b'"):
        load_experiment(write(tmp_path / "two", runs, baseline="{}"))


def test_a_sweep_names_pairs_of_settings_by_values_or_labels(tmp_path: Path) -> None:
    runs = "grid({'model.bridge.num_queries': [1, 2, 4], 'seed': [0, 1]}, label='{num_queries} of them')"
    pairs = "{'model.bridge.num_queries': 1}, compare=[('4 of them', {'model.bridge.num_queries': 2})]"
    assert load_experiment(write(tmp_path / "pairs", runs, baseline=pairs)).pairs == (("4 of them", "2 of them"),)


def test_the_index_of_stored_runs_finds_what_changes_finds(tmp_path: Path) -> None:
    """One definition of the same run, whichever way it is looked for."""
    runs_asked = (
        "[{'seed': 0}, {'seed': 1}, {'model.lora': None}, {'model.bridge.stride_seconds': 0.333333},"
        " {'model.bridge.stride_seconds': None}, {'model.bridge.stride_seconds': 0.2}, {'model.llm.dtype': 'fastest'},"
        " {'trainer.max_steps': 7}, {'trainer.gradient_clip_val': 0.5, 'trainer.devices': 2}, {'data.speeds': [1.0]}]"
    )
    folder = write(tmp_path / "many", runs_asked, baseline="{'seed': 0}")
    sweep = Experiment(folder, "", "", Sweep(str(folder / "base.yaml"), eval(runs_asked), {}))
    configs = sweep.configs()
    for index, config in enumerate(configs):
        place = tmp_path / "stored" / str(index)
        place.mkdir(parents=True)
        (place / "config.yaml").write_text(to_yaml(runs.with_dtype(config, "float32")))
    stored = Stored(stored_folders(tmp_path / "stored"))
    for config in configs:
        expected = [
            place for place in stored_folders(tmp_path / "stored") if not runs.changes(runs.Run(place).config(), config)
        ]
        assert stored.fitting(config) == expected
        assert expected


def test_looking_for_stored_runs_takes_as_many_readings_as_there_are_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = load_experiment(write(tmp_path / "queries", "grid({'seed': list(range(12))})", baseline="{}"))
    for planned in experiment.planned:
        store(planned)
    counts = {"facts": 0, "read": 0}

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            counts[name] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(experiments, "facts_of", counted("facts", experiments.facts_of))
    monkeypatch.setattr(experiments, "read_stored", counted("read", experiments.read_stored))
    assert all(planned.done() for planned in again(experiment).planned)
    assert counts == {"facts": 24, "read": 12}, "one for each that is stored or asked for, not one for each pair"


@pytest.mark.slow
def test_a_sweep_of_1000_finished_runs_is_listed_in_seconds(tmp_path: Path) -> None:
    axes = "grid({'optim.warmup_steps': list(range(1, 201)), 'seed': [0, 1, 2, 3, 4]})"
    experiment = load_experiment(write(tmp_path / "many", axes, baseline="{'optim.warmup_steps': 1}"))
    first = to_yaml(experiment.planned[0].config)
    for planned in experiment.planned:
        planned.folder.mkdir(parents=True)
        text = first.replace("warmup_steps: 1\n", f"warmup_steps: {planned.config.optim.warmup_steps}\n")
        (planned.folder / "config.yaml").write_text(text.replace("\nseed: 0\n", f"\nseed: {planned.config.seed}\n"))
        (planned.folder / "provenance.json").write_text('{"seconds": {"measuring after": 1.0}}')
        (planned.folder / "scores.json").write_text("[]")
    start = time.process_time()
    found = again(experiment)
    assert [state_of(planned) for planned in found.planned] == ["done"] * 1000
    assert time.process_time() - start < 20, "5 s on a machine with nothing else to do; 4 minutes before"
