"""Source alignment: how far intakes may be ahead of later stages, in event time.

Partitions of a backfill are read as fast as they can be, each at its own pace. Without this, requests would
be answered long before labels that come from a slower partition are learned, and windows would be fed in
another order than that of the events. It only pauses intakes: answers depend on it only through the order in
which records are appended.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from driftline.features.state.event_time import NEVER
from driftline.streams.declare.usecase import UseCase
from driftline.streams.records.outputs import Target
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.stage_fold import tick_of

MOST_TOGETHER = 256
"""Largest number of records that an intake folds between two checks."""


def bound_of(case: UseCase, itinerary: Itinerary) -> float:
    """Seconds of event time that an intake may be ahead of the last stage: each tells the time that late."""
    return (itinerary.last + 2) * tick_of(case) + case.allowed_lateness


class Alignment:
    """How far an intake may fold, by the event time of the later stages in this process. A stage's time is
    the smallest of its writers, in all processes, and so it is that of the intake which is furthest behind.
    `bound` is in seconds.
    """

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._come: dict[Target, float] = {}
        self._given_up: float | None = None

    def come_to(self, target: Target, watermark: float) -> None:
        """Note the event time of a partition of a later stage; `NEVER` while it is unknown for one of its
        writers, and before it is known here."""
        self._come[target] = watermark

    def forget(self, target: Target) -> None:
        """A partition is no longer this process's."""
        self._come.pop(target, None)

    def leeway(self, watermark: float) -> float:
        """Seconds of event time by which an intake at this time may continue; below 0 it waits. One without a
        time yet continues until it has one."""
        least = min(self._come.values(), default=None)
        if watermark == NEVER:
            return 0.0
        if least is None or least == self._given_up:
            return inf
        return least + self._bound - watermark

    def give_up(self) -> None:
        """The partition that holds the others back makes no progress: until it does, the others do not wait
        for it."""
        self._given_up = min(self._come.values(), default=None)


class Stride(NamedTuple):
    """How many records an intake folds next, by the event time that those before took."""

    records: int = 1

    def after(self, folded: int, took: float, leeway: float) -> Stride:
        """The next one, where `folded` records took so many seconds of event time, and so many are left."""
        if leeway <= 0:
            return Stride()
        fit = inf if took <= 0 else leeway / took * folded / 2
        return Stride(max(1, int(min(fit, MOST_TOGETHER, 2 * folded))))
