"""Tails: the source position of the last record of one output partition. The last offsets may be control
markers, and a sparse topic may have lost its last record to retention; then only the mark in a checkpoint can
tell the position.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from driftline.streams.archive.epochs import is_epoch
from driftline.streams.errors import StreamsError
from driftline.streams.records.ports import Broker, Extent, Place, StoredRecord
from driftline.streams.records.positions import NOTHING, SourcePosition, position_of, source_of


class OutputMark(msgspec.Struct, frozen=True):
    """What a checkpoint remembers of one output partition: its topic's id, its end, the last source
    position before that end, and the offset of the record that carries it (-1 when there is none)."""

    topic_id: str
    end: int
    position: SourcePosition
    last: int


class Tail(NamedTuple):
    """Where an output partition ends: the last position, the offset of the record that carries it (-1
    when there is none), and the record itself when it could be read."""

    position: SourcePosition
    offset: int
    record: StoredRecord | None


def marks_of(
    places: Mapping[str, Place], extents: Mapping[Place, Extent], tails: Mapping[str, Tail]
) -> dict[str, OutputMark]:
    """The marks of the outputs of these kinds, whose tails have been read."""
    return {
        kind: OutputMark(
            extents[place].topic_id, extents[place].end, tails[kind].position, tails[kind].offset
        )
        for kind, place in places.items()
    }


class BrokerChanged(StreamsError):
    """The broker no longer holds what it held when the checkpoint was taken."""


async def read_tail(broker: Broker, place: Place, extent: Extent, known: OutputMark | None) -> Tail:
    """The tail of `place`. If there is a checkpoint's mark, only records beyond it are read.

    Raises BrokerChanged when the topic was recreated or truncated, or when its newest records were deleted
    before their positions were known.
    """
    if known is not None:
        return await _tail_beyond(broker, place, extent, known)
    record = await _last_output(broker, place, extent.begin, extent.end)
    if record is not None:
        return Tail(position_of(record.headers), record.offset, record)
    if extent.begin > 0:
        raise BrokerChanged(
            f"{place} begins at {extent.begin} and holds no output: what it held was deleted, and no "
            "checkpoint says how far it went"
        )
    return Tail(NOTHING, -1, None)


async def _tail_beyond(broker: Broker, place: Place, extent: Extent, known: OutputMark) -> Tail:
    if extent.topic_id != known.topic_id:
        raise BrokerChanged(
            f"{place} was recreated: its topic id is {extent.topic_id}, the checkpoint's {known.topic_id}"
        )
    if extent.end < known.end:
        raise BrokerChanged(
            f"{place} ends at {extent.end}, before the checkpoint's {known.end}: it was truncated"
        )
    # the markers of later fences may have filled up what was cut off, so the end alone proves nothing:
    # the record that the checkpoint saw last, or a newer one, has to be there; if it saw none, one may lie
    # where markers were that it counted
    record = await _last_output(broker, place, max(extent.begin, known.last), extent.end)
    position = known.position if record is None else position_of(record.headers)
    if position < known.position or (record is None and extent.begin <= known.last):
        raise BrokerChanged(
            f"{place} no longer holds source {known.position[0]}:{known.position[1]} at offset {known.last}, "
            "where the checkpoint saw it: it was truncated"
        )
    if record is not None:
        return Tail(position, record.offset, record)
    if extent.begin > known.end:
        raise BrokerChanged(
            f"{place} begins at {extent.begin} and holds no output, but the checkpoint saw its end at "
            f"{known.end}: outputs written since were deleted"
        )
    return Tail(known.position, known.last, None)


async def _last_output(broker: Broker, place: Place, begin: int, end: int) -> StoredRecord | None:
    """The last record of [begin, end) with a source position, looked for in ever larger pieces."""
    span = 1
    high = end
    while high > begin:
        low = max(begin, high - span)
        last: StoredRecord | None = None
        async for records in broker.read(place, low, high):
            for record in records:
                if source_of(record.headers) is not None:
                    last = record
                elif not is_epoch(record):
                    raise StreamsError(
                        f"{place}, offset {record.offset}: a record without a source position: somebody else "
                        "writes to an output topic"
                    )
        if last is not None:
            return last
        high = low
        span *= 16
    return None
