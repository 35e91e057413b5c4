"""Plots as SVG to be set into a page: points with intervals, and curves; their colours are the page's own style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 12, 42
"""Margins, where the axes are named."""
COLOURS = ("#3b7dd8", "#d9762b", "#2f9e6e", "#b5489a", "#8a6fd1", "#c9a227", "#d14b4b", "#4aa8b5")
"""Told apart on white, on black, and by most who see colours differently."""
Format = Callable[[float], str]
Line = Sequence[tuple[float, float]]
"""Points of a line."""


class Point(NamedTuple):
    """A mark with its interval, which may be nan."""

    x: float
    y: float
    low: float
    high: float
    label: str
    colour: str


class Series(NamedTuple):
    """A curve, and what lies around it."""

    points: Sequence[Sequence[float]]
    label: str
    colour: str
    band: Sequence[tuple[float, float, float]] = ()
    """Places with the lowest and the highest value there."""
    faint: Sequence[Sequence[float]] = ()
    """What the curve is a smoothed form of."""


class Scale(NamedTuple):
    """Turns numbers into places on the page."""

    first: float
    last: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a number."""
        share = (value - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def colour(index: int) -> str:
    """Return the colour of one of several things; there are eight."""
    return COLOURS[index % len(COLOURS)]


def frontier(points: Sequence[Point], *, higher_is_better: bool) -> Line:
    """Return the steps along the points that no other one beats in both, at a smaller x."""
    first, *others = pareto(points, higher_is_better=higher_is_better)
    corners = [(point.x, y) for last, point in zip([first, *others], others, strict=False) for y in (last.y, point.y)]
    return [(first.x, first.y), *corners]


def scatter(points: Sequence[Point], line: Line, x_label: str, y_label: str, y_format: Format) -> Markup:
    """Draw points with their intervals, and a dashed line."""
    ends = [end for point in points for end in (point.low, point.high, point.y) if math.isfinite(end)]
    across, up = axes([point.x for point in points], ends)
    parts = [frame(across, up, x_label, y_label, y_format)]
    places = " ".join(f"{across(x)},{up(y)}" for x, y in line)
    parts.append(Markup('<polyline class="front" points="{}"/>').format(places))
    for point in points:
        x, y = across(point.x), up(point.y)
        if math.isfinite(point.low) and math.isfinite(point.high):
            parts.append(
                Markup('<line x1="{0}" y1="{1}" x2="{0}" y2="{2}" stroke="{3}" stroke-width="1.5"/>').format(
                    x, up(point.low), up(point.high), point.colour
                )
            )
        parts.append(
            Markup('<circle cx="{}" cy="{}" r="4.5" fill="{}"><title>{}: {}</title></circle>').format(
                x, y, point.colour, point.label, y_format(point.y)
            )
        )
    return svg(parts, f"{y_label} against {x_label}")


def smooth(points: Line) -> Line:
    """Curve of as many points, each the mean of its neighbours: of a twelfth of all, of fewer towards both ends.

    There are three at least, so that a short curve is smoothed too.
    """
    reach, last = max(1, len(points) // 24), len(points) - 1
    found = []
    for place, (x, _) in enumerate(points):
        beside = min(reach, place, last - place)
        found.append((x, mean(y for _, y in points[place - beside : place + beside + 1])))
    return found


def band(lines: Sequence[Line]) -> tuple[Line, list[tuple[float, float, float]]]:
    """Mean of several curves, and the lowest and the highest of them, over the stretch that all of them have."""
    start, end = max(line[0][0] for line in lines), min(line[-1][0] for line in lines)
    places = sorted({x for line in lines for x, _ in line if start <= x <= end})
    values = [interpolate(line, places) for line in lines]
    rows = list(zip(places, *values, strict=True))
    return [(x, mean(ys)) for x, *ys in rows], [(x, min(ys), max(ys)) for x, *ys in rows]


def interpolate(line: Line, places: Sequence[float]) -> list[float]:
    """Height of a curve at some places, on the straight lines between its points."""
    heights: list[float] = np.interp(places, [x for x, _ in line], [y for _, y in line]).tolist()
    return heights


def curves(series: Sequence[Series], x_label: str, y_label: str, y_format: Format) -> Markup:
    """Draw curves, over the bands and the curves that they are made of."""
    ends = [end for curve in series for _, low, high in curve.band for end in (low, high)]
    across, up = axes(
        [point[0] for curve in series for point in (*curve.points, *curve.faint)],
        [*(point[1] for curve in series for point in (*curve.points, *curve.faint)), *ends],
    )
    parts = [frame(across, up, x_label, y_label, y_format)]
    for curve in series:
        if curve.band:
            around = [*((x, high) for x, _, high in curve.band), *((x, low) for x, low, _ in reversed(curve.band))]
            places = " ".join(f"{across(x)},{up(y)}" for x, y in around)
            parts.append(Markup('<polygon class="band" points="{}" fill="{}"/>').format(places, curve.colour))
        if curve.faint:
            places = " ".join(f"{across(point[0])},{up(point[1])}" for point in curve.faint)
            parts.append(Markup('<polyline class="faint" points="{}" stroke="{}"/>').format(places, curve.colour))
    for curve in series:
        places = " ".join(f"{across(point[0])},{up(point[1])}" for point in curve.points)
        parts.append(
            Markup('<polyline class="curve" points="{}" stroke="{}"><title>{}</title></polyline>').format(
                places, curve.colour, curve.label
            )
        )
    return svg(parts, f"{y_label} by {x_label}")


def pareto(points: Sequence[Point], *, higher_is_better: bool) -> list[Point]:
    """Return the points that no other one equals or beats in x and in y at once, by rising x."""
    sign = -1 if higher_is_better else 1
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, sign * point.y)):
        if not found or sign * point.y < sign * found[-1].y:
            found.append(point)
    return found


def axes(xs: Sequence[float], ys: Sequence[float]) -> tuple[Scale, Scale]:
    """Return the scales in which all of these have room."""
    return (
        Scale(*room(xs), LEFT, WIDTH - RIGHT),
        Scale(*room(ys), HEIGHT - BOTTOM, TOP),
    )


def room(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis: a little beyond the values, from 0 where they come near it."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return (0.0 if 0 <= low < (high - low) else low - margin), high + margin


def ticks(low: float, high: float) -> list[float]:
    """Return some round numbers within an axis."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def frame(across: Scale, up: Scale, x_label: str, y_label: str, y_format: Format) -> Markup:
    """Draw the axes with their numbers."""
    parts = []
    for value in ticks(up.first, up.last):
        parts.append(
            Markup(
                '<line class="rule" x1="{}" y1="{}" x2="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(LEFT, up(value), WIDTH - RIGHT, up(value), LEFT - 6, up(value) + 4, y_format(value))
        )
    for value in ticks(across.first, across.last):
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{:,.6g}</text>').format(
                across(value), HEIGHT - BOTTOM + 16, value
            )
        )
    parts.append(
        Markup('<text class="name" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label
        )
    )
    parts.append(
        Markup('<text class="name" transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
            (TOP + HEIGHT - BOTTOM) / 2, y_label
        )
    )
    return Markup("").join(parts)


def svg(parts: Sequence[Markup], label: str) -> Markup:
    """Return a drawing that says what it shows to those who cannot see it."""
    opening = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, label)
    return opening + Markup("").join(parts) + Markup("</svg>")
