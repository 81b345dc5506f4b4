"""Sends the fold's outputs in order, and knows the tail of each output topic.

Batches go out in the order of source positions and each is awaited. When a send fails the outbox is dead:
nothing later is sent, so the last record of a topic always proves a contiguous prefix. Then
`PartitionTask._retry` takes the partition over again, which is how a failed send is retried. While the log is
folded again, outputs at or before a topic's tail are not sent a second time; the output at the tail itself is
compared with the published record. Records for other stages are sent again: their readers drop those that
they have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from driftline.streams.checkpoints.tails import OutputMark
from driftline.streams.declare.topics import OUTPUT_LIMITS
from driftline.streams.errors import StreamsError
from driftline.streams.owner.upgrade.held_back import HeldBack
from driftline.streams.records.difference import Difference, record_difference
from driftline.streams.records.outputs import KINDS, Output, Outputs, Send, Target
from driftline.streams.records.ports import Appender, AppendFailed, Place, StoredRecord
from driftline.streams.records.positions import SourcePosition, headers_of


class OutboxClosed(AppendFailed):
    """An earlier output failed: the partition has to be taken over again."""


class Diverged(StreamsError):
    """The published record differs from the output of the fold."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(
            f"what is published is not what the log gives. {difference}\n{difference.causes}\n"
            "Nothing more is put out of this partition. Mend the cause; where that changes the declaration, "
            "take over by `driftline upgrade CASE`"
        )
        self.difference = difference


class OutputTooLarge(StreamsError):
    """An output that its topic can never take: a fault of driftline, as all outputs are bounded."""


class Outbox:
    """The outputs of one partition, from their tails on; with `held_back` only what is sent to other stages.

    `places`, `marks` and `tails` are by kind of output. `unproved` are the records at those tails that the
    fold has not reached yet; each is compared when it does. `place_of` gives the place of a target of another
    stage.
    """

    def __init__(
        self,
        appender: Appender,
        places: Mapping[str, Place],
        marks: Mapping[str, OutputMark],
        tails: Mapping[str, SourcePosition],
        unproved: Mapping[str, StoredRecord],
        place_of: Callable[[Target], Place],
        held_back: HeldBack | None = None,
    ) -> None:
        self._appender: Appender | None = appender
        self._places = places
        self._marks = dict(marks)
        self._tails = dict(tails)
        self._unproved = dict(unproved)
        self._place_of = place_of
        self._held_back = held_back

    @property
    def tails(self) -> Mapping[str, SourcePosition]:
        """The last source position of each kind on the broker."""
        return self._tails

    @property
    def marks(self) -> dict[str, OutputMark]:
        """What a checkpoint must remember of each kind."""
        return dict(self._marks)

    async def send(self, out: Outputs, next_offset: int) -> Mapping[str, Sequence[Output]]:
        """Append the outputs beyond the tails, and all records for other stages, and return when the broker
        has acknowledged them. `out` has the outputs of the newly folded records before `next_offset`. Returns
        those appended, by kind. Raises AppendFailed, after which the outbox is dead, Diverged when a
        published record differs from the folded one, and OutputTooLarge before anything is sent.
        """
        for kind in list(self._unproved):
            self._prove(kind, getattr(out, kind), next_offset)
        fresh = self._fresh(out) if self._held_back is None else self._held_back.take(out, self._tails)
        batches = {self._places[kind]: outputs for kind, outputs in fresh.items()}
        if out.sends:
            batches |= self._by_place(out.sends)
        if not batches:
            return fresh
        async with self._appending() as appender:
            ends = await appender.append(batches)
        for kind, outputs in fresh.items():
            end = ends[self._places[kind]]
            self._tails[kind] = (outputs[-1].offset, outputs[-1].ordinal)
            self._marks[kind] = OutputMark(self._marks[kind].topic_id, end, self._tails[kind], end - 1)
        return fresh

    def _by_place(self, sends: Sequence[Send]) -> dict[Place, Sequence[Output]]:
        by_target: dict[Target, list[Output]] = {}
        for target, value in sends:
            by_target.setdefault(target, []).append(Output(-1, -1, None, value))
        return {self._place_of(target): records for target, records in by_target.items()}

    async def announce(self, kind: str, record: Output) -> None:
        """Append a record that no input caused (a code epoch); the tail stays where it is."""
        place, mark = self._places[kind], self._marks[kind]
        async with self._appending() as appender:
            end = (await appender.append({place: [record]}))[place]
        self._marks[kind] = OutputMark(mark.topic_id, end, self._tails[kind], mark.last)

    @asynccontextmanager
    async def _appending(self) -> AsyncIterator[Appender]:
        """The appender. After a failure there is none: it is unknown then what the broker has, and nothing
        may follow."""
        appender = self._appender
        if appender is None:
            raise OutboxClosed("an earlier output failed: take the partition over again")
        try:
            yield appender
        except BaseException:
            self._appender = None
            await appender.close()
            raise

    def _fresh(self, out: Outputs) -> dict[str, Sequence[Output]]:
        """The outputs beyond the tails, by kind. Raises OutputTooLarge."""
        fresh: dict[str, Sequence[Output]] = {}
        for kind in KINDS:
            outputs: list[Output] = getattr(out, kind)
            if outputs and (beyond := self._beyond(kind, outputs)):
                self._check_sizes(kind, beyond)
                fresh[kind] = beyond
        return fresh

    def _check_sizes(self, kind: str, outputs: Sequence[Output]) -> None:
        limit = OUTPUT_LIMITS[kind]
        for output in outputs:
            size = len(output.value) + len(output.key or b"")
            if size > limit:
                raise OutputTooLarge(
                    f"{self._places[kind]}: offset {output.offset} of the log puts out {size:,} bytes, and "
                    f"the topic takes {limit:,}. This is a fault of driftline; nothing is lost: the "
                    "partition goes on from that offset once it is mended"
                )

    def _beyond(self, kind: str, outputs: list[Output]) -> Sequence[Output]:
        tail = self._tails[kind]
        if (outputs[0].offset, outputs[0].ordinal) > tail:
            return outputs  # positions ascend: no other can be at or before the tail
        return [output for output in outputs if (output.offset, output.ordinal) > tail]

    def prove_all(self, end: int) -> None:
        """Raises Diverged when the fold of the log up to `end` has not produced a record that was published
        for it."""
        for kind in list(self._unproved):
            self._prove(kind, (), end)

    def _prove(self, kind: str, outputs: Sequence[Output], next_offset: int) -> None:
        tail = self._tails[kind]
        published = self._unproved[kind]
        place = self._places[kind]
        for output in outputs:
            if (output.offset, output.ordinal) == tail:
                as_published = (published.key, published.value, list(published.headers))
                if as_published != (output.key, output.value, headers_of(output)):
                    raise Diverged(record_difference(place.topic, place.partition, tail, published, output))
                del self._unproved[kind]
                return
        if next_offset > tail[0]:
            raise Diverged(record_difference(place.topic, place.partition, tail, published, None))

    async def close(self) -> None:
        """End the appender."""
        appender, self._appender = self._appender, None
        if appender is not None:
            await appender.close()
