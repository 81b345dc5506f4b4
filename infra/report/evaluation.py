"""An evaluation as one HTML page: the table of models, their course, the detectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftline.infra.report.axes import count_ticks
from driftline.infra.report.charts import time_chart
from driftline.infra.report.figures import FIGURE_TITLES, figure
from driftline.infra.report.page import ChartPanel, LegendEntry, Tile, render
from driftline.infra.report.plot import Line, Mark

SERVED, BEST, DEFAULT, OTHER = "champion", "challenger1", "frozen", "prior"
"""Style classes of the lines: what was served, the best member, the default single model, any other."""


def evaluation_page(result: Mapping[str, Any]) -> str:
    """The page of what `evaluate --json` prints."""
    entries = {"served": result["served"], **result["models"]}
    return render(
        "evaluation.html",
        title=f"Evaluation: {result['stream']}",
        result=result,
        known=_known(result["delay"]),
        tiles=_tiles(result),
        course=_course(result),
        figures={key: name for key, name in FIGURE_TITLES.items() if key in result["served"]},
        entries=entries,
        styles={name: _style(name, result) for name in entries},
        detectors=result.get("detectors"),
        facts=_facts(result["table"]) if result.get("table") else {},
    )


def _known(delay: int | str) -> str:
    """When a label is known."""
    if isinstance(delay, str):
        return "when it came"
    return f"{delay:,} requests later" if delay else "at once"


def _tiles(result: Mapping[str, Any]) -> list[Tile]:
    score, models = result["score"], result["models"]
    name = FIGURE_TITLES[score]
    return [
        Tile(figure(result["served"].get(score), 4), f"{name}, served", "whichever member answered"),
        Tile(figure(models[result["best"]].get(score), 4), f"{name}, best member", result["best"]),
        Tile(
            figure(models[result["default"]].get(score), 4),
            f"{name}, default single model",
            result["default"],
        ),
    ]


def _style(name: str, result: Mapping[str, Any]) -> str:
    if name == "served":
        return SERVED
    if name == result["best"]:
        return BEST
    return DEFAULT if name == result["default"] else OTHER


def _course(result: Mapping[str, Any]) -> ChartPanel | None:
    window, labels = result["window"], max(result["labels"], 1)
    lines = []
    for name, points in result["curves"].items():
        placed = [
            (min((i + 1) * window, labels), y)  # the last window may be a part of one
            for i, y in enumerate(points)
            if y is not None
        ]
        lines.append(Line(name, _style(name, result), placed))
    lines.sort(key=lambda line: (OTHER, DEFAULT, BEST, SERVED).index(line.style))  # what matters is on top
    marks = [
        Mark(change["start"], f"{change['kind']} change of {change['subject']}", "of-loss", 0)
        for change in result.get("changes", ())
    ]
    marks += [
        Mark(
            event["request"],
            f"{event['kind']}: {event['subject']} {event['reason']}".strip(),
            "of-feature",
            1,
        )
        for event in result["reported"]
    ]
    name = FIGURE_TITLES[result["score"]]
    heading = f"{name[0].upper()}{name[1:]} in windows of {window:,} labels"
    span = (0.0, float(labels))
    chart = time_chart(lines, span, label=heading, marks=marks, height=340, ticks_of=count_ticks)
    note = "Over the number of labels; point at a line for its name."
    return ChartPanel(heading, note, chart, _legend(result)) if chart else None


def _legend(result: Mapping[str, Any]) -> list[LegendEntry]:
    keys = [LegendEntry(SERVED, "served"), LegendEntry(BEST, f"best member: {result['best']}")]
    if result["default"] != result["best"]:
        keys.append(LegendEntry(DEFAULT, f"default: {result['default']}"))
    keys.append(LegendEntry(OTHER, "other members"))
    if result.get("changes"):
        keys.append(LegendEntry("tickmark of-loss", "known change"))
    if result["reported"]:
        keys.append(LegendEntry("tickmark of-feature", "reported by the pool"))
    return keys


def _facts(table: Mapping[str, Any]) -> dict[str, str]:
    """What was read of the table, and what was not."""
    positive = "" if table["positive"] is None else f", true where it is {table['positive']}"
    left_out = (f"{name} ({why})" for name, why in table["left_out"].items())
    missing = (f"{name} ({count:,})" for name, count in table["missing"].items())
    return {
        "rows": f"{table['rows']:,}, {table['unlabelled']:,} of them without a label",
        "label": f"{table['label']}{positive}",
        "features": ", ".join(table["features"]),
        "columns left out": ", ".join(left_out) or "none",
        "missing values": ", ".join(missing) or "none",
    }
