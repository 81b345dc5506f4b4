"""How far intakes may go ahead, in event time, of the stages behind them.

Partitions of a backfill are read as fast as they can be, each at its own pace. Without this, requests would
be answered long before labels that come from a slower partition are learned, and windows would be fed in
another order than that of the events. It is a pause: no answer depends on it but by the order in which
records are appended.
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
"""Records that an intake folds between two looks, at most."""


def bound_of(case: UseCase, itinerary: Itinerary) -> float:
    """Seconds of event time that an intake may be ahead of the last stage: each tells the time that late."""
    return (itinerary.last + 2) * tick_of(case) + case.allowed_lateness


class Alignment:
    """What an intake may fold, by the time that the stages behind the log have come to in this process.

    A stage's time is the least of those who write to it, in whichever process, and so it is that of the
    intake which is behind all others. `bound` is in seconds.
    """

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._come: dict[Target, float] = {}
        self._given_up: float | None = None

    def come_to(self, target: Target, watermark: float) -> None:
        """The time that a partition behind the log has come to; `NEVER` while one of its writers has told
        none, and before it is known here."""
        self._come[target] = watermark

    def forget(self, target: Target) -> None:
        """A partition is no longer this process's."""
        self._come.pop(target, None)

    def leeway(self, watermark: float) -> float:
        """Seconds of event time by which an intake that has come so far may go on; below 0 it waits. One
        that knows no time yet goes on until it does."""
        least = min(self._come.values(), default=None)
        if watermark == NEVER:
            return 0.0
        if least is None or least == self._given_up:
            return inf
        return least + self._bound - watermark

    def give_up(self) -> None:
        """Who holds the others back stands still: until it moves on, nobody waits for it."""
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
