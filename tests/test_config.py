"""Configuration: what composes, and the one line that each mistake gets."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from salmonn_lab import runs
from salmonn_lab.config import RunConfig, differences, load_config, to_yaml
from salmonn_lab.data.modules import SourceConfig

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    (folder / "config.yaml").write_text(text)
    return folder / "config.yaml"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_states_its_command(path: Path) -> None:
    load_config([path])
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"configs/{path.name}" in line for line in header)


def test_defaults_are_the_published_recipe() -> None:
    config = load_config()
    assert config.model.bridge.kernel == 17
    assert config.model.lora is not None
    assert config.model.lora.alpha / config.model.lora.rank == 4.0
    assert (config.optim.lr, config.optim.warmup_steps, config.optim.min_lr) == (3e-5, 3000, 1e-5)
    assert config.model.bridge.output_scale == "none"


def test_later_files_and_overrides_win_dicts_merge_and_lists_replace(tmp_path: Path) -> None:
    first = tmp_path / "first.yaml"
    first.write_text("seed: 1\ntrainer: {max_steps: 5}\ndata: {sources: [{manifest: a.jsonl}, {manifest: b.jsonl}]}\n")
    second = tmp_path / "second.yaml"
    second.write_text("seed: 2\ntrainer: {accelerator: cpu}\ndata: {sources: [{manifest: c.jsonl, weight: 2}]}\n")
    config = load_config([first, second], ["seed=3", "model.lora=null", "model.audio_encoder=null"])
    assert config.seed == 3
    assert (config.model.lora, config.model.audio_encoder) == (None, None)
    assert config.trainer["max_steps"] == 5
    assert config.trainer["accelerator"] == "cpu"
    assert config.data.sources == [SourceConfig("c.jsonl", 2.0)]


def test_a_printed_config_reads_back_equal(tmp_path: Path) -> None:
    config = load_config([], ["model.lora=null", "model.llm.prompt_template='{}\n'", "data.max_batch_size=3"])
    assert load_config([write(tmp_path, to_yaml(config))]) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.bridge.levle=window",
            r"Key 'levle' not in 'BridgeConfig'\. Did you mean 'level'\? Full key: model\.bridge\.levle",
        ),
        ("modle.bridge.level=window", r"Key 'modle' not in 'RunConfig'\. Did you mean 'model'\?"),
        ("model.bridge.level=windows", r"Invalid value 'windows', expected one of"),
        ("model.bridge.num_queries=many", r"many.*Integer|model\.bridge\.num_queries"),
        ("model.bridge.num_queries=0", r"model\.bridge\.num_queries must be at least 1, got 0"),
        ("trainer.max_step=3", r"Key 'max_step' not in Lightning's Trainer\. Did you mean 'max_steps'\?"),
        ("trainer.logger=false", r"trainer\.logger is set by the kit"),
        ("loggers.wand={}", r"loggers\.wand: .* Did you mean 'wandb'\?"),
        ("optim.lr=-1", r"optim\.lr must be above 0"),
        ("model.llm.prompt_template=hello", r"must hold '\{\}' exactly once"),
        ("data.sources=[{manifets: a.jsonl}]", r"Key 'manifets' not in 'SourceConfig'\. Did you mean 'manifest'\?"),
        ("seed", r"expected key=value, got 'seed'"),
    ],
)
def test_a_mistake_is_named_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_config([], [override])
    assert "\n" not in str(caught.value)


def test_a_broken_or_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.yaml: .*line 1"):
        load_config([write(tmp_path, "model: [1, 2")])
    with pytest.raises(ValueError, match=r"config\.yaml: expected `key: value` lines"):
        load_config([write(tmp_path, "- a\n- b\n")])
    with pytest.raises(FileNotFoundError, match=r"no config file .*absent\.yaml"):
        load_config([tmp_path / "absent.yaml"])


def test_differences_leave_machine_facts_out() -> None:
    one = RunConfig(out_dir="a", trainer={"max_steps": 5, "devices": 1})
    other = RunConfig(out_dir="b", trainer={"max_steps": 6, "devices": 2})
    assert differences(one, other) == ["trainer.max_steps"]


@pytest.mark.slow
def test_the_command_prints_the_config_and_nothing_else() -> None:
    words = [sys.executable, "-m", "salmonn_lab.fit", "--print-config", "seed=7"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(printed)["seed"] == 7


def test_only_what_is_measured_after_training_is_compared_with_before() -> None:
    benchmarks = "evaluation.benchmarks=[quickstart_open, quickstart_sounds]"
    for before, compared in (
        ("null", ["quickstart_open", "quickstart_sounds"]),
        ("[]", []),
        ("[quickstart_commands, quickstart_sounds]", ["quickstart_sounds"]),
    ):
        assert load_config([], [benchmarks, f"evaluation.before={before}"]).evaluation.compared == compared


def test_a_run_stored_with_a_stride_is_the_run_of_a_config_that_leaves_it_to_the_window() -> None:
    stored = load_config([], ["model.bridge.stride_seconds=0.333333"])
    assert runs.changes(stored, load_config([])) == []
    assert runs.trained_keys(stored.model) == runs.trained_keys(load_config([]).model)
    longer = load_config([], ["model.bridge.window_seconds=1.0", "model.bridge.stride_seconds=0.333333"])
    asked = load_config([], ["model.bridge.window_seconds=1.0"])
    assert runs.changes(longer, asked) == ["model.bridge.stride_seconds"]
