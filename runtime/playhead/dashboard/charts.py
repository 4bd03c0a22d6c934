"""Charts as geometry: what `charts.html` draws as SVG, without a script. Pure.

A plot is WIDTH units wide and stretched to its panel; heights are pixels, and what is written stands outside of it, in
percent, so that letters are not stretched. Where nothing was counted there is nothing drawn: no line goes over a gap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from playhead.dashboard.showing import count, duration
from playhead.history.statistics import Span

WIDTH = 1000
TOP, BOTTOM = 14, 18
TIMES_MAX = 6
_MIN_BAR_HEIGHT = 1.5
"""A single failure among thousands is still seen."""


class Box(NamedTuple):
    """A rectangle; `kind` is its class."""

    x: float
    y: float
    width: float
    height: float
    kind: str


class Label(NamedTuple):
    """Words at a height in pixels, or at a share of the width in percent."""

    at: float
    text: str


class Hit(NamedTuple):
    """The column of a bucket, and what it says when somebody points at it."""

    x: float
    width: float
    say: str


@dataclass(slots=True)
class Chart:
    """A drawing with its words: `rows` is the same as a table, for who can't see it."""

    title: str
    height: int
    kinds: Sequence[tuple[str, str]]
    boxes: list[Box] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)
    dots: list[tuple[float, float, str]] = field(default_factory=list)
    ticks: list[Label] = field(default_factory=list)
    times: list[Label] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    rows: list[tuple[str, Sequence[str]]] = field(default_factory=list)
    summary: str = ""

    @property
    def is_empty(self) -> bool:
        return not self.boxes and not self.lines and not self.dots


def stacked(
    title: str,
    steps: Span,
    kinds: Sequence[tuple[str, str]],
    counted: Mapping[tuple[int, str], float],
    height: int = 150,
) -> Chart:
    """Bars of counts.

    Args:
        kinds: (class, words), the first at the bottom.
        counted: by (bucket's beginning, class).
    """
    chart = Chart(title, height, kinds)
    sums = {at: sum(counted.get((at, kind), 0) for kind, _ in kinds) for at in steps.times}
    top = nice_top(max(sums.values(), default=0))
    _frame(chart, steps, top, count)
    column = WIDTH / len(steps.times)
    scale = (height - TOP - BOTTOM) / top
    for number, at in enumerate(steps.times):
        x, y = number * column, float(height - BOTTOM)
        for kind, _ in kinds:
            amount = counted.get((at, kind), 0)
            if amount:
                tall = max(amount * scale, _MIN_BAR_HEIGHT)
                y -= tall
                gap = min(1.0, column * 0.15)
                chart.boxes.append(
                    Box(round(x + gap, 2), round(y, 2), round(column - 2 * gap, 2), round(tall, 2), kind)
                )
        values = [count(counted.get((at, kind), 0)) for kind, _ in kinds]
        _say(chart, steps, number, column, values if sums[at] else [])
    total = {words: sum(counted.get((at, kind), 0) for at in steps.times) for kind, words in kinds}
    chart.summary = f"{title}: " + ", ".join(f"{count(amount)} {words}" for words, amount in total.items())
    return chart


