"""METEOR and SPICE come from their authors' tools, or not at all.

The programs here keep to the tools' protocols and know nothing of captions: they test what happens around the tools.
METEOR's formula is tested on counts that the real jar gave; with `SALMONN_LAB_METEOR` set, the jar is tested itself.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_tools import fake_meteor, fake_spice

from salmonn_lab.benchmarks import METRICS
from salmonn_lab.metrics.cider import CiderD
from salmonn_lab.metrics.item import item_number
from salmonn_lab.metrics.java import METEOR_JAR, SPICE_JAR, Meteor, Spice, Spider

FOLDER = Path(__file__).parents[1] / "golden"
COUNTS = json.loads((FOLDER / "metrics_meteor.json").read_text(encoding="utf-8"))
GOLDEN = json.loads((FOLDER / "metrics_caption.json").read_text(encoding="utf-8"))
CASES = ("caption_mini", "caption_aac_readme")


@pytest.mark.parametrize("name", CASES)
def test_meteor_of_the_jars_counts_is_the_jars_score(name: str, tmp_path: Path) -> None:
    stats = np.array([item["stats"] for item in COUNTS[name]])
    metric = Meteor(*fake_meteor(tmp_path))
    assert metric.score(stats.sum(axis=0))["meteor"] == pytest.approx(GOLDEN[name]["meteor_1.5_java"], abs=1e-9)
    assert metric.score(stats)["meteor"] == pytest.approx(GOLDEN[name]["per_item"]["meteor"], abs=1e-9)


@pytest.mark.skipif(METEOR_JAR not in os.environ, reason=f"{METEOR_JAR} does not name the jar")
@pytest.mark.parametrize("name", CASES)
def test_the_jar_itself_gives_the_golden_scores(name: str) -> None:
    metric, case = Meteor(), GOLDEN[name]
    metric.update(case["cands"], case["refs"], [str(number) for number in range(len(case["cands"]))])
    assert metric.compute()["meteor"].item() == pytest.approx(case["meteor_1.5_java"], abs=1e-9)
    rows = dict(zip(metric.items().ids.tolist(), metric.items().stats.tolist(), strict=True))
    for number, item in enumerate(COUNTS[name]):
        assert rows[item_number(str(number))] == item["stats"]


def test_meteor_asks_for_tokens_in_lines_that_hold_no_divider(tmp_path: Path) -> None:
    body = """
