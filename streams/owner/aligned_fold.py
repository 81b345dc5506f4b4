"""The fold of a partition in step with the other stages of its process: an intake waits for those behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import StoredRecord
from driftline.streams.stages.alignment import AlignedIntake, Alignment, Stride

ALIGNED_WITHIN = 10.0
"""Seconds that an intake waits for another one that is behind and makes no progress."""
ALIGNMENT_LOOK_EVERY = 0.002
ENDS_LOOK_EVERY = 0.05
"""Seconds between looks of an intake that waits, whether those behind it have more to fold."""

Records = Sequence[StoredRecord]


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
                await asyncio.sleep(ALIGNMENT_LOOK_EVERY)
