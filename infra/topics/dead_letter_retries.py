"""Retries of dead letters: the record that is sent for each, and the letters that cannot be accepted."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from driftline.infra.topics.dead_letters import DeadLetter
from driftline.streams.archive.log_reader import SHORT_SILENCE, LogReader
from driftline.streams.clients.producer import EventProducer
from driftline.streams.declare.events import SYSTEM_EVENTS, Event
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.retirement import EventDecoder
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused

FOLDED_ANEW = (
    "the code that serves has folded the record anew when it took over, and accepted it: a repeat is dropped"
)
REPEATED = "the code that serves still knows the request, and drops a repeat: send it under an id of its own"
RETRY_OF = "retry-of"
"""Header of an event that was sent again: partition:offset of its dead letter."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The record that is sent for a letter, and its place; or, with `problem`, why none is sent."""

    letter: DeadLetter
    partition: int = -1
    key: bytes | None = None
    value: bytes = b""
    problem: str = ""

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        fields: dict[str, Any] = {"id": str(self.letter.id), "stage": self.letter.stage}
        return fields | ({"problem": self.problem} if self.problem else {"partition": self.partition})


@dataclass(slots=True)
class Retries:
    """Plans the retries. Needs the broker only for letters that were cut.

    `taken_over` is, by partition of the log, the offset from which on the code that serves took records in as
    they came: those before it has folded anew when it took over from other code. Of these, the requests that
    the other code had refused are new when they come again; in a chain those that are `unanswered`, by id.
    """

    case: UseCase
    bootstrap: str
    topics: Topics
    taken_over: Mapping[int, int] = field(default_factory=dict)
    unanswered: Container[str] = ()
    _decoder: EventDecoder[Event] = field(init=False)

    def __post_init__(self) -> None:
        self._decoder = EventDecoder((*self.case.events, *SYSTEM_EVENTS))

    def plan(self, letter: DeadLetter) -> Retry:
        """The record to send for a letter. Its bytes are the refused ones; its key and partition are those
        that the event should have had. What the declaration refuses now is not sent."""
        if letter.final:
            return Retry(letter, problem=letter.final)
        try:
            value = self._whole_value(letter)
            event = self._decoder.decode(value)
            codec = self.case.codec()
            if isinstance(event, SYSTEM_EVENTS):
                return Retry(
                    letter, problem="it is an event of driftline itself: only its commands send those"
                )
            key = codec.key(event)
            codec.decode(value, key)
        except Refused as refused:
            return Retry(letter, problem=f"it is still refused: {refused}")
        except ValueError as error:
            return Retry(letter, problem=f"it is still refused: {error}")
        if self._is_folded_anew(letter, value):
            if not isinstance(event, self.case.task.ask):
                return Retry(letter, problem=FOLDED_ANEW)
            if self.topics.behind and event.id not in self.unanswered:
                return Retry(letter, problem=REPEATED)
        # an event for every partition was refused by one of them
        partition = letter.id.partition if key is None else partition_of(key, self.case.partitions)
        return Retry(letter, partition, key, value)

    def _is_folded_anew(self, letter: DeadLetter, value: bytes) -> bool:
        """Whether code that took over since has accepted the record itself, at its place in the log, or has
        refused it again for a reason that is still there."""
        assert letter.source is not None  # else the letter is final
        if letter.source >= self.taken_over.get(letter.id.partition, 0) or letter.stage == "time":
            return False
        try:
            self.case.codec().decode(value, letter.key)
        except Refused:
            return False
        return letter.key is None or partition_of(letter.key, self.case.partitions) == letter.id.partition

    def _whole_value(self, letter: DeadLetter) -> bytes:
        if not letter.is_cut:
            return letter.value
        if letter.whole_length > self.case.max_event_bytes:
            raise ValueError(
                f"{letter.whole_length:,} bytes exceed the case's limit of {self.case.max_event_bytes:,}"
            )
        assert letter.source is not None  # else the letter is final
        with LogReader(self.bootstrap, silence=SHORT_SILENCE) as reader:
            chunks = reader.chunks(self.topics.log, letter.id.partition, letter.source, letter.source + 1)
            for record in (record for chunk in chunks for record in chunk):
                value = record.value or b""
                if hashlib.sha256(value).hexdigest() == letter.whole_sha256:
                    return value
        raise ValueError(f"the letter was cut, and {self.topics.log} no longer has the whole record")


def send_retries(producer: EventProducer, retries: Iterable[Retry]) -> int:
    """Append the planned records to the log, each with a header that names its letter; how many."""
    count = 0
    for retry in retries:
        header = (RETRY_OF, str(retry.letter.id).encode())
        producer.place(retry.partition, retry.key, retry.value, (header,))
        count += 1
    return count
