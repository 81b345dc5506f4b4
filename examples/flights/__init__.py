"""Will a flight from New York arrive more than 15 minutes late? Asked at its scheduled departure.

What is known then: the departures, arrivals, cancellations and weather of each airport so far, the
plane, and whether this very flight has already left (half of them leave early, which is the
strongest single sign). The truth comes hours later with the arrival. Cancelled flights never get
one; neither do diverted ones, whose wait ends unlabelled.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

from driftline import (
    DAY,
    HOUR,
    Binary,
    Label,
    Member,
    PerKey,
    Promotion,
    UseCase,
    count,
    derive,
    field,
    latest,
    lookup,
    mean,
)

from .events import Arrived, Cancelled, Departed, Plane, Scheduled, Weather
from .models import logistic, stepped, trees

NEW_YORK = ZoneInfo("America/New_York")
LATE = 15.0
"""Minutes after schedule from which (exclusively) a flight is late."""


def late(event: Departed | Arrived) -> float:
    """1 for a late movement: its mean is the share of late ones."""
    return 1.0 if event.delay > LATE else 0.0


def bounded_delay(event: Arrived) -> float:
    """The delay, with a bound so that one flight of the next day does not drown a month."""
    return min(event.delay, 180.0)


def local_hour(request: Scheduled) -> float:
    """The hour of the day in New York, with its fraction."""
    local = request.at.astimezone(NEW_YORK)
    return local.hour + local.minute / 60


flights = UseCase(
    "flights",
    key="origin",
    partitions=3,
    events=[Scheduled, Departed, Arrived, Cancelled, Weather, Plane],
    features={
        "carrier": field("carrier"),
        "distance": field("distance", unit="miles"),
        "hour": derive(local_hour, unit="hours", monitor=False),
        "left_early": latest(Departed, "delay", by=("origin", "number"), ttl=HOUR, unit="minutes"),
        "scheduled_2h": count(Scheduled, by="origin", over=2 * HOUR),
        "departed_2h": count(Departed, by="origin", over=2 * HOUR),
        "cancelled_2h": count(Cancelled, by="origin", over=2 * HOUR),
        "late_1h": mean(Departed, late, by="origin", over=HOUR),
        "late_arrivals_1h": mean(Arrived, late, by="origin", over=HOUR),
        "carrier_late_3h": mean(Departed, late, by=("origin", "carrier"), over=3 * HOUR),
        "dest_late_6h": mean(Arrived, late, by=("origin", "dest"), over=6 * HOUR),
        "number_delay_30d": mean(
            Arrived, bounded_delay, by=("origin", "number"), over=30 * DAY, unit="minutes"
        ),
        "plane_delay": latest(Arrived, "delay", by=("origin", "tailnum"), ttl=12 * HOUR, unit="minutes"),
        "wind": latest(Weather, "wind", by="origin", ttl=3 * HOUR, unit="mph"),
        "visibility": latest(Weather, "visibility", by="origin", ttl=3 * HOUR, unit="miles"),
        "built": lookup(Plane, "year", by="tailnum", unit="year"),
    },
    task=Binary(
        "late",
        ask=Scheduled,
        label=Label(
            Arrived,
            on="flight",
            value=lambda arrival: arrival.delay > LATE,
            wait=36 * HOUR,  # the latest of the year came 32.7 hours after its scheduled departure
            void=[Cancelled],
        ),
    ),
    models=PerKey(
        champion=Member("logistic", logistic),
        challengers=[
            Member("stepped", stepped),
            Member("trees", trees, rate=0.1),  # worse so far, and dear: a sample will show if that changes
        ],
        promotion=Promotion(margin=0.0),  # to change costs nothing here: any proven gain will do
        frozen_after=9_000,  # about January
    ),
    slices=["origin", "carrier"],
    source="driftline.examples.flights.source:events",
    description="Arrival more than 15 minutes late, asked at the scheduled departure",
)
