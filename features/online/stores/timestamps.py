"""Event times as whole microseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """The microseconds of a time; one without a zone is UTC, as for Feast."""
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def time_of_stamp(stamp: int) -> datetime:
    """The time of so many microseconds, in UTC."""
    return _EPOCH + stamp * _MICROSECOND
