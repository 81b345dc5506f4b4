"""The result of a run as tables on standard error."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

METRICS = ("roc_auc", "log_loss", "brier", "accuracy", "kappa")
COUNTS = (
    "events", "predictions", "labelled", "unlabelled", "void", "pending", "dead_letters", "duplicates",
    "late", "drift_events",
)  # fmt: skip


def table(found: dict[str, Any]) -> None:
    """Print counts, models and digest."""
    console = Console(stderr=True)
    counts = Table(
        title=f"{found['case']}: {found['seconds']:.1f} s", title_justify="left", show_header=False
    )
    for name in COUNTS:
        counts.add_row(name.replace("_", " "), f"{found[name]:,}")
    console.print(counts)
    models = Table(title="models, each answer scored before its label was learned", title_justify="left")
    models.add_column("model")
    models.add_column("role")
    for name in (*METRICS, "n"):
        models.add_column(name.replace("_", " "), justify="right")
    for name, entry in found["models"].items():
        cells = [_figure(entry.get(metric)) for metric in METRICS]
        models.add_row(name, entry["role"], *cells, f"{entry.get('n', 0):,}")
    console.print(models)
    console.print(
        f"{found['events_per_second']:,.0f} events/s, {found['cpu_us_per_event']:.1f} us CPU an event\n"
        f"digest {found['digest']}",
        highlight=False,
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
