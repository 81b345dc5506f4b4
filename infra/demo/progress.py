"""How a run goes, on standard error: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from driftline.streams.records.messages import Prediction

PLAIN_EVERY = 5.0
"""Seconds between plain lines."""

BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Moment:
    """The run as it is now.

    `wall` is seconds since the start, `at` event time (seconds since the epoch, None before the
    first event), `lag` log records that are not folded yet, `rss` bytes of the worker's memory.
    """

    wall: float
    at: float | None
    events: int
    events_per_second: float
    lag: int
    predictions: int
    drift_events: int
    rss: int | None
    models: dict[str, dict[str, Any]]
    newest: Sequence[Prediction] = ()


class ProgressView(Protocol):
    """Shows moments and notes; `wants_predictions` says whether it shows the newest ones."""

    wants_predictions: bool

    def show(self, moment: Moment) -> None:
        """Replace what is shown."""

    def note(self, text: str) -> None:
        """Say one thing that stays."""


class _Lines:
    """Plain lines, one every few seconds."""

    wants_predictions = False

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def show(self, moment: Moment) -> None:
        if moment.wall < self._next:
            return
        self._next = moment.wall + PLAIN_EVERY
        self.note(line(moment))

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Screen:
    """A live panel."""

    wants_predictions = True

    def __init__(self, title: str, live: Live) -> None:
        self._title = title
        self._live = live
        self._rates: deque[float] = deque(maxlen=40)

    def show(self, moment: Moment) -> None:
        self._rates.append(moment.events_per_second)
        self._live.update(panel(self._title, moment, self._rates))

    def note(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False)


@contextmanager
def view(title: str, console: Console) -> Iterator[ProgressView]:
    """A live view when `console` is a terminal, else plain lines."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield _Screen(title, live)


def line(moment: Moment) -> str:
    """The moment on one line."""
    members = "  ".join(f"{name} {metric(state)}" for name, state in moment.models.items())
    return (
        f"{moment.wall:6.1f} s  {event_time(moment)}  {moment.events:>9,} events  "
        f"{moment.events_per_second:>7,.0f}/s  lag {moment.lag:,}  drift {moment.drift_events:,}  {members}"
    )


def metric(state: dict[str, Any]) -> str:
    """A member's main metric with its name, such as `AUC 0.817`."""
    for key, name in (("roc_auc", "AUC"), ("accuracy", "accuracy"), ("rmse", "RMSE"), ("mae", "MAE")):
        value = state.get(key)
        if value is not None:
            return f"{name} {value:.3f}"
    return "-"


def event_time(moment: Moment) -> str:
    """The moment's event time to the minute."""
    if moment.at is None:
        return "-"
    return f"{datetime.fromtimestamp(moment.at, UTC):%Y-%m-%d %H:%M}"


def panel(title: str, moment: Moment, rates: Sequence[float]) -> RenderableType:
    """The live panel: counts, members, newest predictions."""
    counts = Table.grid(padding=(0, 3))
    for _ in range(6):
        counts.add_column(justify="left")
    memory = "-" if moment.rss is None else f"{moment.rss / 1e6:,.0f} MB"
    figures = {
        "event time": event_time(moment),
        "events": f"{moment.events:,}",
        "events/s": f"{moment.events_per_second:,.0f}",
        "lag": f"{moment.lag:,}",
        "drift events": f"{moment.drift_events:,}",
        "worker memory": memory,
    }
    counts.add_row(*(Text(name, style="dim") for name in figures))
    counts.add_row(*(Text(value, style="bold") for value in figures.values()))
    parts: list[RenderableType] = [counts, Text(spark(rates), style="cyan"), members_table(moment.models)]
    if moment.newest:
        parts.append(_newest_table(moment.newest))
    return Panel(Group(*parts), title=f"[bold]{title}[/bold]  {moment.wall:,.0f} s", border_style="cyan")


def members_table(models: dict[str, dict[str, Any]]) -> Table:
    """Metrics by member."""
    columns = [
        (key, name)
        for key, name in (
            ("roc_auc", "ROC AUC"), ("log_loss", "log loss"), ("brier", "Brier"), ("mae", "MAE"),
            ("rmse", "RMSE"), ("accuracy", "accuracy"), ("kappa", "kappa"),
        )
        if any(state.get(key) is not None for state in models.values())
    ]  # fmt: skip
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("member")
    table.add_column("role")
    for _, name in columns:
        table.add_column(name, justify="right")
    table.add_column("labels", justify="right")
    for name, state in models.items():
        cells = ("-" if (v := state.get(key)) is None else f"{v:.4f}" for key, _ in columns)
        table.add_row(name, str(state.get("role", "")), *cells, f"{state.get('n', 0):,}")
    return table


def _newest_table(newest: Sequence[Prediction]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("newest predictions", "event time", "prediction", "probability", "model"):
        table.add_column(name, no_wrap=True)
    for prediction in newest:
        likely = prediction.probabilities or {}
        shown = likely.get("true", max(likely.values(), default=None))
        table.add_row(
            prediction.event_id,
            f"{prediction.at:%Y-%m-%d %H:%M}",
            str(prediction.prediction),
            "-" if shown is None else f"{shown:.3f}",
            prediction.model.version,
        )
    return table


def spark(values: Sequence[float]) -> str:
    """The values as a row of bars.

    >>> spark([0, 1, 2])
    '▁▅█'
    """
    top = max(values, default=0.0)
    if top <= 0:
        return ""
    return "".join(BARS[min(int(value / top * len(BARS)), len(BARS) - 1)] for value in values)
