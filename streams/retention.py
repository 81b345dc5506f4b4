"""How long the topics of a case are kept: longer than the fold may need an event again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from math import ceil, isinf, isnan

from features.declaration import DAY, View
from online_models.task import Label
from streams.errors import DeclarationError

USUAL = 30 * DAY
MARGIN = DAY
"""Seconds by which topics are kept longer than an event is needed, where nothing is declared: a log that was
written while a worker was away, or an archiver, is still whole when it is back."""
FOREVER = "-1"

Retention = float | timedelta | None


def needed_for(label: Label, dedup_horizon: float, lateness: float, views: Sequence[View]) -> float:
    """Seconds after which the fold needs an event no more: nothing waits for its label, its id is forgotten,
    and no window holds it. What is deleted before can be in no state that is folded anew."""
    corrections = label.wait if label.corrections is None else label.corrections
    windows = max((view.ttl for view in views), default=0.0)
    return lateness + max(label.wait + corrections, dedup_horizon, windows)


def seconds_of(case: str, declared: Retention, needed: float) -> float:
    """The retention in seconds, infinite for ever. Raises DeclarationError where it is not long enough."""
    if declared is None:
        return max(USUAL, needed + MARGIN)
    seconds = declared.total_seconds() if isinstance(declared, timedelta) else float(declared)
    if isnan(seconds) or seconds <= needed:
        raise DeclarationError(
            f"{case}: retention is {_days(seconds)}, but events are needed for {_days(needed)}: as long as "
            "requests wait for labels and their corrections, ids may come again, or windows reach, and "
            "`lateness` more. Topics have to be kept for longer, or no state could be folded anew; where "
            f"nothing is declared it is {_days(max(USUAL, needed + MARGIN))}"
        )
    return seconds


def in_ms(seconds: float) -> str:
    """As Kafka's `retention.ms` has it."""
    return FOREVER if isinf(seconds) else str(ceil(seconds * 1000))


def _days(seconds: float) -> str:
    return f"{seconds / DAY:.4g} days"
