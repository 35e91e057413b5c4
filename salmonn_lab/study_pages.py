"""The forms of an experiment's report: HTML, Markdown, LaTeX and CSV, each made of its `report.json` alone."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from salmonn_lab import plots
from salmonn_lab.pages import (
    ARROWS,
    LATEX_ARROWS,
    LOSSES,
    MISSING,
    SURROGATE,
    Record,
    bullets,
    csv_cells,
    escaped,
    latex,
    latex_number,
    p_value,
    page_environment,
    plain,
    shown,
    shown_range,
    signed,
    signed_range,
    table,
)

ITEMS_ALONE = "†"
"""Marks an interval and a p-value that know of one seed only."""
FROM_SCORES = "‡"
"""Marks those that are made of the scores of runs alone."""
PARTS = {"Bridge": "bridge", "LanguageModel": "LLM"}
"""How the parts of a model are called; the others are encoders."""
STEP_NOTE = "Tokens and operations are of a training step on a clip of 10 s."
PART_NOTE = (
    "Seconds of CPU (all threads) or GPU by part of the model are means over the runs that noted them, of training "
    "alone, where encoders take none if a feature store answers for them."
)
COSTS = (("tokens", "audio tokens for 10 s"), ("total_seconds", "seconds of a run"))
"""What scores are drawn against: a key of `cost`, and its name."""
ALONG_AXES = ("following_rate", "perplexity")
"""Metrics that are drawn along an axis beside the headline, where they were measured."""
FEWEST_POINTS = 3
"""Of a curve along an axis: two settings are compared in the table."""


def render_html(study: Record) -> str:
    """Return the page for browsers: one file, which asks for nothing else."""
    page = template().render(
        study=study,
        colours=setting_colours(study),
        comparisons=from_baseline(study),
        pairs=named_pairs(study),
        bests=bests(study),
        parts=parts_of(study, "seconds"),
        model_parts=parts_of(study, "part_seconds"),
        part_note=part_note(study),
        score_plots=score_plots(study),
        axis_plots=axis_plots(study),
        loss_plots=loss_plots(study),
        score_of=score_of,
        alone=ITEMS_ALONE,
    )
    return SURROGATE.sub("\ufffd", page)


@cache
def template() -> Template:
    """Return the page's template, which takes long to compile."""
    environment = page_environment()
    environment.filters |= {"marked": marked, "gflops": gflops, "significant": is_significant, "sized": sized}
    return environment.get_template("study.html")


def score_of(setting: Record, benchmark: str, metric: str) -> Record | None:
    """Return a score of a setting, None where it has none."""
    found = (s for s in setting["scores"] if s["benchmark"] == benchmark and s["metric"] == metric)
    return next(found, None)


def from_baseline(study: Record) -> dict[tuple[str, str], Record]:
    """Comparisons with the baseline, by benchmark and setting."""
    base = next((setting["name"] for setting in study["settings"] if setting.get("baseline")), None)
    return {(row["benchmark"], row["setting"]): row for row in study["comparisons"] if row["against"] == base}


def named_pairs(study: Record) -> dict[str, list[Record]]:
    """The other comparisons by benchmark, those of the pairs that the sweep names."""
    base = from_baseline(study).values()
    found: dict[str, list[Record]] = {}
    for row in study["comparisons"]:
        if not any(row is known for known in base):
            found.setdefault(row["benchmark"], []).append(row)
    return found


def bests(study: Record) -> set[tuple[str, str]]:
    """Benchmarks and settings of the best headline scores; where all score the same, none is."""
    found = set()
    for row in study["measurements"]:
        values = {
            setting["name"]: score["value"]
            for setting in study["settings"]
            if (score := score_of(setting, row["benchmark"], row["headline"])) and score["value"] is not None
        }
        if len(set(values.values())) > 1:
            best = max(values.values()) if row["higher_is_better"] else min(values.values())
            found |= {(row["benchmark"], name) for name, value in values.items() if value == best}
    return found


def marked(comparison: Record) -> str:
    """Marks of a comparison: that it knows of one seed only, that it is made of scores alone."""
    alone = "" if comparison["seeds"] else ITEMS_ALONE
    return alone + (FROM_SCORES if comparison["from_scores"] else "")


def is_significant(comparison: Record | None) -> bool:
    """Whether a difference is there at 5 % after Holm's correction."""
    return comparison is not None and comparison["p_holm"] is not None and comparison["p_holm"] < 0.05


def sized(row: Record) -> str:
    """Items of a benchmark, and the words that its error rate is of."""
    return f"{row['count']} items" + ("" if row["units"] is None else f", {row['units']} {row['unit']}")


