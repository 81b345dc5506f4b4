"""Clients for programs around the system: produce events, consume predictions. Needs kafka-python only."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import inf
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.structs import OffsetAndMetadata

from driftline.declaration_check import AT_LEAST_0, NOT_EMPTY, Duration, MaybeSeconds, seconds, shown
from driftline.streams.clients.arguments import check_client
from driftline.streams.connection import clients
from driftline.streams.declare.events import Event
from driftline.streams.errors import DeclarationError, NoBroker, StreamsError
from driftline.streams.records.messages import Prediction
from driftline.streams.records.positions import NOTHING, SourcePosition, parse_position, position_of

if TYPE_CHECKING:
    from driftline.settings import Settings
    from driftline.streams.declare.usecase import UseCase

Headers = Sequence[tuple[str, bytes]]
LOOKS_EVERY = 1.0
"""Seconds between looks at failures while everything else is waited for."""


def local_bootstrap() -> str:
    """The address in the settings, else that of the local broker; raises NoBroker without one."""
    import json

    settings = _settings()
    if settings.bootstrap:
        return settings.bootstrap
    try:
        return str(json.loads((settings.home / "kafka" / "broker.json").read_text())["bootstrap"])
    except (OSError, ValueError, KeyError):
        raise NoBroker(
            "no Kafka: pass bootstrap=, set DRIFTLINE_BOOTSTRAP, or run `driftline up` in this folder"
        ) from None


def own_namespace() -> str:
    """The namespace in the settings, as workers read it; empty without one."""
    return _settings().namespace


def _settings() -> Settings:
    from driftline.setting_sources import read  # of use to whoever names neither broker nor namespace
    from driftline.settings import Settings

    return read(Settings)


_SERIALIZED = "events are written as the JSON that workers read"
_TYPED = "predictions are read as typed objects"
_PRODUCERS_OWN = {
    "bootstrap_servers": "pass bootstrap=",
    "key_serializer": _SERIALIZED,
    "value_serializer": _SERIALIZED,
}
_CONSUMERS_OWN = {
    "bootstrap_servers": "pass bootstrap=",
    "group_id": "pass group=",
    "consumer_timeout_ms": "pass timeout=, in seconds",
    "enable_auto_commit": "call commit(), which keeps the source position too",
    "isolation_level": "what was rolled back is no prediction",
    "key_deserializer": _TYPED,
    "value_deserializer": _TYPED,
}


class Undelivered(StreamsError):
    """Events that Kafka did not acknowledge; `events` are their ids, in the order in which that was known.

    Whether they are in the log is not known either. Sending them again under the same ids is safe. All other
    events sent before are acknowledged.

    >>> error = Undelivered({"e1": TimeoutError("no answer in time")})
    >>> list(error.events)
    ['e1']
    """

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        self.events = tuple(failures)
        error = next(iter(failures.values()))
        count = "1 event was" if len(failures) == 1 else f"{len(failures):,} events were"
        super().__init__(
            f"{count} not acknowledged by Kafka, the first of them {self.events[0]!r}: "
            f"{type(error).__name__}: {error}. Send them again under the same ids: what is in the log "
            "already is dropped as a repeat"
        )


class EventProducer:
    """Sends a case's events to its log: validated first, keyed, idempotent.

    References and clock events go to every partition. `send` raises `driftline.Refused` for an
    event that the fold would refuse for its form. A broker that is away is waited for, 120 s by default
    (`delivery_timeout_ms`); what was not acknowledged by then is reported by `Undelivered` at the next
    `send`, `flush` or `close`. `on_sent(partition, offset)` hears, on another thread, where each record is in
    the log; what the fold refuses of them are the dead letters of these offsets. `namespace` is that of
    the settings when none is given.

    >>> from driftline.examples.flights import flights
    >>> with EventProducer(flights) as producer:                                     # doctest: +SKIP
    ...     producer.send(event)
    """

    def __init__(
        self,
        case: UseCase,
        bootstrap: str | None = None,
        *,
        namespace: str | None = None,
        on_sent: Callable[[int, int], None] | None = None,
        **settings: Any,
    ) -> None:
        from driftline.streams.declare.usecase import UseCase as Case

        arguments = {
            "case": (case, Case), "bootstrap": (bootstrap, str | None), "namespace": (namespace, str | None),
            "on_sent": (on_sent, Callable | None),
        }  # fmt: skip
        check_client("EventProducer", arguments, settings, KafkaProducer, _PRODUCERS_OWN)
        self._codec = case.codec()
        self._partitions = case.partitions
        self._topic = case.topics(own_namespace() if namespace is None else namespace).log
        self._failures: dict[str, BaseException] = {}
        self._failing = Lock()
        self._on_sent = on_sent
        usual: dict[str, Any] = {
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 5,
            "batch_size": 262_144,
        }
        self._settings = usual | settings
        self._bootstrap = bootstrap or local_bootstrap()
        self._producer: KafkaProducer | None = clients.producer(self._bootstrap, **self._settings)

    def send(self, event: Event, headers: Headers = ()) -> None:
        """Queue one event; where this raises `Undelivered`, the event is among those that it names.

        `headers` are the record's, for other readers of the log: driftline does not read them.
        """
        if not isinstance(event, Event):
            raise DeclarationError(f"EventProducer.send: expected an event of the case, not {shown(event)}")
        value = self._codec.encode(event)
        key = self._codec.key(event)
        self._raise_failures(event.id)
        if key is None:
            for partition in range(self._partitions):
                self._send(event.id, value, None, partition, headers)
        else:
            self._send(event.id, value, key, None, headers)

    def place(self, partition: int, key: bytes | None, value: bytes, headers: Headers = ()) -> None:
        """Queue one encoded event for a partition; raises `Refused` for what its form does not allow."""
        event = self._codec.decode(value, key)
        self._raise_failures(event.id)
        self._send(event.id, value, key, partition, headers)

    def _send(
        self, event_id: str, value: bytes, key: bytes | None, partition: int | None, headers: Headers
    ) -> None:
        try:
            if self._producer is None:
                self._producer = clients.producer(self._bootstrap, **self._settings)
            future = self._producer.send(
                self._topic, value=value, key=key, partition=partition, headers=list(headers)
            )
        except KafkaError as error:  # it knows no partitions, or has no room, for longer than `max_block_ms`
            self._failed(event_id, error)
            self._raise_failures()
            return
        future.add_errback(self._failed, event_id)
        if self._on_sent is not None:
            future.add_callback(self._sent)

    def _sent(self, where: Any) -> None:
        assert self._on_sent is not None
        self._on_sent(where.partition, where.offset)

    def _failed(self, event_id: str, error: BaseException) -> None:
        with self._failing:
            self._failures.setdefault(event_id, error)

    def _raise_failures(self, unsent: str | None = None) -> None:
        """Tell of what has failed, of what was still on its way, and of an event that is not sent because of
        it."""
        if not self._failures:
            return
        # after a batch that expired, kafka-python's producer may send none of its partition ever again
        self._end(0.0)
        with self._failing:
            failures, self._failures = self._failures, {}
        if unsent is not None:
            failures.setdefault(unsent, next(iter(failures.values())))
        raise Undelivered(failures)

    def _end(self, timeout: float | None = None) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all events are acknowledged, or reported by `Undelivered`.

        Raises KafkaTimeoutError when that is not so after `timeout` seconds: the events are on their way yet.
        """
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while self._producer is not None:
            try:
                self._producer.flush(timeout=max(0.0, min(LOOKS_EVERY, until - time.monotonic())))
                break
            except KafkaTimeoutError:
                if self._failures:
                    break
                if time.monotonic() >= until:
                    raise
        self._raise_failures()

    def close(self) -> None:
        """Flush and end."""
        try:
            self.flush()
        finally:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PredictionConsumer:
    """Iterates a case's predictions, typed, each source position once.

    With a `group` it resumes where the group left off: the newest source position seen goes into the
    metadata of the offset commit, so repeats are dropped across restarts and rebalances too. What was
    yielded of a partition since the last commit comes again to whoever the group gives it to next.
    `namespace` is that of the settings when none is given. Iteration ends after `timeout` seconds
    (or a timedelta) without a record (None: never).

    >>> from driftline.examples.flights import flights
    >>> for prediction in PredictionConsumer(flights, group="my-service"):           # doctest: +SKIP
    ...     print(prediction.keys["flight"], prediction.probabilities["true"])
    """

    def __init__(
        self,
        case: UseCase,
        bootstrap: str | None = None,
        *,
        group: str | None = None,
        namespace: str | None = None,
        timeout: Duration | None = None,
        **settings: Any,
    ) -> None:
        from driftline.streams.declare.usecase import UseCase as Case

        arguments = {
            "case": (case, Case), "bootstrap": (bootstrap, str | None), "namespace": (namespace, str | None),
            "group": (group, Annotated[str, NOT_EMPTY] | None),
            "timeout": (timeout, Annotated[MaybeSeconds, AT_LEAST_0]),
        }  # fmt: skip
        check_client("PredictionConsumer", arguments, settings, KafkaConsumer, _CONSUMERS_OWN)
        self._topic = case.topics(own_namespace() if namespace is None else namespace).predictions
        ends_after = inf if timeout is None else seconds(timeout, "timeout", DeclarationError)
        self._group = group
        self._decoder = msgspec.json.Decoder(Prediction)
        usual: dict[str, Any] = {
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "consumer_timeout_ms": ends_after * 1000,
        }
        self._consumer = clients.consumer(bootstrap or local_bootstrap(), group_id=group, **usual | settings)
        self._progress = _Progress(self._consumer.assignment)
        self._consumer.subscribe([self._topic], listener=self._progress)

    def __iter__(self) -> Iterator[Prediction]:
        for record in self._consumer:
            partition = record.partition
            seen = self._progress.seen.get(partition)
            if seen is None:
                seen = self._resumed(partition)
            position = position_of(record.headers)
            self._progress.move(partition, max(seen, position), record.offset + 1)
            if position > seen:
                yield self._decoder.decode(record.value)

    def _resumed(self, partition: int) -> SourcePosition:
        """The newest source position that the group has committed for the partition."""
        if self._group is None:
            return NOTHING
        committed = self._consumer.committed(TopicPartition(self._topic, partition), metadata=True)
        return NOTHING if committed is None or not committed.metadata else parse_position(committed.metadata)

    def commit(self) -> None:
        """Say that everything yielded so far has been dealt with, of the partitions that are this reader's.

        Raises kafka.errors.CommitFailedError when the group has gone on without it: what it was given
        since the last commit is given to others.
        """
        if self._group is None:
            return
        offsets = {
            TopicPartition(self._topic, partition): OffsetAndMetadata(following, "{}:{}".format(*seen), -1)
            for partition, (seen, following) in self._progress.to_commit().items()
        }
        if offsets:
            self._consumer.commit(offsets)

    def close(self) -> None:
        """Commit and leave."""
        try:
            self.commit()
        finally:
            self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:  # what was yielded last has not been dealt with
            self._consumer.close()


