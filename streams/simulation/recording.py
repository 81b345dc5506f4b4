"""The log of a live case outside Kafka: its records, with the partitions and append times they had there.

A live case is folded by append times, and its workers send clock events to single partitions. Events alone
show neither.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

from driftline.streams.declare.events import Event
from driftline.streams.declare.retirement import EventDecoder


class Recorded(NamedTuple):
    """An event as the log had it; `appended` is its append time in ms since the epoch."""

    partition: int
    appended: int
    event: Event


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    partition: Annotated[int, msgspec.Meta(ge=0)]
    appended: Annotated[int, msgspec.Meta(ge=0)]
    event: msgspec.Raw


def as_line(partition: int, appended: int, event: bytes) -> bytes:
    """{partition, appended, event} in JSON, of an event in JSON."""
    return msgspec.json.encode(_Line(partition, appended, msgspec.Raw(event)))


class LineDecoder:
    """Decodes lines of a source: events, and events as a log had them. No line can be both: every event names
    its type, and a line of a log none."""

    def __init__(self, events: EventDecoder[Event]) -> None:
        self._events = events
        self._lines = msgspec.json.Decoder(_Line)

    def decode(self, line: bytes) -> Event | Recorded:
        """Raises msgspec.MsgspecError, which says what is wrong with the event."""
        try:
            return self._events.decode(line)
        except msgspec.ValidationError:
            try:
                decoded = self._lines.decode(line)
            except msgspec.ValidationError:
                decoded = None
            if decoded is None:
                raise
        return Recorded(decoded.partition, decoded.appended, self._events.decode(bytes(decoded.event)))
