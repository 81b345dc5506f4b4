"""The producer of a case's events. Needs kafka-python and msgspec only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from driftline.declaration_check import shown
from driftline.streams.clients.arguments import check_client
from driftline.streams.clients.defaults import default_bootstrap, default_namespace
from driftline.streams.connection import clients
from driftline.streams.declare.events import Event
from driftline.streams.errors import DeclarationError, StreamsError

if TYPE_CHECKING:
    from driftline.streams.declare.usecase import UseCase

Headers = Sequence[tuple[str, bytes]]
LOOKS_EVERY = 1.0
"""Seconds between checks for failed events while `flush` waits."""
_SERIALIZED = "events are written as the JSON that workers read"
_PRODUCERS_OWN = {
    "bootstrap_servers": "pass bootstrap=",
    "key_serializer": _SERIALIZED,
    "value_serializer": _SERIALIZED,
}


class Undelivered(StreamsError):
    """Events that Kafka did not acknowledge in time. `events` are their ids, in the order of the failures.

    They may or may not be in the log. Sending them again with the same ids is safe, as repeats are dropped.
    All other events that were sent before are acknowledged.

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
    """Sends events to the log of a case. Events are checked first, and sent idempotently to their partition.

    References and clock events go to every partition. `send` raises `driftline.Refused` for a malformed
    event. Events that the broker does not acknowledge, within 120 s by default (`delivery_timeout_ms`), are
    reported by `driftline.Undelivered` at the next `send`, `flush` or `close`.

    Parameters
    ----------
    case
        The case.
    bootstrap
        The address of Kafka as "host:port"; by default DRIFTLINE_BOOTSTRAP, or the local stack.
    namespace
        The namespace of the case's topics; by default that of the settings.
    on_sent
        Called as `on_sent(partition, offset)`, on another thread, with the position of each record in the
        log. The dead letter of a refused record has that position.
    settings
        Further settings of kafka-python's KafkaProducer.

    Raises NoBroker if there is no address, and NotLetIn if the broker refuses the client.

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
        case = case.writing
        self._codec = case.codec()
        self._partitions = case.partitions
        self._topic = case.topics(default_namespace() if namespace is None else namespace).log
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
        self._bootstrap = bootstrap or default_bootstrap()
        self._producer: KafkaProducer | None = clients.producer(self._bootstrap, **self._settings)

    def send(self, event: Event, headers: Headers = ()) -> None:
        """Queue one event; if this raises `Undelivered`, the event is among those that the error names.

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
        """Report the events that failed, those still on their way, and `unsent`, which is not sent because of
        them."""
        if not self._failures:
            return
        # once a batch has expired, kafka-python's producer may never send to that partition again
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

        Raises KafkaTimeoutError when that takes longer than `timeout` seconds: the events are still on their
        way.
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