class _Progress(ConsumerRebalanceListener):  # type: ignore[misc]
    """How far a reader has come in the partitions that the group has given it; told of changes on the
    client's own thread.

    A partition that is gone has nothing to commit any more: its next owner may be further. `assignment` says
    what the client has at this moment. A rebalance of the eager kind takes everything back first and then
    gives most of it again, read on from where it was: until it is over nothing of that is forgotten.
    """

    def __init__(self, assignment: Callable[[], Collection[TopicPartition]]) -> None:
        self._assignment = assignment
        self.seen: dict[int, SourcePosition] = {}
        self._following: dict[int, int] = {}
        self._leaving: set[int] = set()
        self._changing = Lock()

    def move(self, partition: int, seen: SourcePosition, following: int) -> None:
        """A record was read: the newest source position, and the offset after the record."""
        with self._changing:
            self.seen[partition] = seen
            self._following[partition] = following

    def to_commit(self) -> dict[int, tuple[SourcePosition, int]]:
        """Newest source position and next offset, by partition."""
        with self._changing:
            return {
                number: (self.seen[number], following)
                for number, following in self._following.items()
                if number not in self._leaving
            }

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """See kafka-python."""
        perhaps = set(self._assignment())
        with self._changing:
            self._leaving |= {tp.partition for tp in revoked if tp in perhaps}
            self._forget({tp.partition for tp in revoked if tp not in perhaps})

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """See kafka-python."""
        with self._changing:
            self._forget(self._leaving - {tp.partition for tp in assigned})
            self._leaving.clear()

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """See kafka-python."""
        with self._changing:
            self._forget({tp.partition for tp in lost})

    def _forget(self, partitions: set[int]) -> None:
        for number in partitions:
            self.seen.pop(number, None)
            self._following.pop(number, None)
