"""Renders the templates: every page is one self-contained file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from driftline.infra.report.figures import figure, lasting


class Tile(NamedTuple):
    """A figure at the head of a page; `unit` stands small behind it."""

    value: str
    label: str
    note: str = ""
    unit: str = ""


class LegendEntry(NamedTuple):
    """An entry of a legend; `style` is the CSS class of the curve that it explains."""

    style: str
    name: str


class ChartPanel(NamedTuple):
    """A chart with its heading, a sentence about it and its legend."""

    heading: str
    note: str
    chart: Markup
    legend: Sequence[LegendEntry] = ()


def render(template: str, **context: Any) -> str:
    """The page that a template makes of `context`; text in it is escaped, `Markup` is not."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "lasting": lasting}
    return environment
