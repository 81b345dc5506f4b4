"""What charts are drawn of: axes, lines and marks as SVG, and the frame that maps data to the picture.

Colours are CSS classes, so the page decides them for light and dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from driftline.infra.report.axes import decimals

Point = tuple[float, float]

WIDTH = 1040
LEFT = 58
RIGHT = 16
TOP_MARGIN = 14
BOTTOM_MARGIN = 30


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
class PlotFrame:
    """Maps data to the picture."""

    x0: float
    x1: float
    y0: float
    y1: float
    height: int
    width: int = WIDTH

    @property
    def base(self) -> int:
        """Where the x axis is."""
        return self.height - BOTTOM_MARGIN

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        clipped = min(max(value, self.y0), self.y1)
        return TOP_MARGIN + (self.y1 - clipped) / (self.y1 - self.y0) * (
            self.height - TOP_MARGIN - BOTTOM_MARGIN
        )


def svg(label: str, width: int, height: int, parts: Iterable[Markup]) -> Markup:
    """The picture; `label` is for screen readers."""
    return Markup(
        '<svg role="img" aria-label="{}" viewBox="0 0 {} {}" xmlns="http://www.w3.org/2000/svg">{}</svg>'
    ).format(label, width, height, Markup().join(parts))


def text_at(x: float, y: float, text: str, anchor: str) -> Markup:
    """A text that starts, ends or has its middle at `x`, as `anchor` says."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def grid(plot: PlotFrame, ticks: Sequence[float]) -> Markup:
    """The ticks of the y axis, each with a line across the picture."""
    digits = decimals(ticks)
    return Markup().join(
        Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
            LEFT, plot.width - RIGHT, y=plot.y(tick)
        )
        + text_at(LEFT - 8, plot.y(tick) + 4, f"{tick:,.{digits}f}", "end")
        for tick in ticks
    )


def time_axis(plot: PlotFrame, ticks: Sequence[tuple[float, str]]) -> Markup:
    """The named ticks of the x axis."""
    last = plot.width - RIGHT - 14
    return Markup().join(
        _upright("tick", plot.x(at), plot.base, plot.base + 4)
        + text_at(plot.x(at), plot.base + 18, name, "end" if plot.x(at) > last else "middle")
        for at, name in ticks
    )


def line_path(plot: PlotFrame, line: Line) -> Markup:
    """A series, whose name shows where one points at it."""
    path = "L".join(f"{plot.x(x):.1f} {plot.y(y):.1f}" for x, y in line.points)
    style = f"line {line.style}{' dashed' if line.dashed else ''}"
    return Markup('<path class="{}" d="M{}"><title>{}</title></path>').format(style, path, line.name)


def mark_line(plot: PlotFrame, mark: Mark) -> Markup:
    """A mark across the picture or in a row below it."""
    style = f"mark {mark.style}"
    if mark.row == 0:
        return _upright(style, plot.x(mark.x), TOP_MARGIN, plot.base, mark.title)
    top = plot.base + 14.0 + mark.row * 12
    return _upright(style, plot.x(mark.x), top, top + 9, mark.title)


def _upright(style: str, x: float, top: float, bottom: float, title: str = "") -> Markup:
    named = Markup("<title>{}</title>").format(title) if title else Markup()
    return Markup('<line class="{}" x1="{x:.1f}" x2="{x:.1f}" y1="{:.1f}" y2="{:.1f}">{}</line>').format(
        style, top, bottom, named, x=x
    )
