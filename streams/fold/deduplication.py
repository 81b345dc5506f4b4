"""The events accepted within a horizon of event time, by type and id, each with a hash of its content."""

from __future__ import annotations

import zlib
from itertools import chain, islice
from sys import getsizeof
from typing import Any, Literal, NamedTuple

import numpy as np

from driftline.features.state.event_time import NEVER
from driftline.object_size import SAMPLED, StateSize, size_of
from driftline.streams.declare.event_codec import as_written
from driftline.streams.declare.events import Event

Novelty = Literal["new", "duplicate", "other content"]

hashed = zlib.crc32
"""A 32-bit hash of an event's content. It guards against mistakes, not against forgery."""


def content_of(event: Event) -> int:
    """A 32-bit hash of an event's content: equal however a producer writes the event, and different for all
    but one in four thousand million other events."""
    return hashed(as_written(event))


class SeenEvents:
    """Accepted events, remembered for `horizon` seconds of event time.

    Each is kept as one complex number, the partition's time at that moment and the event's content: tuples
    would take three times the memory, and the garbage collector would walk through them.
    """

    __slots__ = ("_newer", "_older", "_turn", "horizon")

    def __init__(self, horizon: float) -> None:
        self.horizon = horizon
        self._newer: dict[str, dict[str, complex]] = {}
        self._older: dict[str, dict[str, complex]] = {}
        self._turn = NEVER

    def add(self, tag: str, event_id: str, content: int, now: float, at: float = NEVER) -> None:
        """Remember an accepted event at partition time `now`, or at its own, `at`, before time has begun."""
        if now - self._turn > self.horizon:
            self._older = self._newer
            self._newer = {}
            self._turn = now
        of_type = self._newer.get(tag)
        if of_type is None:
            of_type = self._newer[tag] = {}
        of_type[event_id] = complex(at if now == NEVER else now, content)

    def find(self, tag: str, event_id: str, content: int, now: float) -> Novelty:
        """Whether an event of this type and id was accepted within the horizon before `now`."""
        of_type = self._newer.get(tag)
        seen = None if of_type is None else of_type.get(event_id)
        if seen is None:
            of_type = self._older.get(tag)
            seen = None if of_type is None else of_type.get(event_id)
            if seen is None:
                return "new"
        if now - seen.real > self.horizon:
            return "new"
        return "duplicate" if seen.imag == content else "other content"

    def __len__(self) -> int:
        return sum(map(len, self._dicts()))

    def _dicts(self) -> list[dict[str, complex]]:
        return [*self._newer.values(), *self._older.values()]

    @property
    def size(self) -> StateSize:
        """How many there are, and how much memory each takes."""
        dicts = self._dicts()
        one = size_of(len(self), islice(chain.from_iterable(seen.items() for seen in dicts), SAMPLED))
        tables = sum(map(getsizeof, dicts)) / max(one.held, 1)
        return one._replace(bytes_each=one.bytes_each + tables)


class SeenColumns(NamedTuple):
    """Seen events of one type: their ids, the partition's time at each (float64), and the hashes of their
    contents (uint32)."""

    ids: list[str]
    times: bytes
    contents: bytes


def seen_columns(seen: SeenEvents) -> tuple[Any, ...]:
    """What `seen_again` makes seen events of: pickled one by one, they take ten times as long."""
    halves = (
        {tag: _columns(of_type) for tag, of_type in half.items()} for half in (seen._newer, seen._older)
    )
    return seen.horizon, seen._turn, *halves


def _columns(of_type: dict[str, complex]) -> SeenColumns:
    seen = np.fromiter(of_type.values(), np.complex128, len(of_type))
    return SeenColumns(list(of_type), seen.real.tobytes(), seen.imag.astype(np.uint32).tobytes())


def seen_again(
    horizon: float, turn: float, newer: dict[str, SeenColumns], older: dict[str, SeenColumns]
) -> SeenEvents:
    """Seen events from their columns."""
    seen = SeenEvents(horizon)
    seen._turn = turn
    for half, columns in ((seen._newer, newer), (seen._older, older)):
        for tag, (ids, times, contents) in columns.items():
            values = np.empty(len(ids), np.complex128)
            values.real, values.imag = np.frombuffer(times), np.frombuffer(contents, np.uint32)
            half[tag] = dict(zip(ids, values.tolist(), strict=True))
    return seen
