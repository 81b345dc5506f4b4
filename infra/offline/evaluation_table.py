"""An evaluation as tables on standard error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from driftline.infra.report.figures import FIGURE_TITLES


def print_evaluation(result: Mapping[str, Any]) -> None:
    """Print models, detectors and what was best."""
    console = Console(stderr=True)
    shown = [name for name in FIGURE_TITLES if name in result["served"]]
    rows = [
        [
            name,
            *(_figure(entry.get(figure)) for figure in shown),
            _figure(next(reversed(result["curves"][name]), None)),
            _figure(entry["seconds"], 2),
            "-" if entry["bytes"] is None else f"{entry['bytes'] / 1024:,.0f}",
        ]
        for name, entry in {"served": result["served"], **result["models"]}.items()
    ]
    recent = f"recent {'rmse' if result['task'] == 'regression' else 'accuracy'}"
    head = ["model", *(figure.replace("_", " ") for figure in shown), recent, "seconds", "kB"]
    title = (
        f"{result['stream']}: {result['labels']:,} labels (recent: the last window, which starts again after "
        f"{result['window']:,})"
    )
    console.print(_table(title, head, rows))
    if result.get("detectors"):
        cells = [
            [
                name, str(score["alarms"]), str(score["false_alarms"]), _figure(score["mtfa"], 0),
                _figure(score["mtd"], 0), _figure(score["mdr"], 2), _figure(score["mtr"], 1),
            ]
            for name, score in result["detectors"].items()
        ]  # fmt: skip
        title = "detectors on the default model's errors"
        console.print(_table(title, ["detector", "alarms", "false", "MTFA", "MTD", "MDR", "MTR"], cells))
    score = result["score"]
    best, default = result["best"], result["default"]
    console.print(
        f"{score.replace('_', ' ')}: served {_figure(result['served'][score])}, best member "
        f"{_figure(result['models'][best][score])} ({best}), default single model "
        f"{_figure(result['models'][default][score])} ({default})",
        highlight=False,
        soft_wrap=True,
    )


def _figure(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(title=title, title_justify="left")
    for index, name in enumerate(head):
        made.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made
