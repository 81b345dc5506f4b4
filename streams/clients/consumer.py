"""The consumer of a case's predictions. Needs kafka-python and msgspec only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from math import inf
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from driftline.declaration_check import AT_LEAST_0, NOT_EMPTY, Duration, MaybeSeconds, seconds
from driftline.streams.clients.arguments import check_client
from driftline.streams.clients.defaults import default_bootstrap, default_namespace
from driftline.streams.connection import clients
from driftline.streams.errors import DeclarationError
from driftline.streams.records.messages import Prediction
from driftline.streams.records.positions import NOTHING, SourcePosition, parse_position, position_of

if TYPE_CHECKING:
    from driftline.streams.declare.usecase import UseCase

_TYPED = "predictions are read as typed objects"
_CONSUMERS_OWN = {
    "bootstrap_servers": "pass bootstrap=",
    "group_id": "pass group=",
    "consumer_timeout_ms": "pass timeout=, in seconds",
    "enable_auto_commit": "call commit(), which keeps the source position too",
    "isolation_level": "what was rolled back is no prediction",
    "key_deserializer": _TYPED,
    "value_deserializer": _TYPED,
}


class PredictionConsumer:
    """Iterates over the predictions of a case, typed and without repeats.

    A prediction has `id`, `event_id`, `at`, `keys`, `prediction`, `probabilities` or `interval`, `features`
    and `model`.

    Parameters
    ----------
    case
        The case.
    bootstrap
        The address of Kafka as "host:port"; by default DRIFTLINE_BOOTSTRAP, or the local stack.
    group
        A consumer group that commits positions: iteration resumes where the group stopped, without repeats
        across restarts and rebalances. Predictions that were yielded after the last commit are yielded again.
        None: all predictions are read from the beginning, and nothing is committed.
    namespace
        The namespace of the case's topics; by default that of the settings.
    timeout
        Iteration ends after so many seconds (or a timedelta) without a record; None: never.
    settings
        Further settings of kafka-python's KafkaConsumer.

    Raises NoBroker if there is no address, and NotLetIn if the broker refuses the client.

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
        self._topic = case.topics(default_namespace() if namespace is None else namespace).predictions
        ends_after = inf if timeout is None else seconds(timeout, "timeout", DeclarationError)
        self._group = group
        self._decoder = msgspec.json.Decoder(Prediction)
        usual: dict[str, Any] = {
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "consumer_timeout_ms": ends_after * 1000,
        }
        self._consumer = clients.consumer(
            bootstrap or default_bootstrap(), group_id=group, **usual | settings
        )
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
        """The newest source position that the group has committed for a partition."""
        if self._group is None:
            return NOTHING
        committed = self._consumer.committed(TopicPartition(self._topic, partition), metadata=True)
        return NOTHING if committed is None or not committed.metadata else parse_position(committed.metadata)

    def commit(self) -> None:
        """Commit everything yielded so far, for the partitions that this consumer still has.

        Raises kafka.errors.CommitFailedError when the group has continued without this consumer: others
        get the records that it was given since the last commit.
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
        """Commit, and leave the group."""
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
        else:  # the prediction yielded last was not processed
            self._consumer.close()


class _Progress(ConsumerRebalanceListener):  # type: ignore[misc]
    """The progress of a consumer in the partitions that the group has assigned to it. The client reports
    changes on its own thread.

    Nothing is committed for a partition that was revoked: its next consumer may be further. `assignment`
    returns what the client has at this moment. An eager rebalance revokes every partition first and then
    assigns most of them again, at the same position: so nothing is forgotten before the rebalance is over.
    """

    def __init__(self, assignment: Callable[[], Collection[TopicPartition]]) -> None:
        self._assignment = assignment
        self.seen: dict[int, SourcePosition] = {}
        self._following: dict[int, int] = {}
        self._leaving: set[int] = set()
        self._changing = Lock()

    def move(self, partition: int, seen: SourcePosition, following: int) -> None:
        """Note a record that was read: its source position, and the offset after the record."""
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
