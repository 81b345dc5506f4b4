"""Reads stretches of topic partitions from Kafka by offset, outside any group; committed data only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.errors import StreamsError

if TYPE_CHECKING:
    from driftline.settings import KafkaSecurity

SHORT_SILENCE = 4.0
"""Seconds of Kafka's silence for which somebody who waits for a command is kept waiting."""
POLL_MS = 500
RECORDS_IN_POLL = 5_000


class Trimmed(StreamsError):
    """The topic no longer has the next offset to read."""


class Patience(NamedTuple):
    """Seconds of a broker's silence that are waited for: while connecting, after a request, and where records
    are to come."""

    connecting: float
    request: float
    records: float

    @classmethod
    def of(cls, silence: float | None) -> Patience:
        """The same for all of it; without a number that of work that nobody waits for."""
        return cls(30.0, 10.0, 60.0) if silence is None else cls(silence, silence, silence)


class LogReader:
    """One connection that reads one topic partition at a time.

    With a `group` it can also commit its user's progress, for others to see; commits are never read.
    kafka.errors.KafkaTimeoutError and RequestTimedOutError mean that the broker did not answer, or sent
    nothing although it has more records: for `silence` seconds, where that is given (see `Patience`).
    """

    def __init__(
        self,
        bootstrap: str,
        group: str | None = None,
        security: KafkaSecurity | None = None,
        *,
        silence: float | None = None,
    ) -> None:
        from driftline.streams.connection import clients

        self._patience = Patience.of(silence)
        self._request_ms = round(self._patience.request * 1_000)
        limits = {
            "bootstrap_timeout_ms": round(self._patience.connecting * 1_000),
            "request_timeout_ms": self._request_ms,
        }
        self._admin = clients.admin(bootstrap, security, **limits)
        self._consumer = clients.consumer(
            bootstrap,
            security,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            max_poll_records=RECORDS_IN_POLL,
            max_partition_fetch_bytes=8 << 20,  # one partition is read at a time: fewer round trips
            **limits,
        )

    def topic(self, name: str) -> tuple[str, list[int]] | None:
        """Id and partitions of a topic; None when there is none."""
        from kafka.errors import UnknownTopicOrPartitionError, for_code

        (description,) = self._admin.describe_topics([name])
        failure = for_code(description["error_code"])
        if failure is UnknownTopicOrPartitionError:
            return None
        if description["error_code"]:
            raise failure(name)
        return str(description["topic_id"]), sorted(p["partition_index"] for p in description["partitions"])

    def names(self) -> list[str]:
        """Names of the existing topics that this user may see."""
        return sorted(self._admin.list_topics())

    def delete(self, topic: str) -> None:
        """Delete a topic with its records."""
        self._admin.delete_topics([topic])

    def extent(self, topic: str, partition: int) -> tuple[int, int]:
        """[begin, end) of what can be read: from the first offset kept to the first undecided one."""
        tp = _place(topic, partition)
        begin = self._consumer.beginning_offsets([tp], self._request_ms)[tp]
        # read_committed: the last stable offset, so an open transaction is not passed
        end = self._consumer.end_offsets([tp], self._request_ms)[tp]
        return begin, max(begin, end)

    def high_watermark(self, topic: str, partition: int) -> int:
        """The offset after the last one appended, in open transactions too."""
        from kafka.admin import OffsetSpec

        tp = _place(topic, partition)
        return int(self._admin.list_partition_offsets({tp: OffsetSpec.LATEST})[tp].offset)

    def open_transaction(self, topic: str, partition: int) -> str:
        """The transactional id of the oldest transaction that is open there; empty when there is none."""
        tp = _place(topic, partition)
        producers = self._admin.describe_producers([tp])[tp].active_producers
        started = {p.current_transaction_start_offset: p.producer_id for p in producers}
        first = min((offset for offset in started if offset >= 0), default=None)
        if first is None:
            return ""
        listed = self._admin.list_transactions(producer_id_filters=[started[first]])
        return next((transaction.transactional_id for some in listed.values() for transaction in some), "")

    def next_record(self, topic: str, partition: int, begin: int, end: int) -> int | None:
        """Offset of the first committed record of [begin, end); None when there is none."""
        chunks = self.chunks(topic, partition, begin, end)
        return next((records[0].offset for records in chunks if records), None)

    def offset_at(self, topic: str, partition: int, timestamp: int) -> int:
        """Offset of the first record appended at or after `timestamp` (ms); the end when there is none."""
        tp = _place(topic, partition)
        place = self._consumer.offsets_for_times({tp: timestamp}, self._request_ms)[tp]
        return self.extent(topic, partition)[1] if place is None else int(place.offset)

    def chunks(self, topic: str, partition: int, begin: int, end: int) -> Iterator[list[ArchivedRecord]]:
        """The records of [begin, end), in order; ends when the partition has been read up to `end`.

        `end` is at most the partition's end. A chunk is empty when nothing came for a moment, so that
        the caller can stop. Raises Trimmed when retention was faster, and KafkaTimeoutError.
        """
        from kafka.errors import KafkaTimeoutError, OffsetOutOfRangeError

        consumer = self._consumer
        tp = _place(topic, partition)
        consumer.assign([tp])
        consumer.seek(tp, begin)
        at = begin
        moved = time.monotonic()
        while at < end:
            try:
                fetched = consumer.poll(POLL_MS).get(tp, [])
            except OffsetOutOfRangeError as error:
                raise Trimmed(
                    f"{topic}-{partition} no longer has offset {at}: it was deleted while it was read"
                ) from error
            # the position also moves past control markers and aborted transactions
            position = consumer.position(tp)
            if position > at:
                at = position
                moved = time.monotonic()
            elif time.monotonic() - moved > self._patience.records:
                raise KafkaTimeoutError(
                    f"{topic}-{partition}: nothing came after offset {at} for {self._patience.records:g} s"
                )
            yield [_record(r) for r in fetched if r.offset < end]

    def commit(self, topic: str, partition: int, offset: int) -> None:
        """Commit for the group that everything before `offset` is processed."""
        from kafka.structs import OffsetAndMetadata

        self._consumer.commit({_place(topic, partition): OffsetAndMetadata(offset, "", -1)}, self._request_ms)

    def close(self) -> None:
        self._consumer.close()
        self._admin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _place(topic: str, partition: int) -> Any:
    from kafka import TopicPartition

    return TopicPartition(topic, partition)


def _record(fetched: Any) -> ArchivedRecord:
    return ArchivedRecord(
        fetched.offset, fetched.timestamp, fetched.key, fetched.value, tuple(map(tuple, fetched.headers))
    )
