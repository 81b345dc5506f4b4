"""Small charts as inline SVG: lines over event time, a calibration curve, bars side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from driftline.infra.report.axes import TicksOf, decimals, nice_ticks, time_ticks
from driftline.infra.report.plot import (
    RIGHT,
    WIDTH,
    Line,
    Mark,
    PlotFrame,
    Point,
    grid,
    line_path,
    mark_line,
    svg,
    text_at,
    time_axis,
)

LETTER = 6.5
"""Width of a letter of an axis, about."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a calibration curve: mean prediction, mean outcome, and how many there are."""

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One bin on both sides: shares of the requests, from 0 to 1."""

    name: str
    reference: float
    current: float


def time_chart(
    lines: Sequence[Line],
    span: Point,
    *,
    label: str,
    marks: Sequence[Mark] = (),
    floor: float | None = None,
    ceiling: float | None = None,
    height: int = 260,
    width: int = WIDTH,
    ticks_of: TicksOf = time_ticks,
) -> Markup:
    """Lines over event time (x in seconds since the epoch) with marks; `label` is for screen readers.

    With `count_ticks` as `ticks_of`, x counts something else.

    The scale leaves out the most extreme 1 % of the values, and what is above `ceiling`: they are drawn at
    its edge. It reaches down to `floor`. Empty when no line has two points.
    """
    drawn = [line for line in lines if len(line.points) > 1]
    if not drawn:
        return Markup()
    ticks = _value_ticks(drawn, floor, ceiling)
    rows = max((mark.row for mark in marks), default=0)
    plot = PlotFrame(span[0], max(span[1], span[0] + 1), ticks[0], ticks[-1], height, width)
    parts = [grid(plot, ticks), time_axis(plot, ticks_of(*span, max(3, width // 80)))]
    parts += [mark_line(plot, mark) for mark in marks]
    parts += [line_path(plot, line) for line in drawn]
    return svg(label, width, height + rows * 12, parts)


def _value_ticks(lines: Sequence[Line], floor: float | None, ceiling: float | None) -> list[float]:
    values = sorted(y for line in lines for _, y in line.points)
    trim = len(values) // 100
    low, high = values[trim], values[-1 - trim]
    if floor is not None:
        low = min(low, floor)
    if ceiling is not None:
        high = max(low, min(high, ceiling))
    return nice_ticks(low, high)


def calibration_chart(bins: Sequence[Bin], *, label: str, size: int = 380) -> Markup:
    """Observed against predicted, the diagonal, and below them how many fell into each bin."""
    used = [b for b in bins if b.count]
    if not used:
        return Markup()
    numbers = [value for b in used for value in (b.predicted, b.observed)]
    if min(numbers) >= 0 and max(numbers) <= 1:
        ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    else:
        ticks = nice_ticks(min(numbers), max(numbers))
    plot = PlotFrame(ticks[0], ticks[-1], ticks[0], ticks[-1], size - 60, size + 100)
    diagonal = Line("perfect", "ideal", [(ticks[0], ticks[0]), (ticks[-1], ticks[-1])], dashed=True)
    curve = Line("as served", "champion", [(b.predicted, b.observed) for b in used])
    names = [(tick, f"{tick:,.{decimals(ticks)}f}") for tick in ticks]
    most = max(b.count for b in used)
    parts = [grid(plot, ticks)]
    parts += [text_at(plot.x(tick), plot.base + 16, name, "middle") for tick, name in names]
    parts += [line_path(plot, diagonal), line_path(plot, curve)]
    parts += [_bin(plot, b, size - 4, max(1.5, b.count / most * 40)) for b in used]
    return svg(label, plot.width, size, parts)


def _bin(plot: PlotFrame, bin_: Bin, base: int, tall: float) -> Markup:
    """A dot of the curve, and a bar on `base` for the number of requests in it."""
    x = plot.x(bin_.predicted)
    return Markup(
        '<rect class="bar" x="{:.1f}" y="{:.1f}" width="14" height="{:.1f}"><title>{title}</title></rect>'
        '<circle class="dot champion" cx="{:.1f}" cy="{:.1f}" r="4"><title>{title}</title></circle>'
    ).format(
        x - 7,
        base - tall,
        tall,
        x,
        plot.y(bin_.observed),
        title=f"predicted {bin_.predicted:.3g}, observed {bin_.observed:.3g}, {bin_.count:,} predictions",
    )


def paired_bars(pairs: Sequence[Pair], *, label: str, width: int = 520, height: int = 210) -> Markup:
    """Two bars a bin side by side: the reference and what is current; the last bin's name, and as many of the
    others as there is room for."""
    most = max(max(pair.reference, pair.current) for pair in pairs) or 1.0
    ticks = nice_ticks(0.0, most, 4)
    plot = PlotFrame(0.0, float(len(pairs)), 0.0, ticks[-1], height, width)
    parts = [grid(plot, ticks)]
    parts += [_bars(plot, place, pair) for place, pair in enumerate(pairs)]
    return svg(label, width, height, [*parts, *_bin_names(plot, [pair.name for pair in pairs])])


def _bars(plot: PlotFrame, place: int, pair: Pair) -> Markup:
    room = plot.x(1.0) - plot.x(0.0)
    left, wide = plot.x(place) + room * 0.08, room * 0.42
    title = f"{pair.name}: reference {pair.reference:.2%}, current {pair.current:.2%}"
    return Markup().join(
        Markup(
            '<rect class="share {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
            "<title>{}</title></rect>"
        ).format(style, x, plot.y(share), wide, plot.base - plot.y(share), title)
        for style, share, x in (
            ("reference", pair.reference, left),
            ("current", pair.current, left + wide),
        )
    )


def _bin_names(plot: PlotFrame, names: Sequence[str]) -> list[Markup]:
    room = plot.x(1.0) - plot.x(0.0)
    right = float(plot.width - RIGHT)
    every = max(1, math.ceil((max(map(len, names)) * LETTER + 6) / room))
    free = right - (len(names[-1]) + 1) * LETTER
    shown = [text_at(right, plot.base + 16, names[-1], "end")]
    for place in range(0, len(names), every):
        x, name = plot.x(place + 0.5), names[place]
        if x + len(name) * LETTER / 2 < free:
            shown.append(text_at(x, plot.base + 16, name, "middle"))
    return shown
