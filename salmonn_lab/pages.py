"""The forms in which a report is read: HTML, Markdown, LaTeX and CSV, each made of `report.json` alone."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from salmonn_lab import plots

Record = Mapping[str, Any]
"""An object of `report.json`; numbers that are not defined are None."""
LONGEST_CELL = 300
"""Characters of a reference or an output that a table of Markdown shows."""
WORST = 5
"""Items of a benchmark that the Markdown page shows."""
FEW_LEFT = 0.5
"""Fraction of the words below which the score without flagged outputs is not shown."""
MISSING = "–"
"""What stands where there is no number."""
ARROWS = {True: "↑", False: "↓"}
"""Whether higher or lower is better."""
LOSSES = {"align_loss": "loss of alignment", "train_loss": "training loss", "val_loss": "validation loss"}
"""Losses that are drawn, by their column in `metrics.csv`."""
SURROGATE = re.compile("[\ud800-\udfff]")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
FORMULA = tuple("=+-@\t＝＋－＠")
"""What a cell begins with that a spreadsheet would work out."""


def share(value: float | None) -> str:
    """Return a share as it is printed."""
    return MISSING if value is None else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """Return a number that is no share."""
    return MISSING if value is None else f"{value:.3f}"


def shown(value: float | None, result: Record, metric: str | None = None) -> str:
    """Return a score of a benchmark, the headline unless another is named, in its unit."""
    return (number if (metric or result["headline"]) in result["plain_numbers"] else share)(value)


def shown_range(low: float | None, high: float | None, result: Record, metric: str | None = None) -> str:
    """Return an interval, or nothing where there is none."""
    return "" if low is None else f"{shown(low, result, metric)} to {shown(high, result, metric)}"


def signed_range(low: float | None, high: float | None, result: Record) -> str:
    """Interval of a difference, empty where there is none."""
    return "" if low is None else f"{signed(low, result)} to {signed(high, result)}"


def shown_without(value: float | None, left: int | None, result: Record) -> str:
    """Score without flagged outputs and how much it is of, that alone where it is under half; else empty.

    Reports of before `left` was recorded have the score alone.
    """
    if value is None or left is None:
        return "" if value is None else shown(value, result)
    whole, unit = result["left_of"], result["unit"]
    if left < FEW_LEFT * whole:
        return f"{left} of {whole} {unit} left"
    return f"{shown(value, result)} ({left} of {whole} {unit})"


def counted(count: int, result: Record) -> str:
    """Return how many items a score is of, and how many it should be of where that differs."""
    expected = result["expected"]
    return str(count) if expected in (None, count) else f"{count} of expected {expected}"


def signed(value: float | None, result: Record) -> str:
    """Return a difference of headline scores; of shares in points."""
    if value is None:
        return MISSING
    return f"{value:+.3f}" if result["headline"] in result["plain_numbers"] else f"{100 * value:+.1f}"


def p_value(value: float | None) -> str:
    """Return a p-value."""
    return MISSING if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def render_html(report: Record) -> str:
    """Return the page for browsers: one file, which asks for nothing else."""
    page = template().render(
        report=report,
        data=script_data(report),
        shows=columns_shown(report["results"]),
        tops=whisker_ends(report["results"]),
        loss_plots=loss_plots(report["curves"]),
    )
    return SURROGATE.sub("\ufffd", page)


@cache
def template() -> Template:
    """Return the page's template, which takes long to compile."""
    return page_environment().get_template("report.html")


