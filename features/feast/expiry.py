"""When a row expires: by the wall clock, unless its view is fed from history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

CLOCK = "clock"
"""Tag of a Feast view whose rows are of another time than now: "event"."""


def lifetime(view: Any) -> timedelta | None:
    """How long after its event time a row of a Feast view is valid; None: for ever.

    A stored on-demand view has no lifetime."""
    ttl: timedelta | None = getattr(view, "ttl", None)
    return None if not ttl or view.tags.get(CLOCK) == "event" else ttl


def is_over(event_time: datetime, lived: timedelta | None) -> bool:
    """Whether a row of that time and lifetime has expired by now."""
    return lived is not None and datetime.now(UTC) - event_time > lived
