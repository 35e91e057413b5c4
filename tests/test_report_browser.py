"""The page of a report in a browser: on a desk and on a phone, with audio, sorting and filtering, and no network."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from samples import waveform

from salmonn_lab import benchmarks
from salmonn_lab.batch import Example, Prediction, Segment
from salmonn_lab.config import RunConfig, to_yaml
from salmonn_lab.data.manifest import write_manifest
from salmonn_lab.predictions import write_predictions
from salmonn_lab.report import measure, write_report, write_scores

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
WORDS = ["one", "two", "three", "four", "five"]


def make_page(folder: Path, count: int, clips: int, seconds: float, players: int) -> Path:
    """Write the report of a run that got every third item wrong."""
    for index in range(clips):
        soundfile.write(folder / f"{index}.flac", waveform(seconds, index), 16_000)
    texts = [" ".join(WORDS[(index + shift) % 5] for shift in range(2 + index % 9)) for index in range(count)]
    examples = [
        Example(
            f"clip-{index}",
            (Segment(str(folder / f"{index % clips}.flac"), duration=seconds - 0.001 * (index // clips)),),
            "asr",
            text,
            duration=seconds * (1 + index % 3),
            meta={"gender": "female" if index % 2 else "male"},
        )
        for index, text in enumerate(texts)
    ]
    write_manifest(folder / "corpus.jsonl", examples)
    outputs = [text if index % 3 else f"{text} <b>eleven</b> {index}" for index, text in enumerate(texts)]
    outputs[3] = "so so so so so"
    predictions = [
        Prediction(example.id, "corpus", "What is said?", output, (example.target,), example.meta)
        for example, output in zip(examples, outputs, strict=True)
    ]
    run = folder / "run"
    write_predictions(run / "predictions" / "corpus.jsonl", predictions)
    (run / "config.yaml").write_text(to_yaml(RunConfig(out_dir=str(run))))
    write_scores(run / "scores.json", [measure(benchmarks.find(str(folder / "corpus.jsonl")), predictions)])
    return write_report(run, players=players)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page(tmp_path_factory.mktemp("browser"), 60, 12, 1.5, 12)


@pytest.fixture(params=list(SIZES))
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    width, height = SIZES[request.param]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}"):
        options.add_argument(argument)
    options.add_argument("--autoplay-policy=no-user-gesture-required")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": request.param == "phone"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield driver
    driver.quit()


def texts(browser: Any, selector: str) -> list[str]:
    found: list[str] = browser.execute_script(
        "return Array.from(document.querySelectorAll(arguments[0]), one => one.textContent.trim())", selector
    )
    return found


def requests(browser: Any) -> list[str]:
    """Return the addresses that the page asked for."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [address for address in sent if not address.startswith("data:")]


def test_the_page_opens_fits_the_screen_says_nothing_on_the_console_and_asks_for_nothing(
    browser: Any, page: Path
) -> None:
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.get_log("browser") == []
    assert requests(browser) == [page.as_uri()]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_every_number_of_the_tables_equals_report_json(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    (result,) = json.loads((page.parent / "report.json").read_text())["results"]
    score = result["scores"][0]
    row = "#scores-table tbody tr:not(.minor)"
    assert texts(browser, f"{row} td:nth-child(3)") == [f"{100 * score['value']:.1f} %"]
    assert texts(browser, f"{row} td:nth-child(4)") == [f"{100 * score['low']:.1f} % to {100 * score['high']:.1f} %"]
    slices = [[*texts(browser, f".slices tbody td:nth-child({column})")] for column in (2, 3, 5)]
    assert slices == [
        [row["name"] for row in result["slices"]],
        [f"{100 * row['score']['value']:.1f} %" for row in result["slices"]],
        [str(row["score"]["count"]) for row in result["slices"]],
    ]
    assert texts(browser, ".item .value") == [f"{100 * item['value']:.1f} %" for item in result["items"][:10]]
    assert texts(browser, ".item .about .mono") == [item["id"] for item in result["items"][:10]]
    counts = {row["rule"]: str(row["broken"]) if row["judged"] else "–" for row in result["health"]}
    heads, cells = texts(browser, "#health-table th"), texts(browser, "#health-table tbody td")
    assert {head: cell for head, cell in zip(heads, cells, strict=True) if head in counts} == counts


def test_a_clip_plays(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    browser.execute_script("document.querySelector('audio').play()")
    deadline = time.monotonic() + 20
    while not (seconds := browser.execute_script("return document.querySelector('audio').currentTime")):
        assert time.monotonic() < deadline, "the clip did not start"
        time.sleep(0.1)
    assert seconds > 0
    assert browser.execute_script("return document.querySelector('audio').duration") == pytest.approx(1.5, abs=0.2)
    assert browser.get_log("browser") == []


def test_a_click_sorts_a_table_and_another_turns_it_round(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    values = "return Array.from(document.querySelectorAll('.slices tbody td:nth-child(3)'), one => +one.dataset.value)"
    head = browser.find_element("css selector", ".slices th:nth-child(3)")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", head)
    head.click()
    rising = browser.execute_script(values)
    assert rising == sorted(rising)
    assert head.get_attribute("aria-sort") == "ascending"
    head.send_keys("\ue007")
    assert browser.execute_script(values) == rising[::-1]


def test_filters_leave_what_was_asked_for(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    visible = "return Array.from(document.querySelectorAll('#scores-table tbody tr:not([hidden])')).length"
    assert browser.execute_script(visible) == 1
    browser.find_element("id", "minor").click()
    assert browser.execute_script(visible) == 4
    browser.find_element("css selector", "[data-filter]").send_keys("sub")
    assert browser.execute_script(visible) == 1
    search = browser.find_element("css selector", ".search")
    search.send_keys("clip-12")
    assert texts(browser, ".item .about .mono") == ["clip-12"]
    assert texts(browser, ".item .text div:nth-child(2)") == ["outputthree four five one two <b>eleven</b> 12"]
    search.clear()
    browser.execute_script(
        "const flag = document.querySelector('.flag'); flag.value = 'looped'; flag.dispatchEvent(new Event('input'))"
    )
    assert texts(browser, ".item .about .mono") == ["clip-3"]
    assert texts(browser, ".badge") == ["looped"]


def test_all_items_can_be_paged_through(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    seen: list[str] = []
    while True:
        seen += texts(browser, ".item .about .mono")
        if browser.execute_script("return document.querySelector('.on').disabled"):
            break
        browser.execute_script("document.querySelector('.on').click()")
    assert len(seen) == len(set(seen)) == 60


def test_a_page_of_5000_items_with_50_players_stays_under_20_mb_and_opens(browser: Any, tmp_path: Path) -> None:
    page = make_page(tmp_path, 5000, 50, 30.0, 50)
    report = json.loads((page.parent / "report.json").read_text())
    assert sum(item["audio"] is not None for item in report["results"][0]["items"]) == 50
    assert page.stat().st_size < 20_000_000
    start = time.monotonic()
    browser.get(page.as_uri())
    assert len(texts(browser, ".item")) == 10
    assert time.monotonic() - start < 20
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("table", ["scores-table", "scores-1"])
def test_the_score_is_seen_without_scrolling(browser: Any, page: Path, table: str) -> None:
    study = Path(__file__).parents[1] / "experiments" / "bridge_level" / "report.html"
    browser.get((page if table == "scores-table" else study).as_uri())
    script = "return document.querySelector(arguments[0]).getBoundingClientRect().right <= innerWidth"
    assert browser.execute_script(script, f"#{table} td.n")
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
