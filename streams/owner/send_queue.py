"""Publishes outputs in order while the fold continues. One batch is sent at a time; outputs that are folded
meanwhile wait and form the next batch. So a partition does not wait for each acknowledgement, and the
published outputs are a contiguous prefix of the folded ones at every moment. (A second request under way at
once would gain nothing: aiokafka has one of a producer under way for each broker.) Nothing follows a batch
that failed.

A batch spans few offsets of the log: code that takes over from this code relies on that (`HELD_BACK`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from driftline.streams.fold import inheritance
from driftline.streams.owner.outbox import OutboxClosed
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.ports import StoredRecord


@dataclass(slots=True)
class Folded:
    """The outputs of records from offset `begin` up to `last`; `next_offset` is the offset after them,
    `folds` the number of steps of the fold."""

    out: Outputs
    begin: int
    last: StoredRecord
    next_offset: int
    folds: int = 1


class SendQueue:
    """The outputs of one owner that are folded and not published yet. `publish` returns when the broker has
    acknowledged its argument. `failed` is called once when it raises: from then on `put` and `settled` raise
    the same error.
    """

    def __init__(self, publish: Callable[[Folded], Awaitable[None]], failed: Callable[[], object]) -> None:
        self._publish = publish
        self._failed = failed
        self._waiting: list[Folded] = []
        self._sending: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    def put(self, folded: Folded) -> None:
        """Publish this after all that was put before."""
        self._check()
        self._waiting.append(folded)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                await self._publish(_together(self._taken()))
        except BaseException as error:
            # after a cancellation or an error it is unknown how much of the batch has arrived
            self._failure = (
                error if isinstance(error, Exception) else OutboxClosed("the sending was cancelled")
            )
            self._failed()
            if self._failure is not error:
                raise
        finally:
            self._sending = None

    def _taken(self) -> list[Folded]:
        """The next batch of those that wait."""
        fit = 1
        while fit < len(self._waiting) and spans_few(self._waiting[0].begin, self._waiting[fit].last):
            fit += 1
        taken, self._waiting = self._waiting[:fit], self._waiting[fit:]
        return taken

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def settled(self) -> None:
        """Return when everything put is published. If the caller is cancelled meanwhile, the sending ends
        too."""
        if self._sending is not None:
            await self._sending
        self._check()

    async def close(self) -> None:
        """End the sending; it is unknown how much of the batch being sent arrives."""
        sending, self._failed = self._sending, _ignored
        if sending is not None:
            sending.cancel()
            await asyncio.wait([sending])
        # a closed queue must not keep its owner alive, whose state is large, nor must a traceback
        self._waiting, self._publish = [], _closed
        self._failure = OutboxClosed("the partition has been given up: take it over again")


async def _closed(_: Folded) -> None:
    raise OutboxClosed("the partition has been given up: take it over again")


def _ignored() -> None:
    """Ignores a failure while the queue is closed."""


def spans_few(begin: int, last: StoredRecord) -> bool:
    """Whether records from offset `begin` to `last` may be published in one batch."""
    return last.offset - begin < max(inheritance.HELD_BACK // 2, 1)


def pieces(records: Sequence[StoredRecord]) -> Iterator[Sequence[StoredRecord]]:
    """The records in pieces, so that the outputs of each may be published in one batch. Transactions and
    compaction leave gaps: few records may span many offsets."""
    begin = 0
    for place, record in enumerate(records):
        if not spans_few(records[begin].offset, record):
            yield records[begin:place]
            begin = place
    yield records[begin:]


def _together(waiting: Sequence[Folded]) -> Folded:
    """One batch of all that waits."""
    first = waiting[0]
    if len(waiting) == 1:
        return first
    for later in waiting[1:]:
        first.out.extend(later.out)
    last = waiting[-1]
    return Folded(first.out, first.begin, last.last, last.next_offset, sum(one.folds for one in waiting))
