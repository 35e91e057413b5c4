"""Configurations made by seed: each is read as it was written, or refused in one line."""

import dataclasses
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from salmonn_lab.config import RunConfig, assignment, flatten, load_config, to_yaml
from salmonn_lab.typed_yaml import hints_of, taken_apart

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
NASTY = (
    *("no", "No", "off", "yes", "on", "true", "False", "null", "Null", "~", "", "None", "none", "y", "n", "NULL"),
    *("007", "1e-4", "1E5", "1.0", "1_000", "0x10", "0o17", "0b1", "12:30:45", "1:2", ".inf", "-.inf", ".nan", "nan"),
    *("inf", "2024-01-01", "2024-01-01 10:00:00", "1.", ".5", "+1", "-1", "-", "--", "1e400", "9" * 400, "=", "<<"),
    *(
        "a #b",
        "#b",
        "a#b",
        "a: b",
        "a:b",
        "a:",
        ": a",
        "- a",
        "-a",
        "[a]",
        "[a",
        "a]",
        "{a}",
        "{}",
        "{a: b}",
        "}",
        "a,b",
    ),
    *("'a'", '"a"', "'a", '"a', "a'b", 'a"b', "''", '""', "it's", '"a" b', "'a' #b", "\\", "\\n", "a\\", '"\\x41"'),
    *("&a", "*a", "!a", "!!str 1", "!!python/object/apply:os.getcwd []", "%a", "@a", "`a`", "|", ">", "|\n a", "? a"),
    *(" a", "a ", "a\nb", "\n", "\t", "a\tb", "a\r\nb", "\x00", "\x07", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffe"),
    *(
        "\ue000",
        "é",
        "语音",
        "🎧",
        "مرحبا",
        "e\u0301",
        "\ud800",
        "a\u200bb",
        "---",
        "...",
        "--- a",
        "???",
        "$",
        "$a",
        "a=b",
    ),
    *(
        "\\${a}",
        "\\\\${seed}",
        "\\\\\\${a}",
        "$${a",
        "${",
        "${seed}",
        "${nokey}",
        "${oc.env:NO_SUCH_VARIABLE}",
        "a${seed}b",
    ),
    *("${out_dir}", "${oc.env:HOME}", "${oc.env:NO_SUCH_VARIABLE,b}", "${oc.decode:1}", "${.a}", "${model}", "${x:1}"),
    *("asset:a/b", "data:a/b", "https://a.b/c?d=e&f#g", "C:\\a", "../a", "~/a", "a" * 3000, "[" * 3000, "{" * 3000),
)
"""Texts that YAML, shells or OmegaConf read as something else."""
STEMS = (
    *("trainer", "trainer.max_steps", "trainer.devices", "trainer.accelerator", "trainer.precision", "model"),
    *("trainer.val_check_interval", "loggers", "loggers.csv", "loggers.csv.prefix", "loggers.wandb", "a.b"),
    *("loggers.mlflow.tags", "loggers.wandb.project", "data.sources", "data.sources.0", "data.sources[0]"),
    *("optim.align", "optim.align.asr"),
)


def keys_of(owner: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a configuration with its type."""
    for name, kind in hints_of(owner).items():
        inner = [member for member in taken_apart(kind)[2] if is_dataclass(member)]
        yield f"{prefix}{name}", kind
        if inner:
            yield from keys_of(inner[0], f"{prefix}{name}.")


KEYS = dict(keys_of(RunConfig))
TEXT_KEYS = [key for key, kind in KEYS.items() if str in taken_apart(kind)[2] and not key.startswith("data.prompts")]
NUMBER_KEYS = [key for key, kind in KEYS.items() if {int, float} & set(taken_apart(kind)[2])]


def read(files: list[Path], overrides: list[str]) -> RunConfig | None:
    """Configuration, None where it was refused in one line; in time."""
    start = time.process_time()
    config, message = None, "none"
    try:
        config = load_config(files, overrides)
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
    assert 0 < len(message) < 5000
    assert "\n" not in message
    assert time.process_time() - start < 5
    return config


def value_of(config: RunConfig, key: str) -> Any:
    return flatten(asdict(config))[key]


def check_round_trip(config: RunConfig, folder: Path) -> None:
    """A config.yaml gives back the configuration that it was written from."""
    file = folder / "config.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    assert load_config([file]) == config


@pytest.mark.parametrize(
    "key", [key if key in ("out_dir", "features") else pytest.param(key, marks=pytest.mark.slow) for key in TEXT_KEYS]
)
def test_a_text_key_takes_the_text_that_was_written_through_every_door_or_refuses_it(key: str, tmp_path: Path) -> None:
    for text in NASTY:
        wanted = text.replace("{}", "")
        if key == "model.llm.prompt_template":
            wanted = f"{{}}{wanted}"
        through_sweep = read([], [assignment(key, wanted)])
        if through_sweep is not None and "${" not in text:
            assert value_of(through_sweep, key) == wanted
        raw = read([], [f"{key}={wanted}"])
        if raw is not None and "${" not in text and wanted[:1] not in ("'", '"'):
            assert value_of(raw, key) in (wanted, None)
            assert value_of(raw, key) == wanted or wanted.lower() in ("", "~", "null")
        if (config := raw or through_sweep) is not None:
            check_round_trip(config, tmp_path)


def test_a_text_is_read_from_a_file_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "written.yaml"
    for text in NASTY:
        if "${" in text or text == "\ud800":
            continue
        file.write_text(yaml.safe_dump({"out_dir": text}), encoding="utf-8")
        assert value_of(load_config([file]), "out_dir") == text
        file.write_text(f"out_dir: {text}\n", encoding="utf-8")
        config = read([file], [])
        if config is not None and text[:1] not in ("'", '"', "!", "&", "|", ">", "#"):
            assert value_of(config, "out_dir") in (text, text.strip(), text.partition(" #")[0], " ".join(text.split()))


@pytest.mark.parametrize(
    ("text", "value"),
    [("007", "007"), ("1e-4", "1e-4"), ("12:30:45", "12:30:45"), ("1_000", "1_000"), ("a #b", "a #b"), ('"no"', "no")],
)
def test_a_text_stays_as_it_is(text: str, value: str, tmp_path: Path) -> None:
    assert load_config([], [f"out_dir={text}"]).out_dir == value
    assert load_config([], [assignment("init_from", value)]).init_from == value
    if "#" not in text:
        (tmp_path / "config.yaml").write_text(f"out_dir: {text}\n")
        assert load_config([tmp_path / "config.yaml"]).out_dir == value


@pytest.mark.parametrize("key", ["out_dir", "features", "init_from", "model.llm.checkpoint"])
@pytest.mark.parametrize("word", ["no", "Off", "yes", "true"])
def test_a_word_that_is_a_boolean_is_refused_where_a_text_is_wanted(key: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"{key} takes a text, and YAML reads {word} as a boolean: write it in quotes"
    ):
        load_config([], [f"{key}={word}"])


@pytest.mark.parametrize("key", NUMBER_KEYS)
def test_a_number_key_takes_finite_numbers_alone(key: str) -> None:
    for text in (
        ".inf",
        "-.inf",
        ".nan",
        "nan",
        "inf",
        "1e400",
        "true",
        "no",
        "0x10",
        "007",
        "12:30",
        "''",
        "a",
        "[1, 2",
    ):
        with pytest.raises(ValueError, match=key.rpartition(".")[2]):
            load_config([], [f"{key}={text}"])
    if float not in taken_apart(KEYS[key])[2]:
        for text in ("16.0", "1e3"):
            with pytest.raises(ValueError, match=rf"{key} takes a whole number.*, got {text}"):
                load_config([], [f"{key}={text}"])


def fuzz(seed: int, folder: Path) -> None:
    """Compose one configuration out of strange parts."""
    random_ = random.Random(seed)

    def text() -> str:
        letters = "ab01 -_.:,#'\"[]{}&*!|>%@`~$\\\n\té语=?"
        made = "".join(random_.choice(letters) for _ in range(random_.randrange(12)))
        return random_.choice([*NASTY, made])

    def overrides() -> list[str]:
        return [f"{random_.choice([*KEYS, *STEMS])}={text()}" for _ in range(random_.randrange(1, 3))]

    files = []
    if random_.random() < 0.5:
        content = random_.choice(CONFIGS).read_text(encoding="utf-8")
        for _ in range(random_.randrange(1, 4)):
            place = random_.randrange(len(content))
            end = place + random_.choice((0, 0, 1, 5, 200))
            content = content[:place] + text() + content[end:]
        (folder / "fuzzed.yaml").write_bytes(content.encode("utf-8", "surrogatepass"))
        files = [folder / "fuzzed.yaml"]
    config = read(files, overrides() if random_.random() < 0.7 else [])
    if config is not None:
        check_round_trip(config, folder)
        assert dataclasses.replace(config) == config


@pytest.mark.parametrize("block", range(4))
def test_no_configuration_ends_in_a_traceback(block: int, tmp_path: Path) -> None:
    for seed in range(25 * block, 25 * block + 25):
        fuzz(seed, tmp_path)


@pytest.mark.slow
def test_thousands_of_configurations_end_in_no_traceback(tmp_path: Path) -> None:
    for seed in range(100, 5000):
        fuzz(seed, tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.sources={}", r"data\.sources\[0\]\.manifest is missing"),
        ('trainer.max_steps=""', r"trainer\.max_steps takes a whole number, got ''"),
        ("loggers.csv=0x10", r"loggers\.csv takes a mapping or null, got 0x10"),
        ("data.max_seconds=inf", r"data\.max_seconds takes a number, got inf"),
        ("trainer.precision=17", r"trainer\.precision must be one of 32-true, bf16-mixed, 16-mixed, got '?17"),
        (f"data.sources={'[' * 3000}", r"nested too deeply|maximum nesting depth"),
        (f"loggers.wandb={'{a: ' * 3000}1{'}' * 3000}", r"nested too deeply|maximum nesting depth"),
        ("seed=16.0", r"seed takes a whole number, got 16\.0"),
        ("evaluation.likelihood=1", r"evaluation\.likelihood takes true or false, got 1"),
        (
            "model.bridge.level=Window",
            r"Invalid value 'Window', expected one of window, sequence\. Did you mean 'window'\?",
        ),
        ("out_dir= runs", r"out_dir has spaces at its ends"),
        ("seed=3 #4", r"seed: what stands outside of the value would be lost"),
        ("data.sources.0=a", r"data\.sources holds no keys"),
        ("out_dir=${nokey}", r"out_dir=\$\{nokey\}: Interpolation key 'nokey' not found"),
        ("out_dir=${out_dir}", r"Recursive interpolation"),
        ("loggers.tensorboard.flush=1", r"Key 'flush' not in loggers\.tensorboard\. Did you mean 'flush_secs'\?"),
        ("loggers.tensorboard.save_dir=a", r"loggers\.tensorboard\.save_dir is set by the kit"),
        ("trainer.accelerator=no", r"trainer\.accelerator takes a text"),
        ("loggers.wandb.notes=no", r"loggers\.wandb\.notes=no may be a text or another value"),
        ("model=null", r"model takes a mapping, got null"),
    ],
)
def test_a_value_that_a_key_does_not_take_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_config([], [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "yaml_text", ["a: &a [*a]\n", "out_dir: a\nout_dir: b\n", "seed: 1\n---\nseed: 2\n", "? [a]\n: b\n"]
)
def test_a_file_that_yaml_allows_and_a_config_cannot_be_is_refused_with_its_name(
    yaml_text: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(yaml_text)
    with pytest.raises(ValueError, match=r"config\.yaml") as caught:
        load_config([tmp_path / "config.yaml"])
    assert "\n" not in str(caught.value)


def test_aliases_of_aliases_are_refused_and_merged_keys_are_read(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    rows = ["l0: &l0 [a, a, a, a, a, a, a, a, a, a]"]
    rows += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9)]
    file.write_text("loggers: {wandb: {" + ", ".join(rows) + "}}\n")
    with pytest.raises(ValueError, match=r"config\.yaml: holds more than 100,000 values"):
        load_config([file])
    file.write_text("trainer: &t {max_steps: 5, devices: 2}\nloggers: {wandb: {config: {<<: *t, devices: 3}}}\n")
    assert load_config([file]).loggers["wandb"] == {"config": {"max_steps": 5, "devices": 3}}


def test_a_list_takes_one_of_its_values(tmp_path: Path) -> None:
    config = load_config([], ["evaluation.benchmarks=007", "data.speeds=1.1", "data.sources={manifest: a.jsonl}"])
    assert config.evaluation.benchmarks == ["007"]
    assert config.data.speeds == [1.1]
    assert [source.manifest for source in config.data.sources] == ["a.jsonl"]
    (tmp_path / "config.yaml").write_text("evaluation:\n  benchmarks: quickstart_open\n")
    assert load_config([tmp_path / "config.yaml"]).evaluation.benchmarks == ["quickstart_open"]


def test_an_environment_variable_in_a_text_stays_a_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from salmonn_lab.config import revealed

    monkeypatch.setenv("TOKEN", "hunter2")
    monkeypatch.setenv("STEPS", "7")
    config = load_config(
        [],
        [
            "loggers.mlflow.tracking_uri=https://me:${oc.env:TOKEN}@host/\\${kept}",
            "loggers.wandb.name=${loggers.mlflow.tracking_uri}",
            "init_from=${oc.env:NO_SUCH_VARIABLE,'a b'}",
            "trainer.max_steps=${oc.env:STEPS}",
        ],
    )
    assert "hunter2" not in to_yaml(config)
    assert "hunter2" not in repr(config)
    uri = "https://me:hunter2@host/${kept}"
    assert revealed(config.loggers)["mlflow"] == {"tracking_uri": uri}
    assert revealed(config.loggers)["wandb"] == {"name": uri}
    assert revealed(config.init_from) == "a b"
    assert config.trainer["max_steps"] == 7
    check_round_trip(config, tmp_path)
    assert revealed(load_config([tmp_path / "config.yaml"]).loggers)["mlflow"] == {"tracking_uri": uri}
