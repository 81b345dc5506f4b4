"""The result of a run as tables on standard error."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

METRICS = ("roc_auc", "log_loss", "brier", "accuracy", "kappa")
COUNTS = (
    "events", "predictions", "labelled", "unlabelled", "void", "pending", "dead_letters", "duplicates",
    "late", "evicted_keys", "drift_events",
)  # fmt: skip

MODELS_TITLE = "models, each answer scored before its label was learned"
FIGURES = tuple(name.replace("_", " ") for name in (*METRICS, "n"))


def table(found: dict[str, Any]) -> None:
    """Print counts, models and digest."""
    console = Console(stderr=True)
    counts = Table(
        title=f"{found['case']}: {found['seconds']:.1f} s", title_justify="left", show_header=False
    )
    for name in COUNTS:
        counts.add_row(name.replace("_", " "), f"{found[name]:,}")
    console.print(counts)
    models = _models(found["models"])
    unbounded = console.options.update(max_width=1_000)
    if console.measure(models, options=unbounded).maximum > console.width:
        models = _models_below_each_other(found["models"])
    console.print(models)
    console.print(
        f"{found['events_per_second']:,.0f} events/s, {found['cpu_us_per_event']:.1f} us CPU an event\n"
        f"digest {found['digest']}",
        highlight=False,
        soft_wrap=True,
    )


def _models(models: dict[str, dict[str, Any]]) -> Table:
    """A line a member."""
    table = Table(title=MODELS_TITLE, title_justify="left")
    for name in ("model", "role"):
        table.add_column(name, no_wrap=True)
    for name in FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    for name, entry in models.items():
        table.add_row(name, entry["role"], *_figures(entry))
    return table


def _models_below_each_other(models: dict[str, dict[str, Any]]) -> Table:
    """A line a figure, for a terminal too narrow for a line a member."""
    table = Table(title=MODELS_TITLE, title_justify="left", show_header=False, box=None)
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    for name, entry in models.items():
        table.add_row(name, entry["role"], style="bold")
        for figure, value in zip(FIGURES, _figures(entry), strict=True):
            table.add_row(f"  {figure}", value)
    return table


def _figures(entry: dict[str, Any]) -> list[str]:
    return [*(_figure(entry.get(metric)) for metric in METRICS), f"{entry.get('n', 0):,}"]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
