"""How long the topics of a case are kept: longer than the fold may need an event again."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isinf
from typing import Any

from driftline.features.declare.declaration import DAY, View
from driftline.online_models.tasks.task import Label
from driftline.streams.errors import DeclarationError

USUAL = 30 * DAY
RETENTION_MARGIN = DAY
"""Seconds by which topics are kept longer than an event is needed, where nothing is declared: a log that was
written while a worker was away, or an archiver, is still whole when it is back."""
FOREVER = "-1"


def needed_for(label: Label[Any], dedup_horizon: float, lateness: float, views: Sequence[View]) -> float:
    """Seconds after which the fold needs an event no more: nothing waits for its label, its id is forgotten,
    and no window holds it. What is deleted before can be in no state that is folded again."""
    corrections = label.wait if label.corrections is None else label.corrections
    windows = max((view.ttl for view in views), default=0.0)
    return lateness + max(label.wait + corrections, dedup_horizon, windows)


def seconds_of(case: str, declared: float | None, needed: float) -> float:
    """The retention in seconds, infinite for ever. Raises DeclarationError where it is not long enough."""
    if declared is None:
        return max(USUAL, needed + RETENTION_MARGIN)
    if declared <= needed:
        raise DeclarationError(
            f"{case}: retention is {_days(declared)}, but events are needed for {_days(needed)}: as long as "
            "requests wait for labels and their corrections, ids may come again, or windows reach, and "
            "`lateness` more. Topics have to be kept for longer, or no state could be folded again; where "
            f"nothing is declared it is {_days(max(USUAL, needed + RETENTION_MARGIN))}"
        )
    return declared


def in_ms(seconds: float) -> str:
    """As Kafka's `retention.ms` has it."""
    return FOREVER if isinf(seconds) else str(ceil(seconds * 1000))


def _days(seconds: float) -> str:
    return f"{seconds / DAY:.4g} days"
