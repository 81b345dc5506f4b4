"""Source alignment: how far intakes may be ahead of later stages, in event time.

Partitions of a backfill are read as fast as they can be, each at its own pace. Without this, requests would
be answered long before labels that come from a slower partition are learned, and windows would be fed in
another order than that of the events. It only pauses intakes: answers depend on it only through the order in
which records are appended.

A partition of the log that has no more events does not move on, and the time that it sent last holds that
of every later stage back. It is not waited for: once the later stages have come to its time, the others
keep together among themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from math import inf
from typing import Any, NamedTuple, Protocol

from driftline.features.state.event_time import NEVER
from driftline.streams.declare.usecase import UseCase
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import StoredRecord
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.stage_fold import tick_of

FEWEST_TOGETHER = 16
"""Records that an intake folds between two checks, if there are as many, even beyond the bound. Where events
are far apart in time few fit into it, and each would be a request of its own at every stage."""
MOST_TOGETHER = 256
"""Largest number of records that an intake folds between two checks."""
ALIGNED_WITHIN = 10.0
"""Seconds that an intake waits for another one that is behind and makes no progress."""
ENDS_LOOK_EVERY = 0.05
"""Seconds between looks of an intake that waits, whether those behind it have more to fold."""

Records = Sequence[StoredRecord]


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
        self._waiting: set[asyncio.Future[None]] = set()

    def come_to(self, target: Target, watermark: float) -> None:
        """Note the event time of a partition of a later stage; `NEVER` while it is unknown for one of its
        writers, and before it is known here."""
        if self._come.get(target) != watermark:
            self._come[target] = watermark
            self.wake()

    def wake(self) -> None:
        """Have those that wait look again: somebody has moved on."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def moved(self, within: float) -> None:
        """Return when somebody has moved on, or after so many seconds."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await waiting
        finally:
            self._waiting.discard(waiting)

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
            if self._own.get(number) is not intake:
                continue  # it has left while another one was asked
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

    records: int = FEWEST_TOGETHER

    def after(self, folded: int, took: float, leeway: float) -> Stride:
        """The next one, where `folded` records took so many seconds of event time, and so many are left."""
        if leeway <= 0:
            return Stride()
        fit = inf if took <= 0 else leeway / took * folded / 2
        return Stride(max(FEWEST_TOGETHER, int(min(fit, MOST_TOGETHER, 2 * folded))))


class AlignedOwner(AlignedIntake, Protocol):
    """The owner of a partition, of the log or of a later stage."""

    async def fold(self, records: Records) -> None:
        """Fold records without regard to others."""
        ...


class AlignedFold:
    """Folds the records of one partition: at once without an alignment; a later stage then reports its event
    time; an intake gets no further ahead of the others than the alignment allows. It does not refer to its
    owner, which is gone as soon as nobody else does."""

    def __init__(self, alignment: Alignment | None, target: Target) -> None:
        self._alignment = alignment
        self._target = target

    def begin(self, owner: AlignedOwner) -> None:
        """The partition is taken over, and what its log holds will be folded."""
        if self._alignment is not None and self._target.stage == 0:
            self._alignment.join(owner)

    def recovered(self, owner: AlignedOwner) -> None:
        """What was there at the take-over is folded, which may have been nothing."""
        if self._alignment is not None and self._target.stage > 0:
            self._alignment.come_to(self._target, owner.watermark)

    def end(self, owner: AlignedOwner) -> None:
        """The owner ends: nobody waits for it by what it knows."""
        if self._alignment is not None:
            self._alignment.leave(owner)

    def fold(self, owner: AlignedOwner, records: Records) -> Coroutine[Any, Any, None]:
        """The fold of the next records; raises the errors of the owner's, and those of the broker."""
        if self._alignment is None:
            return owner.fold(records)
        if self._target.stage == 0:
            return self._fold_aligned(owner, records, self._alignment)
        return self._fold_behind(owner, records, self._alignment)

    async def _fold_behind(self, owner: AlignedOwner, records: Records, alignment: Alignment) -> None:
        """Fold records of a later stage, and report its event time."""
        await owner.fold(records)
        alignment.come_to(self._target, owner.watermark)

    async def _fold_aligned(self, owner: AlignedOwner, records: Records, alignment: Alignment) -> None:
        """Fold records of the log no further ahead of later stages than the alignment allows, or wait for a
        while."""
        begin, stride = 0, Stride()
        while begin < len(records):
            before = owner.watermark
            await self._until_others_come(owner, alignment)
            piece = records[begin : begin + stride.records]
            await owner.fold(piece)
            alignment.wake()
            begin += len(piece)
            now = owner.watermark
            stride = stride.after(len(piece), now - before, alignment.leeway(now))

    async def _until_others_come(self, owner: AlignedOwner, alignment: Alignment) -> None:
        now = asyncio.get_running_loop().time
        looks_at = now()
        until = looks_at + ALIGNED_WITHIN
        while alignment.leeway(owner.watermark) < 0:
            if now() >= until:
                alignment.give_up()
                return
            if now() >= looks_at:
                await alignment.look_for_ends(owner.watermark)
                looks_at = now() + ENDS_LOOK_EVERY
            else:
                await alignment.moved(looks_at - now())
