"""Small charts as inline SVG: lines over event time, a calibration curve. No scripts, no files.

Colours are CSS classes, so the page decides them for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape

Point = tuple[float, float]
TicksOf = Callable[[float, float, int], list[tuple[float, str]]]

WIDTH = 1040
LEFT = 58
RIGHT = 16
TOP = 14
BOTTOM = 30


@dataclass(frozen=True, slots=True)
class Line:
    """A named series; `style` is the CSS class that colours it."""

    name: str
    style: str
    points: Sequence[Point]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at `x`; `row` 0 is a full-height mark, others are rows of ticks below."""

    x: float
    title: str
    style: str
    row: int = 1


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a calibration curve: mean prediction, mean of what came, and their number."""

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One bin on both sides: shares of the requests, from 0 to 1."""

    name: str
    reference: float
    current: float


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps data to the picture."""

    x0: float
    x1: float
    y0: float
    y1: float
    height: int
    width: int = WIDTH

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        clipped = min(max(value, self.y0), self.y1)
        return TOP + (self.y1 - clipped) / (self.y1 - self.y0) * (self.height - TOP - BOTTOM)


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers covering [low, high], about so many.

    >>> nice_ticks(0.41, 0.58)
    [0.4, 0.45, 0.5, 0.55, 0.6]
    """
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def time_ticks(start: float, end: float, about: int = 12) -> list[tuple[float, str]]:
    """(seconds since the epoch, label) at round moments within [start, end]."""
    span = end - start
    if span > 70 * 86_400:
        return _month_ticks(start, end, about)
    steps = [60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 2 * 86_400, 7 * 86_400]
    step = next((s for s in steps if span / s <= about), steps[-1])
    form = "%-d %b" if step >= 86_400 else "%-d %b %H:%M" if span > 86_400 else "%H:%M"
    first = math.ceil(start / step) * step
    return [
        (float(at), datetime.fromtimestamp(at, UTC).strftime(form))
        for at in range(int(first), int(end) + 1, step)
    ]


def count_ticks(start: float, end: float, about: int = 12) -> list[tuple[float, str]]:
    """(number, label) at round numbers within [start, end].

    >>> count_ticks(0, 3000, 3)
    [(0.0, '0'), (1000.0, '1,000'), (2000.0, '2,000'), (3000.0, '3,000')]
    """
    return [(tick, f"{tick:,.0f}") for tick in nice_ticks(start, end, about) if start <= tick <= end]


