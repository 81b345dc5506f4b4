"""The record that one stage writes for another: where it comes from, how far time is there, and an event.

It is a function of the writer's partition alone, so it can be sent again by any owner, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec

from driftline.online_models.pool.pool import Failure
from driftline.streams.errors import StreamsError

RECORD_VERSION = 2
"""Of the encoding; a record says whether it is silent since version 2."""
READ_VERSIONS = (1, 2)


class Writer(NamedTuple):
    """A writer to a stage's topic: one partition of an earlier stage."""

    stage: int
    partition: int


class StageRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the record at `offset` of a writer's partition caused, as the `ordinal`-th of all that it did.

    It is the `number`-th record of this writer to its reader, from 1 on: one that is missing is noticed.
    `watermark` says that no event before it follows from this writer, in seconds since the epoch. `event` is
    the event as the log has it, `read` the features that were read on its way. A record without an event only
    states the time. The last stage reports an event that was `refused` on its way (stage, reason). What a
    `silent` record causes is not published: it belongs to a warm-up.
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
    silent: bool = False

    @property
    def writer(self) -> Writer:
        """Who wrote it."""
        return Writer(self.stage, self.partition)


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a replica has answered, for its learner: the fields of its `Forecast`, which members failed to
    answer and why, and what is known of the pool that answered: how many labels it had learned from, and the
    event time of the newest (seconds); None where it had been published none."""

    serving: str
    version: str
    learned_through: int
    output: Any
    outputs: tuple[Any, ...]
    reach: float | None
    unanswered: tuple[int, ...]
    failures: tuple[Failure, ...]
    labels: int
    at: float | None


class PoolPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One of the `count` parts in which a learner publishes its pool, sealed: `whole` is the sha256 of all of
    them together. They have one number: they are one record to their reader, which a topic would not take in
    one piece."""

    whole: bytes
    index: int
    count: int
    content: bytes


class ModelRecord(StageRecord, frozen=True, array_like=True, gc=False):
    """A record that replicas and their learner write to each other: an answered request, or a part of the
    pool. Any other record between stages is read as one too."""

    answer: Answer | None = None
    part: PoolPart | None = None


encode_record = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StageRecord).decode
_decode_model = msgspec.msgpack.Decoder(ModelRecord).decode


def decode_record(value: bytes | None) -> StageRecord:
    """The record in `value`; raises StreamsError for what no stage of this version has written."""
    return _checked(_decode, value)


def decode_model_record(value: bytes | None) -> ModelRecord:
    """The record in `value`, with what replicas and their learner add; raises StreamsError."""
    return _checked(_decode_model, value)


R = TypeVar("R", bound=StageRecord)


def _checked(decode: Callable[[bytes], R], value: bytes | None) -> R:
    try:
        record = decode(value or b"")
    except msgspec.MsgspecError as error:
        raise StreamsError(f"a record between stages cannot be read: {error}") from error
    if record.version not in READ_VERSIONS:
        raise StreamsError(
            f"a record between stages has version {record.version}, and this code reads {READ_VERSIONS}: "
            "it is of other code, whose topics this one does not go on with"
        )
    return record


class Accepted(NamedTuple):
    """An event as a record of the topic that it is read from, for reports about it; `timestamp` is unknown
    there."""

    offset: int
    key: bytes | None
    value: bytes
    timestamp: int = -1
