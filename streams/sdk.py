"""Clients for programs around the system: produce events, consume predictions. Needs kafka-python only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from streams.events import Event
from streams.messages import Prediction

if TYPE_CHECKING:
    from streams.usecase import UseCase


def local_bootstrap() -> str:
    """DRIFTLINE_BOOTSTRAP, else the address of the local broker; raises RuntimeError without one."""
    import json
    import os
    from pathlib import Path

    named = os.environ.get("DRIFTLINE_BOOTSTRAP")
    if named:
        return named
    record = Path(os.environ.get("DRIFTLINE_HOME", ".driftline")) / "kafka" / "broker.json"
    try:
        return str(json.loads(record.read_text())["bootstrap"])
    except (OSError, ValueError, KeyError):
        raise RuntimeError(
            "no Kafka: pass bootstrap=, set DRIFTLINE_BOOTSTRAP, or run `driftline up` in this folder"
        ) from None


class EventProducer:
    """Sends a case's events to its log: validated first, keyed, idempotent.

    References and clock events go to every partition. `send` raises `streams.errors.Refused` for an
    event that the fold would refuse for its form, and any failed delivery at the next `send`,
    `flush` or `close`. `on_sent(partition, offset)` hears, on another thread, where each record is in
    the log; what the fold refuses of them are the dead letters of these offsets.
    """

    def __init__(
        self,
        case: UseCase,
        bootstrap: str | None = None,
        *,
        namespace: str = "",
        on_sent: Callable[[int, int], None] | None = None,
        **settings: Any,
    ) -> None:
        self._codec = case.codec()
        self._partitions = case.partitions
        self._topic = case.topics(namespace).log
        self._failure: BaseException | None = None
        self._on_sent = on_sent
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap or local_bootstrap(),
            **{"acks": "all", "enable_idempotence": True, "linger_ms": 5, "batch_size": 262_144} | settings,
        )

    def send(self, event: Event) -> None:
        """Queue one event."""
        self._raise_failure()
        value = self._codec.encode(event)
        key = self._codec.key(event)
        if key is None:
            for partition in range(self._partitions):
                self._send(value, None, partition)
        else:
            self._send(value, key, None)

    def place(self, partition: int, key: bytes | None, value: bytes) -> None:
        """Queue one encoded event for a partition; raises `Refused` for what its form does not allow."""
        self._raise_failure()
        self._codec.decode(value, key)
        self._send(value, key, partition)

    def _send(self, value: bytes, key: bytes | None, partition: int | None) -> None:
        future = self._producer.send(self._topic, value=value, key=key, partition=partition)
        future.add_errback(self._failed)
        if self._on_sent is not None:
            future.add_callback(self._sent)

    def _sent(self, where: Any) -> None:
        assert self._on_sent is not None
        self._on_sent(where.partition, where.offset)

    def _failed(self, error: BaseException) -> None:
        self._failure = self._failure or error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all events are acknowledged; `timeout` in seconds."""
        self._producer.flush(timeout=timeout)
        self._raise_failure()

    def close(self) -> None:
        """Flush and end."""
        try:
            self.flush()
        finally:
            self._producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PredictionConsumer:
    """Iterates a case's predictions, typed, each source position once.

    With a `group` it resumes where the group left off: the newest source position seen goes into the
    metadata of the offset commit, so repeats are dropped across restarts and rebalances too.
    Iteration ends after `timeout` seconds without a record (None: never).
    """

    def __init__(
        self,
        case: UseCase,
        bootstrap: str | None = None,
        *,
        group: str | None = None,
        namespace: str = "",
        timeout: float | None = None,
        **settings: Any,
    ) -> None:
        self._topic = case.topics(namespace).predictions
        self._group = group
        self._decoder = msgspec.json.Decoder(Prediction)
        self._seen: dict[int, tuple[int, int]] = {}
        self._next: dict[int, int] = {}
        self._consumer = KafkaConsumer(
            self._topic,
            bootstrap_servers=bootstrap or local_bootstrap(),
            group_id=group,
            **{
                "auto_offset_reset": "earliest",
                "enable_auto_commit": False,
                "isolation_level": "read_committed",
                "consumer_timeout_ms": float("inf") if timeout is None else timeout * 1000,
            }
            | settings,
        )

    def __iter__(self) -> Iterator[Prediction]:
        for record in self._consumer:
            partition = record.partition
            if partition not in self._seen:
                self._seen[partition] = self._resumed(partition)
            source = next(value for name, value in record.headers if name == "source")
            offset, _, ordinal = source.decode().partition(":")
            position = (int(offset), int(ordinal))
            self._next[partition] = record.offset + 1
            if position <= self._seen[partition]:
                continue
            self._seen[partition] = position
            yield self._decoder.decode(record.value)

    def _resumed(self, partition: int) -> tuple[int, int]:
        """The newest source position that the group has committed for the partition."""
        if self._group is None:
            return (-1, -1)
        committed = self._consumer.committed(TopicPartition(self._topic, partition), metadata=True)
        if committed is None or not committed.metadata:
            return (-1, -1)
        offset, _, ordinal = committed.metadata.partition(":")
        return int(offset), int(ordinal)

    def commit(self) -> None:
        """Say that everything yielded so far has been dealt with."""
        if self._group is None:
            return
        self._consumer.commit(
            {
                TopicPartition(self._topic, partition): OffsetAndMetadata(
                    following, "{}:{}".format(*self._seen[partition]), -1
                )
                for partition, following in self._next.items()
            }
        )

    def close(self) -> None:
        """Commit and leave."""
        self.commit()
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