def _month_ticks(start: float, end: float, about: int) -> list[tuple[float, str]]:
    months = max(1, math.ceil((end - start) / (30.5 * 86_400) / about))
    moment = datetime.fromtimestamp(start, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ticks = []
    while moment.timestamp() <= end:
        if moment.timestamp() >= start and (moment.month - 1) % months == 0:
            form = "%b %Y" if moment.month == 1 or months >= 12 else "%b"
            ticks.append((moment.timestamp(), moment.strftime(form)))
        moment = (moment + timedelta(days=32)).replace(day=1)
    return ticks


def time_chart(
    lines: Sequence[Line],
    span: Point,
    *,
    label: str,
    marks: Sequence[Mark] = (),
    floor: float | None = None,
    height: int = 260,
    width: int = WIDTH,
    ticks_of: TicksOf = time_ticks,
) -> str:
    """Lines over event time (x in seconds since the epoch) with marks; `label` is read to the blind.

    With `count_ticks` as `ticks_of`, x counts something else.

    The scale leaves out the most extreme 1 % of the values, which are drawn at its edge; `floor` is
    a value that it must reach down to. An empty string when no line has two points.
    """
    drawn = [line for line in lines if len(line.points) > 1]
    if not drawn:
        return ""
    values = sorted(y for line in drawn for _, y in line.points)
    trim = len(values) // 100
    low, high = values[trim], values[-1 - trim]
    if floor is not None:
        low = min(low, floor)
    ticks = nice_ticks(low, high)
    rows = max((mark.row for mark in marks), default=0)
    plot = _Frame(span[0], max(span[1], span[0] + 1), ticks[0], ticks[-1], height, width)
    parts = [_grid(plot, ticks), _time_axis(plot, ticks_of(*span, max(3, width // 80)))]
    parts += [_mark(plot, mark) for mark in marks]
    parts += [_line(plot, line) for line in drawn]
    return _svg(label, plot.width, height + rows * 12, "".join(parts))


def calibration_chart(bins: Sequence[Bin], *, label: str, size: int = 380) -> str:
    """Observed against predicted, the diagonal, and below them how many fell into each bin."""
    used = [b for b in bins if b.count]
    if not used:
        return ""
    numbers = [value for b in used for value in (b.predicted, b.observed)]
    if min(numbers) >= 0 and max(numbers) <= 1:
        ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    else:
        ticks = nice_ticks(min(numbers), max(numbers))
    plot = _Frame(ticks[0], ticks[-1], ticks[0], ticks[-1], size - 60, size + 100)
    diagonal = Line("perfect", "ideal", [(ticks[0], ticks[0]), (ticks[-1], ticks[-1])], dashed=True)
    parts = [_grid(plot, ticks)]
    for tick in ticks:
        name = f"{tick:,.{_decimals(ticks)}f}"
        parts.append(_text(plot.x(tick), plot.height - BOTTOM + 16, name, "middle"))
    parts.append(_line(plot, diagonal))
    parts.append(_line(plot, Line("champion", "champion", [(b.predicted, b.observed) for b in used])))
    most = max(b.count for b in used)
    base = size - 4
    for b in used:
        x, tall = plot.x(b.predicted), max(1.5, b.count / most * 40)
        title = f"predicted {b.predicted:.3g}, observed {b.observed:.3g}, {b.count:,} predictions"
        parts.append(
            f'<rect class="bar" x="{x - 7:.1f}" y="{base - tall:.1f}" width="14" height="{tall:.1f}">'
            f"<title>{title}</title></rect>"
            f'<circle class="dot champion" cx="{x:.1f}" cy="{plot.y(b.observed):.1f}" r="4">'
            f"<title>{title}</title></circle>"
        )
    return _svg(label, plot.width, size, "".join(parts))


def paired_bars(pairs: Sequence[Pair], *, label: str, width: int = 520, height: int = 210) -> str:
    """Two bars a bin side by side: the reference and what is current; the last bin's name, and as many of the
    others as there is room for."""
    most = max(max(pair.reference, pair.current) for pair in pairs) or 1.0
    ticks = nice_ticks(0.0, most, 4)
    plot = _Frame(0.0, float(len(pairs)), 0.0, ticks[-1], height, width)
    parts = [_grid(plot, ticks)]
    base = float(plot.height - BOTTOM)
    room = plot.x(1.0) - plot.x(0.0)
    letter = 6.5
    right = float(plot.width - RIGHT)
    last = pairs[-1].name
    parts.append(_text(right, base + 16, last, "end"))
    longest = max(len(pair.name) for pair in pairs)
    every = max(1, math.ceil((longest * letter + 6) / room))
    for place, pair in enumerate(pairs):
        left = plot.x(place) + room * 0.08
        title = escape(f"{pair.name}: reference {pair.reference:.2%}, current {pair.current:.2%}")
        for style, share, x in (
            ("reference", pair.reference, left),
            ("current", pair.current, left + room * 0.42),
        ):
            y = plot.y(share)
            parts.append(
                f'<rect class="share {style}" x="{x:.1f}" y="{y:.1f}" width="{room * 0.42:.1f}" '
                f'height="{base - y:.1f}"><title>{title}</title></rect>'
            )
        x = plot.x(place + 0.5)
        if place % every == 0 and x + len(pair.name) * letter / 2 < right - (len(last) + 1) * letter:
            parts.append(_text(x, base + 16, pair.name, "middle"))
    return _svg(label, width, height, "".join(parts))


def _svg(label: str, width: int, height: int, body: str) -> str:
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" '
        f'xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )


def _decimals(ticks: Sequence[float]) -> int:
    """How many decimals tell the ticks apart."""
    return max(len(f"{tick:.6f}".rstrip("0").partition(".")[2]) for tick in ticks)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _grid(plot: _Frame, ticks: Sequence[float]) -> str:
    parts = []
    decimals = _decimals(ticks)
    for tick in ticks:
        y = plot.y(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{plot.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            + _text(LEFT - 8, y + 4, f"{tick:,.{decimals}f}", "end")
        )
    return "".join(parts)


def _time_axis(plot: _Frame, ticks: Sequence[tuple[float, str]]) -> str:
    base = plot.height - BOTTOM
    return "".join(
        f'<line class="tick" x1="{plot.x(at):.1f}" x2="{plot.x(at):.1f}" y1="{base}" y2="{base + 4}"/>'
        + _text(plot.x(at), base + 18, name, "end" if plot.x(at) > plot.width - RIGHT - 14 else "middle")
        for at, name in ticks
    )


def _line(plot: _Frame, line: Line) -> str:
    path = "L".join(f"{plot.x(x):.1f} {plot.y(y):.1f}" for x, y in line.points)
    dashed = " dashed" if line.dashed else ""
    return f'<path class="line {line.style}{dashed}" d="M{path}"><title>{escape(line.name)}</title></path>'


def _mark(plot: _Frame, mark: Mark) -> str:
    x = plot.x(mark.x)
    if mark.row == 0:
        top, bottom = float(TOP), float(plot.height - BOTTOM)
    else:
        top = plot.height - BOTTOM + 14.0 + mark.row * 12
        bottom = top + 9
    return (
        f'<line class="mark {mark.style}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}">'
        f"<title>{escape(mark.title)}</title></line>"
    )
