"""The record that one stage writes for another: where it comes from, how far time is there, and an event.

It is a function of the writer's partition alone, so it can be sent again: whoever sends it, its bytes are
the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from driftline.streams.errors import StreamsError

RECORD_VERSION = 1
"""Of the encoding. Topics between stages belong to one version of the code, which reads no other."""


class Writer(NamedTuple):
    """Who writes to a stage's topic: one partition of a stage before it."""

    stage: int
    partition: int


class StageRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the record at `offset` of a writer's partition caused, as the `ordinal`-th of all that it did.

    It is the `number`-th record of this writer to its reader, from 1 on: one that is missing is noticed.
    `watermark` says that no event before it follows from this writer, in seconds since the epoch. `event` is
    the event as the log has it, `read` the features that were read on its way. Without an event the record
    only tells the time. What was `refused` on its way (stage, reason) is so told by the last stage.
    """

    version: int
    stage: int
    partition: int
    number: int
    offset: int
    ordinal: int
    watermark: float
    event: bytes = b""
    read: dict[str, Any] = {}
    refused: tuple[str, str] | None = None

    @property
    def writer(self) -> Writer:
        """Who wrote it."""
        return Writer(self.stage, self.partition)


encode_record = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StageRecord).decode


def decode_record(value: bytes | None) -> StageRecord:
    """The record in `value`; raises StreamsError for what no stage of this version has written."""
    try:
        record = _decode(value or b"")
    except msgspec.MsgspecError as error:
        raise StreamsError(f"a record between stages cannot be read: {error}") from error
    if record.version != RECORD_VERSION:
        raise StreamsError(
            f"a record between stages has version {record.version}, and this code reads {RECORD_VERSION}: "
            "it is of other code, whose topics this one does not go on with"
        )
    return record


class Accepted(NamedTuple):
    """An event as a record of the topic that it is read from, for what is told of it; `timestamp` is unknown
    there."""

    offset: int
    key: bytes | None
    value: bytes
    timestamp: int = -1