def gflops(cost: Record, part: str) -> float | None:
    """Return the operations of the encoders, the bridge or the LLM, None where they are not known."""
    values = [value for name, value in cost["gflops"].items() if PARTS.get(name, "encoders") == part]
    return sum(values) if cost["gflops"] else None


def parts_of(study: Record, key: str) -> list[str]:
    """Return the parts that settings took seconds for: of a run (`seconds`), or of the model (`part_seconds`)."""
    costs = [setting["cost"] for setting in study["settings"] if setting["cost"]]
    return list(dict.fromkeys(part for cost in costs for part in cost[key]))


def setting_colours(study: Record) -> dict[str, str]:
    """Return the colour of each setting."""
    return {setting["name"]: plots.colour(index) for index, setting in enumerate(study["settings"])}


def score_plots(study: Record) -> dict[str, list[Markup]]:
    """Return for each benchmark its headline score against what it costs; where nothing varies there is no plot."""
    colours = setting_colours(study)
    found: dict[str, list[Markup]] = {}
    for row in study["measurements"]:
        drawn = []
        for key, name in COSTS:
            points = []
            for setting in study["settings"]:
                score, cost = score_of(setting, row["benchmark"], row["headline"]), setting["cost"]
                if score and score["value"] is not None and cost and cost[key] is not None:
                    ends = [math.nan if score[end] is None else score[end] for end in ("low", "high")]
                    label, x = setting["name"], float(cost[key])
                    points.append(plots.Point(x, score["value"], ends[0], ends[1], label, colours[label]))
            if len({point.x for point in points}) > 1:
                line = plots.frontier(points, higher_is_better=row["higher_is_better"])
                drawn.append(plots.scatter(points, line, name, row["headline"], partial(shown, result=row)))
        if drawn:
            found[row["benchmark"]] = drawn
    return found


def axis_plots(study: Record) -> dict[str, list[Markup]]:
    """Return for each benchmark how its scores go along every axis of numbers, the other axes being the baseline's."""
    colours, found = setting_colours(study), {}
    base = next(setting["values"] for setting in study["settings"] if setting["baseline"])
    for row in study["measurements"]:
        metrics = [row["headline"], *(metric for metric in ALONG_AXES if metric in row["metrics"])]
        drawn = []
        for axis in study["axes"]:
            others = [other for other in study["axes"] if other != axis]
            settings = [
                setting
                for setting in study["settings"]
                if all(setting["values"].get(other) == base.get(other) for other in others)
            ]
            for metric in metrics:
                points = []
                for setting in settings:
                    place, score = as_number(setting["values"].get(axis)), score_of(setting, row["benchmark"], metric)
                    if place is not None and score and score["value"] is not None:
                        low, high = (math.nan if score[end] is None else score[end] for end in ("low", "high"))
                        name = setting["name"]
                        points.append(plots.Point(place, score["value"], low, high, name, colours[name]))
                if len(points) >= FEWEST_POINTS:
                    line = sorted((point.x, point.y) for point in points)
                    form = partial(shown, result=row, metric=metric)
                    drawn.append(plots.scatter(points, line, axis, metric, form))
        if drawn:
            found[row["benchmark"]] = drawn
    return found


def as_number(text: str | None) -> float | None:
    """Return the number that a value on an axis is, None where it is none."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def loss_plots(study: Record) -> list[Markup]:
    """The curves of each loss: of every setting the mean over its runs, smoothed, and the range of these."""
    colours = setting_colours(study)
    found = []
    for metric, name in LOSSES.items():
        series = []
        for setting, colour in colours.items():
            lines = [
                plots.smooth([(step, loss) for step, loss in curve["points"]])
                for curve in study["curves"]
                if (curve["metric"], curve["setting"]) == (metric, setting) and len(curve["points"]) > 1
            ]
            if lines:
                line, band = plots.band(lines)
                series.append(plots.Series(line, setting, colour, band if len(lines) > 1 else ()))
        if series:
            found.append(plots.curves(series, "step", name, lambda value: f"{value:.3g}"))
    return found


def render_markdown(study: Record) -> str:
    """Return the page for terminals and repositories."""
    parts = [
        f"# {plain(study['title'])}",
        *filter(None, (escaped(study["question"]), escaped(study["background"]))),
        *[part for row in study["measurements"] for part in benchmark_section(study, row)],
        plain_whole(study["method"]),
        *cost_section(study),
        *bullets("## Not there", (absent_line(row) for row in study["absent"])),
        *bullets("## Remarks", map(plain, study["remarks"])),
        *bullets("## Differences between the runs", map(differing_line, study["differing"])),
        *bullets("## Signatures", signature_lines(study)),
    ]
    return SURROGATE.sub("\ufffd", "\n\n".join(parts) + "\n")


def plain_whole(text: str) -> str:
    """Return a paragraph of this kit's own, which needs no cutting."""
    return " ".join(text.split())