lines = sys.stdin.readlines()
assert lines == ["SCORE ||| a man speaks ||| someone is n't here ||| \\ufffd a dog | | | barks\\n"], lines
print(*[1.0] * 23)
"""
    metric = Meteor(*fake_meteor(tmp_path, body))
    metric.update(["\ud800 A dog |||\nbarks!"], [["A man speaks.", "Someone isn't here"]], ["a"])
    assert metric.items().stats[0].tolist() == [1.0] * 20 + [0.0, 1.0, 1.0]


def test_an_item_that_is_matched_whole_is_not_scattered(tmp_path: Path) -> None:
    metric = Meteor(*fake_meteor(tmp_path, "for line in sys.stdin: print(*[2.0] * 20, 1.0, 2.0, 2.0)"))
    metric.update(["a dog"], [["a dog"]], ["a"])
    assert metric.items().stats[0, -3:].tolist() == [0, 2, 2]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('no table of paraphrases')", "METEOR failed with code 1: no table of paraphrases"),
        ("sys.exit(3)", "METEOR failed with code 3: it says nothing"),
        ("print(*[1.0] * 23)", "23 numbers for each of 2 items, got 1 lines"),
        ("for line in sys.stdin: print(1.0, 2.0)", "got 2 lines, the last '1.0 2.0'"),
        ("for line in sys.stdin: print('Error: specify SCORE')", "the last 'Error: specify SCORE'"),
        ("time.sleep(30)", "METEOR did not end within 0.5 s"),
    ],
)
def test_a_tool_that_breaks_its_protocol_is_reported(body: str, message: str, tmp_path: Path) -> None:
    metric = Meteor(*fake_meteor(tmp_path, body), timeout=0.5 if "sleep" in body else 60)
    with pytest.raises(RuntimeError, match=message):
        metric.update(["a", "b"], [["a"], ["b"]], ["1", "2"])
    assert len(metric.items().ids) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('Could not find the parser')", "SPICE failed with code 1: Could not find the parser"),
        ("pass", "SPICE .* wrote no scores that can be read"),
        ("open(sys.argv[sys.argv.index('-out') + 1], 'w').write('[{]')", "wrote no scores that can be read"),
        ("open(sys.argv[sys.argv.index('-out') + 1], 'w').write('[]')", "must score 1 items, it scored 0"),
    ],
)
def test_spice_that_breaks_its_protocol_is_reported(body: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=message):
        Spice(*fake_spice(tmp_path, body)).update(["a"], [["a"]], ["1"])


def test_spice_scores_come_back_to_their_items(tmp_path: Path) -> None:
    metric = Spice(*fake_spice(tmp_path))
    metric.update(["a b", "x", ""], [["a b"], ["y"], [""]], ["1", "2", "3"])
    rows = dict(zip(metric.items().ids.tolist(), metric.items().stats[:, 0].tolist(), strict=True))
    assert [rows[item_number(id)] for id in "123"] == [1, 0, 0]  # SPICE says NaN where there is nothing to find
    assert metric.compute()["spice"].item() == pytest.approx(1 / 3)


def test_spider_is_the_mean_of_both_by_item_and_over_all(tmp_path: Path) -> None:
    case = GOLDEN["spider"]["example"]
    stats = np.array([[cider, spice, 1] for cider, spice in zip(case["cider_d"], case["spice"], strict=True)])
    metric = Spider(CiderD({}), *fake_spice(tmp_path))
    assert metric.score(stats)["spider"] == pytest.approx(case["spider"], abs=1e-9)
    # the golden corpus score is rounded to four digits
    assert metric.score(stats.sum(axis=0))["spider"] == pytest.approx(case["corpus"], abs=1e-4)


def test_spider_refuses_references_that_cider_does_not_know(tmp_path: Path) -> None:
    metric = Spider(CiderD({"a": ["x"], "b": ["y"]}), *fake_spice(tmp_path))
    metric.update(["x"], [["x"]], ["a"])
    assert metric.signature.startswith("spider|cider_d|norm:ptb_py@1|")
    with pytest.raises(ValueError, match="item 'a' does not have the references"):
        metric.update(["x"], [["z"]], ["a"])


@pytest.mark.parametrize(("name", "variable"), [("meteor", METEOR_JAR), ("spice", SPICE_JAR), ("spider", SPICE_JAR)])
def test_without_its_jar_a_metric_is_refused_with_what_to_get(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(FileNotFoundError, match=rf"get it .*pycocoevalcap on PyPI.* let {variable} or the argument"):
        METRICS[name]({})
    monkeypatch.setenv(variable, str(tmp_path / "gone.jar"))
    with pytest.raises(FileNotFoundError, match=r"gone\.jar: no such file; "):
        METRICS[name]({})


def test_without_its_tables_or_java_a_tool_is_refused(tmp_path: Path) -> None:
    jar, normalizer, _ = fake_meteor(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"METEOR needs Java, and there is no program 'javax'.*default-jre"):
        Meteor(jar, normalizer, "javax")
    shutil.rmtree(jar.parent / "data")
    with pytest.raises(FileNotFoundError, match=r"METEOR needs data/paraphrase-en\.gz in "):
        Meteor(jar)
    spice, _ = fake_spice(tmp_path)
    shutil.rmtree(spice.parent / "lib")
    with pytest.raises(FileNotFoundError, match=r"SPICE needs lib/stanford-corenlp-3\.6\.0\.jar and lib/stanford"):
        Spice(spice)


def test_another_jar_gives_another_signature(tmp_path: Path) -> None:
    jar, normalizer, java = fake_meteor(tmp_path)
    before = Meteor(jar, normalizer, java).signature
    jar.write_bytes(b"another")
    assert Meteor(jar, normalizer, java).signature != before
    assert before.startswith("meteor|jar:")