def page_environment() -> Environment:
    """Return what fills a page's template in: every text is escaped, and scores are shown in their unit."""
    environment = Environment(
        loader=PackageLoader("salmonn_lab"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": share,
        "p_value": p_value,
        "of": shown,
        "signed": signed,
        "counted": counted,
        "edits": edits,
    }
    environment.globals |= {
        "range_of": shown_range,
        "signed_range_of": signed_range,
        "without_of": shown_without,
        "missing": MISSING,
        "shorten": shorten,
        "arrows": ARROWS,
    }
    return environment


def whisker_ends(results: Sequence[Record]) -> dict[str, float]:
    """Right end of the scale of each metric's whiskers: 1, or the largest number that they show."""
    ends: dict[str, float] = {}
    for result in results:
        for score in result["scores"]:
            published = result["published"] if score["metric"] == result["headline"] else None
            numbers = [score["value"], score["high"], published["value"] if published else None]
            ends[score["metric"]] = max(1.0, ends.get(score["metric"], 1.0), *(n for n in numbers if n is not None))
    return ends


def loss_plots(curves: Sequence[Record]) -> list[Markup]:
    """The curves of each loss of a run, smoothed, over what was logged."""
    found = []
    for metric, name in LOSSES.items():
        for curve in curves:
            if curve["metric"] == metric and len(curve["points"]) > 1:
                points = [(step, loss) for step, loss in curve["points"]]
                series = plots.Series(plots.smooth(points), name, plots.colour(0), faint=points)
                found.append(plots.curves([series], "step", name, lambda value: f"{value:.3g}"))
    return found


def edits(result: Record) -> str:
    """Words of the references and the edits of the outputs, for an error rate; else empty."""
    counts = result["edits"]
    told = [f"{counts[name]} {name}" for name in counts]
    return ", ".join([f"{result['left_of']} {result['unit']}", *told]) if told else ""


def columns_shown(results: Sequence[Record]) -> dict[str, bool]:
    """Return which optional columns of the table of scores hold anything."""
    best = {result["benchmark"]: 1.0 if result["higher_is_better"] else 0.0 for result in results}
    return {
        "before": any(result["before"] for result in results),
        "baseline": any(result["baseline"] is not None for result in results),
        "ceiling": any(abs((result["ceiling"] or 0) - best[result["benchmark"]]) > 1e-9 for result in results),
        "published": any(result["published"] for result in results),
    }


def script_data(report: Record) -> str:
    """Return a report as JSON that can stand in a `<script>`: nothing in it can end the element."""
    items = {
        result["benchmark"]: [
            {**item, "shown": shown(item["value"], result), "cost": share(item["weight"])} for item in result["items"]
        ]
        for result in report["results"]
    }
    text = json.dumps({"items": items, "audio": report["audio"]}, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def render_markdown(report: Record) -> str:
    """Return the page for terminals and repositories."""
    results = report["results"]
    parts = [
        f"# {plain(report['title'])}",
        table(SCORE_COLUMNS, score_rows(report)),
        plain(report["method"]),
        *comparison_section(report),
        *health_section(results),
        *[part for result in results for part in benchmark_section(result)],
        *bullets("## Skipped", (f"{plain(row['benchmark'])}: {plain(row['reason'])}" for row in report["skipped"])),
        *bullets("## Remarks", map(plain, report["remarks"])),
        *signature_section(results),
        *bullets("## Provenance", (f"{plain(key)}: {plain(value)}" for key, value in report["provenance"])),
    ]
    return SURROGATE.sub("\ufffd", "\n\n".join(parts) + "\n")


POLICY_LENGTH = 60
"""Characters of a rule that are shown beside its score; report.json has all."""
SCORE_COLUMNS = (
    "benchmark",
    "metric",
    "before",
    "score",
    "95 % interval",
    "n",
    "constant answer",
    "published",
    "delta",
)


def score_rows(report: Record) -> list[tuple[str, ...]]:
    """Return a line of text for each score, in the order of `SCORE_COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for result in report["results"]:
        for score in result["scores"]:
            metric = score["metric"]
            head = metric == result["headline"]
            before, published = result["before"].get(metric), result["published"]
            rows.append(
                (
                    result["benchmark"],
                    metric,
                    "" if before is None else shown(before, result, metric),
                    shown(score["value"], result, metric),
                    shown_range(score["low"], score["high"], result, metric),
                    counted(score["count"], result),
                    shown_baseline(result) if head else "",
                    f"{shown(published['value'], result)} ({published['source']})" if head and published else "",
                    signed(result["delta"], result) if head and result["published"] else "",
                )
            )
    return rows


def shown_baseline(result: Record) -> str:
    """The score of the best answer that ignores the audio, with that answer in words; "" where there is none."""
    if result["baseline"] is None:
        return ""
    return with_policy(shown(result["baseline"], result), result.get("baseline_policy"))


def with_policy(score: str, policy: str | None) -> str:
    """A score as it is printed, with the rule that reaches it, shortened: 26.9 % (always the shortest choice)."""
    return f"{score} ({shorten(policy)})" if policy else score


def shorten(text: str) -> str:
    """A text in one line of at most `POLICY_LENGTH` characters."""
    line = " ".join(text.split())
    return line if len(line) <= POLICY_LENGTH else f"{line[: POLICY_LENGTH - 3].rstrip()}..."


def comparison_section(report: Record) -> list[str]:
    """Return the section on the other run."""
    rows = []
    results = {result["benchmark"]: result for result in report["results"]}
    for row in report["comparisons"]:
        result = results[row["benchmark"]]
        rows.append(
            (
                row["benchmark"],
                row["metric"],
                shown(row["value"], result),
                shown(row["other_value"], result),
                signed(row["difference"], result),
                signed_range(row["low"], row["high"], result),
                p_value(row["p_swap"]),
                p_value(row["p_holm"]),
                f"{row['better']} / {row['equal']} / {row['worse']}",
                str(row["count"]),
            )
        )
    if not rows:
        return []
    columns = ("benchmark", "metric", "here", "there", "difference", "95 %", "p (swap)", "p (Holm)", "+ / = / -", "n")
    return [f"## Against {plain(report['other'])}", table(columns, rows)]


def health_section(results: Iterable[Record]) -> list[str]:
    """Return the section that counts outputs that went wrong."""
    rows, rules = [], []
    for result in results:
        rules = [row["rule"] for row in result["health"]]
        cells = [f"{row['broken']} ({share(row['share'])})" if row["judged"] else MISSING for row in result["health"]]
        without = shown_without(result["without_sick"], result["left_sick"], result)
        rows.append((result["benchmark"], *cells, str(result["sick"]), without, str(result["count"])))
    if not rows:
        return []
    told = f"Outputs that break a rule; one may break several. {MISSING} where no output could be judged."
    return ["## Health", told, table(("benchmark", *rules, "any", "score without", "n"), rows)]


def benchmark_section(result: Record) -> list[str]:
    """Return what is said of one benchmark alone."""
    name, metric = plain(result["benchmark"]), result["headline"]
    parts = [f"Of {told}."] if (told := edits(result)) else []
    if result["worst"]:
        row = result["worst"][-2] if len(result["worst"]) > 1 else result["worst"][-1]
        parts.append(
            f"The worst {row['items']} of {result['count']} items make {share(row['share'])} of the error; were they "
            f"right, the score would be {shown(row['score'], result)}."
        )
    if result["slices"]:
        rows = [
            (
                row["key"],
                row["name"],
                shown(row["score"]["value"], result),
                shown_range(row["score"]["low"], row["score"]["high"], result),
                f"{row['score']['count']}{' (few)' if row['few'] else ''}",
            )
            for row in result["slices"]
        ]
        parts.append(table(("slice", "value", metric, "95 % interval", "n"), rows))
    worst = [
        (item["id"], shown(item["value"], result), " / ".join(item["references"]), item["output"] or "(empty)")
        for item in result["items"][:WORST]
        if item["weight"] > 0
    ]
    if worst:
        parts.append(table(("id", metric, "reference", "output"), worst))
    return [f"## {name}", *parts] if parts else []


def signature_section(results: Iterable[Record]) -> list[str]:
    """Return the section that says how each score was made."""
    scores = [(result["benchmark"], score) for result in results for score in result["scores"]]
    lines = (f"{plain(name)} {plain(score['metric'])}: `{score['signature']}`" for name, score in scores)
    return bullets("## Signatures\n\nOnly equal signatures compare.", lines)


def bullets(title: str, lines: Iterable[str]) -> list[str]:
    """Return a section of one line each, nothing where there is none."""
    text = "\n".join(f"- {line}" for line in lines)
    return [title, text] if text else []


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is left-aligned, the others right-aligned unless they are texts."""
    texts = {"metric", "value", "reference", "output", "published", "against"}
    ruler = ["---" if index == 0 or column in texts else "---:" for index, column in enumerate(columns)]
    lines = [columns, ruler, *[[plain(cell) for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Return a text as Markdown that shows it as it is, on one line, cut where it is very long."""
    return escaped(text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…")


def escaped(text: str) -> str:
    """Return a text as Markdown that shows it as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|~&#$])", r"\\\1", " ".join(text.split()))


def render_latex(report: Record) -> str:
    """The headline scores as a table for a paper; it needs the package booktabs.

    The better of two runs is bold, a star marks a difference at 5 % after Holm's correction.
    """
    compared = {row["benchmark"]: row for row in report["comparisons"]}
    other = latex(report["other"] or "")
    lines = [
        rf"\begin{{tabular}}{{llrrrlr{'rr' if compared else ''}}}",
        r"\toprule",
        r"Benchmark & Metric & Score & 95\,\% interval & $n$ & Best without audio & Published"
        + (rf" & {other} & Difference" if compared else "")
        + r" \\",
        r"\midrule",
    ]
    for result in report["results"]:
        score = next(score for score in result["scores"] if score["metric"] == result["headline"])
        published, row = result["published"], compared.get(result["benchmark"])
        cells = [
            latex(result["benchmark"]),
            f"{latex(score['metric'])} {LATEX_ARROWS[result['higher_is_better']]}",
            latex(shown(score["value"], result)),
            latex(shown_range(score["low"], score["high"], result)),
            latex(counted(score["count"], result)),
            latex(shown_baseline(result), ranges=False),  # a rule may quote any text, in which "to" is a word
            latex(shown(published["value"], result) if published else ""),
        ]
        if row:
            ahead = row["difference"] or 0
            best = None if not ahead else 2 if (ahead > 0) == result["higher_is_better"] else len(cells)
            star = "*" if row["p_holm"] is not None and row["p_holm"] < 0.05 else ""
            cells += [latex(shown(row["other_value"], result)), latex_number(signed(row["difference"], result)) + star]
            if best is not None:
                cells[best] = rf"\textbf{{{cells[best]}}}"
        elif compared:
            cells += ["", ""]
        lines.append(" & ".join(cells) + r" \\")
    return SURROGATE.sub("\ufffd", "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n")


LATEX_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$"}


def latex_number(text: str) -> str:
    """Numbers as LaTeX prints them, with a minus sign in place of a hyphen."""
    return re.sub(r"-(?=\d)", "$-$", latex(text))


def latex(text: str, ranges: bool = True) -> str:
    """Return a text as LaTeX that prints it as it is, on one line; control characters are left out.

    Args:
        text: any.
        ranges: whether "1 to 2" is a range, with a dash.
    """
    text = CONTROL.sub("", " ".join(text.split()))
    marks = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        " %": r"\,\%",
    } | ({" to ": "--"} if ranges else {})
    marks |= {character: f"\\{character}" for character in "&%$#_{}"}
    pattern = "|".join(map(re.escape, sorted(marks, key=len, reverse=True)))
    return re.sub(pattern, lambda match: marks[match[0]], text)


def csv_cells(row: Iterable[Any]) -> list[Any]:
    """A row's cells on one line; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    return [csv_text(cell) if isinstance(cell, str) else cell for cell in row]


def csv_text(text: str) -> str:
    """A text as a cell of CSV holds it."""
    text = re.sub(r"[\r\n]+", " ", text)
    formula = text.lstrip(" ").startswith(FORMULA) and not is_number(text)
    return f"'{text}" if formula else text


def is_number(text: str) -> bool:
    """Tell whether a text is a number, such as -0.5."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.ASCII | re.IGNORECASE) is not None


def render_csv(report: Record) -> str:
    """Return every score as numbers, a line each."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        (
            "benchmark",
            "metric",
            "value",
            "low",
            "high",
            "count",
            "expected",
            "before",
            "baseline",
            "baseline_policy",
            "published",
            "source",
            "signature",
        )
    )
    for result in report["results"]:
        for score in result["scores"]:
            head = score["metric"] == result["headline"]
            published = (result["published"] if head else None) or {"value": None, "source": None}
            writer.writerow(
                csv_cells(
                    (
                        *(
                            result["benchmark"],
                            score["metric"],
                            score["value"],
                            score["low"],
                            score["high"],
                            score["count"],
                            result["expected"],
                        ),
                        *(result["before"].get(score["metric"]), result["baseline"] if head else None),
                        result.get("baseline_policy") if head else None,
                        *(published["value"], published["source"], score["signature"]),
                    )
                )
            )
    return SURROGATE.sub("\ufffd", file.getvalue())