def benchmark_section(study: Record, row: Record) -> list[str]:
    """Tables of one benchmark: scores of every setting and how they differ from the baseline's; the sweep's pairs."""
    arrow = "higher is better" if row["higher_is_better"] else "lower is better"
    head = f"{row['headline']} {ARROWS[row['higher_is_better']]}"
    columns = ("setting", "seeds", head, "± seeds", "95 % interval", "difference", "95 %", "p", "p (Holm)")
    rows = [setting_row(study, setting, row) for setting in study["settings"]]
    parts = [f"## {plain(row['benchmark'])}", f"{sized(row)}; {arrow}.", table(columns, rows)]
    if pairs := named_pairs(study).get(row["benchmark"]):
        told = [(pair["setting"], pair["against"], *difference_cells(pair, row)) for pair in pairs]
        parts.append(table(("setting", "against", "difference", "95 %", "p", "p (Holm)"), told))
    return parts


def setting_row(study: Record, setting: Record, row: Record) -> tuple[str, ...]:
    """Line of a benchmark's table."""
    name = f"{setting['name']} (baseline)" if setting["baseline"] else setting["name"]
    seeds = f"{setting['done']} of {setting['planned']}"
    score = score_of(setting, row["benchmark"], row["headline"])
    if score is None:
        return (name, seeds, *[MISSING] * 3, *[""] * 4)
    spread = "" if score["spread"] is None else signed(score["spread"], row).lstrip("+")
    first = (name, seeds, shown(score["value"], row), spread, shown_range(score["low"], score["high"], row))
    comparison = from_baseline(study).get((row["benchmark"], setting["name"]))
    return (*first, *(difference_cells(comparison, row) if comparison else [""] * 4))


def difference_cells(comparison: Record, row: Record) -> tuple[str, ...]:
    """Difference of a comparison with its interval and p-values."""
    return (
        signed(comparison["value"], row),
        signed_range(comparison["low"], comparison["high"], row),
        f"{p_value(comparison['p'])}{marked(comparison)}",
        f"{p_value(comparison['p_holm'])}{marked(comparison)}",
    )


def part_note(study: Record) -> str:
    """Return what is to be known to read the costs by part of the model."""
    return f"{PART_NOTE} {STEP_NOTE}" if parts_of(study, "part_seconds") else STEP_NOTE


def cost_section(study: Record) -> list[str]:
    """Return the tables of what settings cost: a run's parts, and the model's."""
    parts, model_parts = parts_of(study, "seconds"), parts_of(study, "part_seconds")
    run_rows, model_rows = [], []
    for setting in study["settings"]:
        cost = setting["cost"]
        if cost is None:
            continue
        times = [number(cost["seconds"].get(part), ".0f") for part in parts]
        whole = (number(cost["total_seconds"], ".0f"), number(cost["memory_gib"], ".2f"))
        run_rows.append((setting["name"], *times, *whole))
        times = [number(cost["part_seconds"].get(part), ".0f") for part in model_parts]
        operations = [number(gflops(cost, part), ".2f") for part in ("encoders", "bridge", "LLM")]
        facts = (number(cost["trainable"], ",d"), number(cost["tokens"], "d"))
        model_rows.append((setting["name"], *times, *facts, *operations))
    if not run_rows:
        return []
    run_columns = ("setting", *(f"{part} (s)" for part in parts), "all (s)", "memory (GiB)")
    model_columns = ("setting", *(f"{part} (s)" for part in model_parts), "trainable weights", "audio tokens")
    model_columns = (*model_columns, "GFLOP encoders", "GFLOP bridge", "GFLOP LLM")
    told = "Seconds are means over runs, memory the most of any."
    return ["## Cost", told, table(run_columns, run_rows), part_note(study), table(model_columns, model_rows)]


def number(value: float | None, form: str) -> str:
    """Return a number, or what stands where there is none."""
    return MISSING if value is None else format(value, form)


def absent_line(row: Record) -> str:
    """Return what is said of a run that is not finished."""
    error = f": {plain(row['error'])}" if row["error"] else ""
    return f"{plain(row['run'])}: {row['state']}{error}"


def differing_line(row: Record) -> str:
    """Return what is said of a fact in which runs differ."""
    return f"{plain(row['fact'])}: " + "; ".join(
        f"{plain(value)} in {plain(', '.join(runs))}" for value, runs in row["values"].items()
    )


