"""Source alignment: how far intakes may be ahead of later stages, in event time.

Partitions of a backfill are read as fast as they can be, each at its own pace. Without this, requests would
be answered long before labels that come from a slower partition are learned, and windows would be fed in
another order than that of the events. It only pauses intakes: answers depend on it only through the order in
which records are appended.

A partition of the log that has no more events does not move on, and what it has told holds the time of every
later stage back. It is not waited for: once the later stages have come to its time, the others keep together
among themselves.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple, Protocol

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


class AlignedIntake(Protocol):
    """An intake of this process, as the others see it."""

    @property
    def partition(self) -> int: ...

    @property
    def watermark(self) -> float:
        """Its event time; `NEVER` before it has one."""
        ...

    async def is_at_end(self) -> bool:
        """Whether everything that its log holds is answered."""
        ...


class Alignment:
    """How far an intake may fold, by the event time of the later stages in this process. A stage's time is
    the smallest of its writers, in all processes, and so it is that of the intake which is furthest behind.
    `bound` is in seconds, `intakes` the number of all intakes, in all processes.
    """

    def __init__(self, bound: float, intakes: int) -> None:
        self._bound = bound
        self._intakes = intakes
        self._own: dict[int, AlignedIntake] = {}
        self._ended: dict[int, float] = {}
        self._come: dict[Target, float] = {}
        self._given_up: float | None = None

    def come_to(self, target: Target, watermark: float) -> None:
        """Note the event time of a partition of a later stage; `NEVER` while it is unknown for one of its
        writers, and before it is known here."""
        self._come[target] = watermark

    def join(self, intake: AlignedIntake) -> None:
        """An intake of this process begins to fold, in place of an earlier one of the same partition."""
        self._own[intake.partition] = intake
        self._ended.pop(intake.partition, None)

    def leave(self, intake: AlignedIntake) -> None:
        """An owner has ended; nothing changes if another one has joined in its place."""
        if self._own.get(intake.partition) is intake:
            self._own.pop(intake.partition)

    def forget(self, target: Target) -> None:
        """A partition of a later stage is no longer this process's."""
        self._come.pop(target, None)

    def leeway(self, watermark: float) -> float:
        """Seconds of event time by which an intake at this time may continue; below 0 it waits. One without a
        time yet continues until it has one."""
        least = min(self._come.values(), default=None)
        if watermark == NEVER:
            return 0.0
        if least is None or least == self._given_up:
            return inf
        leeway = least + self._bound - watermark
        if leeway < 0 and self._is_held_by_an_end(least):
            return min(self._times_of_others(), default=inf) + self._bound - watermark
        return leeway

    def _is_held_by_an_end(self, least: float) -> bool:
        """Whether the later stages have come to the time of an intake that is at the end of its log: they are
        not behind then, and get no further by themselves. Unknown while other processes have intakes."""
        if len(self._own) < self._intakes:
            return False
        ended = min((self._ended[number] for number in self._own if self._stands(number)), default=inf)
        return least + self._bound >= ended

    def _stands(self, number: int) -> bool:
        """Whether an intake that was seen at the end of its log has not moved on since."""
        return self._own[number].watermark == self._ended.get(number)

    def _times_of_others(self) -> list[float]:
        """The times of the intakes that have something to fold, the one that asks among them."""
        return [intake.watermark for number, intake in self._own.items() if not self._stands(number)]

    async def look_for_ends(self, watermark: float) -> None:
        """See which of the intakes that are too far behind one at this time are at the end of their log.
        Raises broker errors."""
        for number, intake in list(self._own.items()):
            at = intake.watermark
            if at + self._bound >= watermark or self._stands(number):
                continue
            if await intake.is_at_end() and self._own.get(number) is intake:
                self._ended[number] = at

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
