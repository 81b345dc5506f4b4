"""The retention of a case's topics, which must be longer than the fold may need an event."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isinf
from typing import Any

from driftline.features.declare.declaration import DAY, View
from driftline.online_models.tasks.task import Label
from driftline.streams.errors import DeclarationError

USUAL = 30 * DAY
RETENTION_MARGIN = DAY
"""Seconds that are added to the needed retention by default, so that the log is still complete when a worker
or an archiver returns from an outage."""
FOREVER = "-1"


def needed_for(label: Label[Any], dedup_horizon: float, lateness: float, views: Sequence[View]) -> float:
    """Seconds after which the fold no longer needs an event: no request waits for its label, its id is
    forgotten, and it has left every window. States could not be folded again without younger events."""
    corrections = label.wait if label.corrections is None else label.corrections
    windows = max((view.ttl for view in views), default=0.0)
    return lateness + max(label.wait + corrections, dedup_horizon, windows)


def seconds_of(case: str, declared: float | None, needed: float) -> float:
    """The retention in seconds, infinite for ever. Raises DeclarationError if it is too short."""
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
    """The value of Kafka's `retention.ms`."""
    return FOREVER if isinf(seconds) else str(ceil(seconds * 1000))


def _days(seconds: float) -> str:
    return f"{seconds / DAY:.4g} days"