def signature_lines(study: Record) -> list[str]:
    """Return how each score was made."""
    return [
        f"{plain(row['benchmark'])} {plain(metric)}: `{signature}`"
        for row in study["measurements"]
        for metric, signature in row["signatures"].items()
    ]


def render_latex(study: Record) -> str:
    """Headline scores by setting as a table for a paper, then the sweep's pairs; it needs the package booktabs."""
    rows = study["measurements"]
    differences, pairs, best = from_baseline(study), named_pairs(study), bests(study)
    heads = [
        f"{latex(row['benchmark'])} ({latex(row['headline'])}) {LATEX_ARROWS[row['higher_is_better']]}" for row in rows
    ]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(rows)}}}",
        r"\toprule",
        " & ".join(["Setting", *heads]) + r" \\",
        r"\midrule",
    ]
    for setting in study["settings"]:
        cells = []
        for row in rows:
            score = score_of(setting, row["benchmark"], row["headline"])
            place = (row["benchmark"], setting["name"])
            cells.append(latex_cell(score, differences.get(place), row, bold=place in best))
        lines.append(" & ".join([latex(setting["name"]), *cells]) + r" \\")
    named = dict.fromkeys((pair["setting"], pair["against"]) for found in pairs.values() for pair in found)
    if named:
        lines.append(r"\midrule")
    for one, other in named:
        cells = []
        for row in rows:
            own = {(pair["setting"], pair["against"]): pair for pair in pairs.get(row["benchmark"], ())}
            cells.append(latex_difference(own[one, other], row) if (one, other) in own else "--")
        lines.append(" & ".join([f"{latex(one)} $-$ {latex(other)}", *cells]) + r" \\")
    notes = [
        r"% * differs from the baseline at 5 % after Holm's correction; after the sign stands the spread over seeds"
    ]
    notes += [r"% the best score is bold; the arrows tell whether higher or lower is better"]
    if named:
        notes.append(r"% last: differences of two settings with their 95 % intervals; * as above")
    return SURROGATE.sub("\ufffd", "\n".join([*notes, *lines, r"\bottomrule", r"\end{tabular}"]) + "\n")


def latex_cell(score: Record | None, comparison: Record | None, row: Record, *, bold: bool) -> str:
    """Score with its spread, a star where it differs from the baseline."""
    if score is None:
        return "--"
    value = latex(shown(score["value"], row))
    spread = "" if score["spread"] is None else rf" $\pm$ {latex(signed(score['spread'], row).lstrip('+'))}"
    star = "*" if is_significant(comparison) else ""
    return (rf"\textbf{{{value}}}" if bold else value) + spread + star


def latex_difference(pair: Record, row: Record) -> str:
    """Difference of two settings with its interval, a star where it is there."""
    value, *ends = (latex_number(signed(pair[key], row)) for key in ("value", "low", "high"))
    interval = "" if pair["low"] is None else f" [{', '.join(ends)}]"
    return value + interval + ("*" if is_significant(pair) else "")


def render_csv(study: Record) -> str:
    """Every score of every setting as numbers, a line each; a headline score has one for each difference."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    axes: Sequence[str] = study["axes"]
    names = ("benchmark", "metric", "value", "low", "high", "spread", "seeds", "count", "signature")
    changes = ("against", "difference", "difference_low", "difference_high", "p", "p_holm", "seconds", "audio_tokens")
    writer.writerow(csv_cells(("setting", *axes, *names, *changes)))
    measured = {row["benchmark"]: row for row in study["measurements"]}
    differences, pairs = from_baseline(study), named_pairs(study)
    for setting in study["settings"]:
        cost: dict[str, Any] = setting["cost"] or {}
        for score in setting["scores"]:
            row = measured[score["benchmark"]]
            head = score["metric"] == row["headline"]
            base = differences.get((score["benchmark"], setting["name"]))
            named = [pair for pair in pairs.get(score["benchmark"], ()) if pair["setting"] == setting["name"]]
            for found in [base or {}, *named] if head else [{}]:
                writer.writerow(
                    csv_cells(
                        (
                            setting["name"],
                            *(setting["values"].get(axis) for axis in axes),
                            *(score[key] for key in ("benchmark", "metric", "value", "low", "high", "spread")),
                            *(setting["done"], row["count"], row["signatures"][score["metric"]]),
                            *(found.get(key) for key in ("against", "value", "low", "high", "p", "p_holm")),
                            *(cost.get("total_seconds"), cost.get("tokens")),
                        )
                    )
                )
    return SURROGATE.sub("\ufffd", file.getvalue())


RENDERERS = {"html": render_html, "md": render_markdown, "tex": render_latex, "csv": render_csv}
