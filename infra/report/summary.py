"""The result of a run as tables on standard error."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from driftline.infra.report.figures import in_units
from driftline.infra.report.labels import without_labels

MEMBER_FIGURES = (
    "roc_auc", "pr_auc", "log_loss", "brier", "accuracy", "kappa", "cost", "rmse", "mae", "coverage", "width",
)  # fmt: skip
"""Figures of members in the order of the table; it has those that the task has."""
SHOWN_RECENT = (("roc_auc", "accuracy", "rmse"), ("log_loss",))
"""The first of each that the task has is shown for the newest labels too: a cold start hides what is now."""
COUNTS = (
    "events", "predictions", "labelled", "unlabelled", "void", "pending", "dead_letters", "duplicates",
    "late", "unmatched", "evicted_keys", "drift_events",
)  # fmt: skip

MODELS_TITLE = (
    "models, each answer scored before its label was learned (recent: by weights that halve every 1,000)"
)


def print_summary(summary: dict[str, Any]) -> None:
    """Print counts, models and digest."""
    console = Console(stderr=True)
    counts = Table(
        title=f"{summary['case']}: {summary['seconds']:.1f} s", title_justify="left", show_header=False
    )
    for name in COUNTS:
        counts.add_row(name.replace("_", " "), f"{summary[name]:,}")
    console.print(counts)
    for stage, refused in summary.get("refused", {}).items():
        console.print(
            f"{refused['count']:,} refused, stage {stage}: the first at partition {refused['partition']}, "
            f"offset {refused['offset']:,}: {in_units(refused['reason'])}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for line in without_labels(summary, summary["labels"]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    models = _models(summary["models"])
    unbounded = console.options.update(max_width=1_000)
    if console.measure(models, options=unbounded).maximum > console.width:
        models = _models_below_each_other(summary["models"])
    console.print(models)
    for name, entry in summary["models"].items():
        if "quarantine" in entry:
            console.print(in_quarantine(name, entry), highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{summary['events_per_second']:,.0f} events/s, {summary['cpu_us_per_event']:.1f} us CPU an event\n"
        f"digest {summary['digest']}",
        highlight=False,
        soft_wrap=True,
    )


def in_quarantine(name: str, entry: dict[str, Any]) -> str:
    """Why a member answers no requests for now."""
    return f"{name} is in quarantine, {entry['failures']:,} failures so far: {entry['quarantine']}"


def _models(models: dict[str, dict[str, Any]]) -> Table:
    """A line a member."""
    shown = _shown(models)
    table = Table(title=MODELS_TITLE, title_justify="left")
    for name in ("model", "role"):
        table.add_column(name, no_wrap=True)
    for name in _titles(shown):
        table.add_column(name, justify="right", no_wrap=True)
    for name, entry in models.items():
        table.add_row(name, entry["role"], *_figures(entry, shown))
    return table


def _models_below_each_other(models: dict[str, dict[str, Any]]) -> Table:
    """A line a figure, for a terminal too narrow for a line a member."""
    shown = _shown(models)
    table = Table(title=MODELS_TITLE, title_justify="left", show_header=False, box=None)
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    for name, entry in models.items():
        table.add_row(name, entry["role"], style="bold")
        for title, value in zip(_titles(shown), _figures(entry, shown), strict=True):
            table.add_row(f"  {title}", value)
    return table


def _shown(models: dict[str, dict[str, Any]]) -> list[str]:
    """Names of the figures that any of the members has."""
    return [name for name in MEMBER_FIGURES if any(entry.get(name) is not None for entry in models.values())]


def _recent(shown: list[str]) -> list[str]:
    firsts = (next((name for name in names if name in shown), None) for names in SHOWN_RECENT)
    return [name for name in firsts if name is not None]


def _titles(shown: list[str]) -> list[str]:
    names = [*shown, *(f"recent {name}" for name in _recent(shown)), "n"]
    return [name.replace("_", " ") for name in names]


def _figures(entry: dict[str, Any], shown: list[str]) -> list[str]:
    fading = entry.get("fading", {})
    values = [*(entry.get(name) for name in shown), *(fading.get(name) for name in _recent(shown))]
    return [*map(_figure, values), f"{entry.get('n', 0):,}"]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