def lines(
    title: str,
    steps: Span,
    kinds: Sequence[tuple[str, str]],
    measured: Mapping[tuple[int, str], float],
    height: int = 150,
) -> Chart:
    """Lines of durations in milliseconds, on a logarithmic scale."""
    chart = Chart(title, height, kinds)
    values = [value for value in measured.values() if value > 0]
    low = 10.0 ** math.floor(math.log10(min(values, default=1)))
    top = 10.0 ** math.ceil(math.log10(max(values, default=10) * 1.0001))
    top = max(top, low * 10)
    column = WIDTH / len(steps.times)
    tall = height - TOP - BOTTOM
    decades = round(math.log10(top / low))

    def y_of(value: float) -> float:
        share = math.log10(max(value, low) / low) / decades
        return round(height - BOTTOM - share * tall, 2)

    _times(chart, steps)
    chart.ticks = [Label(y_of(low * 10.0**i), duration(low * 10.0**i)) for i in range(0, decades + 1, 1 + decades // 5)]
    for kind, _ in kinds:
        _draw_line(
            chart,
            kind,
            [
                (round((i + 0.5) * column, 2), y_of(measured[at, kind])) if (at, kind) in measured else None
                for i, at in enumerate(steps.times)
            ],
        )
    for number, at in enumerate(steps.times):
        said = [duration(measured.get((at, kind))) for kind, _ in kinds]
        _say(chart, steps, number, column, said if (at, kinds[0][0]) in measured else [])
    if values:
        chart.summary = f"{title}: from {duration(min(values))} to {duration(max(values))}"
    return chart


def _draw_line(chart: Chart, kind: str, points: Sequence[tuple[float, float] | None]) -> None:
    """Stretches of neighbours as lines, what has no neighbour as a dot."""
    stretch: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            stretch.append(point)
            continue
        if len(stretch) == 1:
            chart.dots.append((*stretch[0], kind))
        elif stretch:
            chart.lines.append((kind, " ".join(f"{x},{y}" for x, y in stretch)))
        stretch = []


def _say(chart: Chart, steps: Span, number: int, column: float, values: Sequence[str]) -> None:
    when = bucket_name(steps, number)
    words = (
        [f"{words} {value}" for (_, words), value in zip(chart.kinds, values, strict=True)] if values else ["nothing"]
    )
    chart.hits.append(Hit(round(number * column, 2), round(column, 2), f"{when}: " + ", ".join(words)))
    if values:
        chart.rows.append((when, values))


def bucket_name(steps: Span, number: int) -> str:
    """When a bucket began."""
    at = datetime.fromtimestamp(steps.begin + number * steps.step, UTC)
    return f"{at:%H:%M}" if steps.step * len(steps.times) <= 86_400 else f"{at:%d %b %H:%M}"


def _frame(chart: Chart, steps: Span, top: float, words: object) -> None:
    tall = chart.height - TOP - BOTTOM
    chart.ticks = [Label(round(chart.height - BOTTOM - tall * i / 2, 2), count(top * i / 2)) for i in (0, 1, 2)]
    _times(chart, steps)


def _times(chart: Chart, steps: Span) -> None:
    for number in range(0, len(steps.times), max(1, math.ceil(len(steps.times) / TIMES_MAX))):
        share = 100 * number / len(steps.times)
        if share < 90:
            chart.times.append(Label(round(share, 2), bucket_name(steps, number)))


def nice_top(highest: float) -> float:
    """The top of a scale: 2, 4, 6, 10, 20, ... so that its half is a whole number too."""
    if highest <= 2:
        return 2
    power = 10.0 ** math.floor(math.log10(highest))
    for factor in (1, 2, 4, 6, 8, 10):
        if highest <= factor * power and (factor * power) % 2 == 0:
            return factor * power
    return 10 * power


# ── a run's attempts ─────────────────────────────────────────────────────────────────────────────────────────────────


class Bar(NamedTuple):
    """One attempt on the line of time, in hundredths of a percent of the whole."""

    number: int
    x: float
    width: float
    wait_x: float
    wait_width: float
    state: str
    label: str


def timeline(
    attempts: Sequence[tuple[int, float, float, str]], until_ms: float | None = None
) -> tuple[list[Bar], float]:
    """Bars of attempts, and how long all of it is in milliseconds.

    Args:
        attempts: (number, began_ms, duration_ms, state) in their order.
        until_ms: the end of the line, where something is still to come.
    """
    if not attempts:
        return [], 0.0
    start = attempts[0][1]
    end = max([began + took for _, began, took, _ in attempts] + ([until_ms] if until_ms else []))
    whole = max(end - start, 0.001)
    bars, before = [], None
    for number, began, took, state in attempts:
        x = max(0.0, 1000 * (began - start) / whole)
        width = max(3.0, 1000 * took / whole)
        x = min(x, 1000 - width)
        wait_x = x if before is None else min(before, x)
        bars.append(
            Bar(number, round(x, 1), round(width, 1), round(wait_x, 1), round(x - wait_x, 1), state, duration(took))
        )
        before = x + width
    return bars, whole


def spark(values: Sequence[float]) -> str:
    """Points of a small line of 120 x 22."""
    if not any(values):
        return ""
    top = max(values)
    step = 120 / max(1, len(values) - 1)
    return " ".join(f"{round(i * step, 1)},{round(21 - 19 * value / top, 1)}" for i, value in enumerate(values))
