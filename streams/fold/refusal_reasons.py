"""The reasons with which the intake refuses events: stage and text of their dead letters."""

from __future__ import annotations

from collections.abc import Sequence

from driftline.features.errors import FeatureValueError
from driftline.online_models.errors import reason_of
from driftline.streams.declare.events import Event, Reference, moment
from driftline.streams.errors import UPGRADE, Refused
from driftline.streams.fold.watermark import Watermark


def refused_before() -> Refused:
    """The event is a request of before an upgrade, which the code of that time did not answer."""
    return Refused(
        UPGRADE,
        "the code that served before this one did not answer the request, and this one would: send it again",
    )


def late(event: Event, watermark: Watermark) -> Refused:
    """The event is before the watermark."""
    at, now = event.at.isoformat(), moment(watermark.value).isoformat()
    return Refused("late", f"at {at} is before the watermark, which is {now}")


def of_the_future(event: Event, watermark: Watermark, is_live: bool) -> Refused:
    """The event's time is from the future, and nothing confirms it."""
    ahead_of = (
        f"the broker's clock by more than clock_skew ({watermark.skew:g} s)"
        if is_live and not isinstance(event, Reference)
        else f"all others by more than max_jump ({watermark.max_jump:g} s)"
    )
    return Refused("time", f"at {event.at.isoformat()} is from the future: ahead of {ahead_of}")


def ahead(event: Event, watermark: Watermark) -> Refused:
    """The event is accepted, but may have a wrong time."""
    now = moment(watermark.max_at).isoformat()
    return Refused(
        "ahead",
        f"accepted, but at {event.at.isoformat()} is ahead of the others, which are at {now}: it moves no "
        "time until they agree",
    )


def without_features(error: FeatureValueError, problems: Sequence[str]) -> Refused:
    """A feature of the event has no allowed value; `problems` were seen before."""
    cause = error.__cause__
    reason = str(error) if cause is None else f"{error} {reason_of(cause)}"
    return Refused("features", "; ".join([*problems, reason]))
