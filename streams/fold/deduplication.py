"""The events accepted within a horizon of event time, by type and id, each with a hash of its content.

The newest are in dicts. Where there are many, they are packed into segments of a store, and an index of ten
bytes an event finds them: most ids are new, and for those nothing is read. Ids are compared as they are, so
an answer does not depend on where an id is.

Layout of a segment, integers in the machine's order: how many events and how many blocks of them there are
(4 bytes each); the hashes of types and ids (as `stored_hashes` writes them); where each block ends, and its
checksum (4 each); the blocks, each a `_IdBlock` in MessagePack.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from sys import getsizeof
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from driftline.features.state.event_time import NEVER
from driftline.features.state.key_index import (
    MOST_ENTRIES,
    Hashes,
    IndexedLater,
    KeyIndex,
    hashes_of,
    read_hashes,
    stored_hashes,
    stored_size,
)
from driftline.features.state.segment_store import (
    IN_MEMORY,
    Pieces,
    SegmentBytes,
    SegmentStore,
    piece_columns,
)
from driftline.object_size import SAMPLED, StateSize, size_of
from driftline.streams.declare.event_codec import as_written
from driftline.streams.declare.events import Event

Novelty = Literal["new", "duplicate", "other content"]

hashed = zlib.crc32
"""A 32-bit hash of an event's content. It guards against mistakes, not against forgery."""

MOST_IN_DICTS = 4_096
"""Events above which those in dicts are packed, in some milliseconds."""
_BLOCK_BITS = 6
_BLOCK = 1 << _BLOCK_BITS
"""Events that are read together."""
_NUMBER_BITS = 16
"""A segment has at most two to the power of so many blocks."""
_BLOCKS = (1 << _NUMBER_BITS) - 1
_COUNT = 4


def content_of(event: Event) -> int:
    """A 32-bit hash of an event's content: equal however a producer writes the event, and different for all
    but one in four thousand million other events."""
    return hashed(as_written(event))


class _Seen(NamedTuple):
    """One remembered event: the partition's time when it was accepted, and the hash of its content."""

    tag: str
    event_id: str
    time: float
    content: int


class _IdBlock(NamedTuple):
    """Some events of a segment. `types` has the place in `tags` of each (uint32), `times` (float64) and
    `contents` (uint32) are as in `_Seen`."""

    tags: list[str]
    types: bytes
    ids: list[str]
    times: bytes
    contents: bytes

    @classmethod
    def of(cls, some: Sequence[_Seen]) -> _IdBlock:
        tags, ids, times, contents = zip(*some, strict=True)
        known = list(dict.fromkeys(tags))
        types = array("I", map(known.index, tags)).tobytes()
        return cls(known, types, list(ids), array("d", times).tobytes(), array("I", contents).tobytes())

    def find(self, tag: str, event_id: str) -> complex | None:
        for slot, (of_type, other) in enumerate(zip(array("I", self.types), self.ids, strict=True)):
            if other == event_id and self.tags[of_type] == tag:
                return complex(array("d", self.times)[slot], array("I", self.contents)[slot])
        return None

    def events(self) -> Iterator[_Seen]:
        rows = zip(
            array("I", self.types), self.ids, array("d", self.times), array("I", self.contents), strict=True
        )
        return (
            _Seen(self.tags[of_type], event_id, time, content) for of_type, event_id, time, content in rows
        )

    def hashes(self) -> Hashes:
        tags = hashes_of(self.tags)
        return tags[np.frombuffer(self.types, np.uint32)] ^ hashes_of(self.ids)


_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(_IdBlock).decode


class StoredIds(NamedTuple):
    """A segment in a snapshot: what its store needs to read it again, and the newest time in it."""

    content: Any
    newest: float


class _IdSegment:
    """Remembered events that are packed; `newest` is the newest time of them."""

    __slots__ = ("_content", "blocks", "count", "newest")

    def __init__(self, content: SegmentBytes, newest: float) -> None:
        head = content.read(0, 2 * _COUNT)
        self.count = int.from_bytes(head[:_COUNT], "little")
        blocks = int.from_bytes(head[_COUNT:], "little")
        self._content = content
        self.blocks = Pieces(content, 2 * _COUNT + stored_size(self.count), blocks)
        self.newest = newest

    @property
    def name(self) -> str:
        return self._content.name

    @property
    def stored(self) -> StoredIds:
        return StoredIds(self._content.stored, self.newest)

    def hashes(self) -> Hashes:
        hashes = read_hashes(self._content.read(2 * _COUNT, 2 * _COUNT + stored_size(self.count)))
        if hashes is None:
            return np.concatenate([_read(block).hashes() for block in self.blocks])
        return hashes


class _PackedEvents:
    """Segments of remembered events, and what finds them. `count` is how many events are in them."""

    def __init__(self, store: SegmentStore) -> None:
        self._store = store
        self._segments: dict[int, _IdSegment] = {}
        self._made = 0
        self._index = KeyIndex()
        self._share = store.share()
        self.count = 0

    def add(self, events: Sequence[_Seen]) -> None:
        """Pack events, at least one."""
        segment, hashes = self._packed(events)
        self._index.add(self._put(segment), hashes)
        if self._index.entries > MOST_ENTRIES * self.count:
            self._index.clean(len(events), self.count, self._is_gone)
        self._share.bytes = self._index.least

    def forget(self, tag: str, ids: Collection[str]) -> None:
        """Pack the segments anew that have events of this type with these ids."""
        segments, self._segments = list(self._segments.values()), {}
        self._index, self.count = KeyIndex(), 0
        found = IndexedLater(self._index)
        for segment in segments:
            events = [seen for block in segment.blocks for seen in _read(block).events()]
            kept = [seen for seen in events if seen.tag != tag or seen.event_id not in ids]
            if len(kept) == len(events):
                found.add(self._put(segment), segment.hashes())
            elif kept:
                fewer, hashes = self._packed(kept)
                found.add(self._put(fewer), hashes)
        found.finish()

    def _packed(self, events: Sequence[_Seen]) -> tuple[_IdSegment, Hashes]:
        blocks = [_IdBlock.of(some) for some in _cut(events)]
        hashes = np.concatenate([block.hashes() for block in blocks])
        parts = [_write(block) for block in blocks]
        counts = b"".join(number.to_bytes(_COUNT, "little") for number in (len(events), len(parts)))
        columns = stored_hashes(hashes, alike=True), piece_columns(parts)
        content = self._store.keep(b"".join((counts, *columns, *parts)), held=False)
        return _IdSegment(content, max(seen.time for seen in events)), hashes

    def _put(self, segment: _IdSegment) -> Hashes:
        """Add a segment, but for the index; returns the place of each of its events."""
        number = self._made
        self._made += 1
        self._segments[number] = segment
        self.count += segment.count
        return (number << _NUMBER_BITS) | (np.arange(segment.count) >> _BLOCK_BITS)

    def _is_gone(self, place: int) -> bool:
        return place >> _NUMBER_BITS not in self._segments

    def find(self, tag: str, event_id: str) -> complex | None:
        """Time and content of the newest event of this type and id."""
        for place in reversed(self._index.places(hash(tag) ^ hash(event_id))):
            segment = self._segments.get(place >> _NUMBER_BITS)
            if segment is not None:
                seen = _read(segment.blocks[place & _BLOCKS]).find(tag, event_id)
                if seen is not None:
                    return seen
        return None

    def drop(self, now: float, horizon: float) -> None:
        """Drop the oldest segments if all in them is older than the horizon."""
        while self._segments:
            number, segment = next(iter(self._segments.items()))
            if now - segment.newest <= horizon:
                return
            del self._segments[number]
            self.count -= segment.count

    @property
    def size(self) -> StateSize:
        """How many there are, and what each takes of memory, with the index, and on disk."""
        if not self.count:
            return StateSize(0, 0.0)
        segments = self._segments.values()
        memory = self._index.memory + sum(segment.blocks.memory for segment in segments)
        on_disk = sum(segment.blocks.size for segment in segments if segment.name)
        return StateSize(self.count, memory / self.count, on_disk / self.count)

    def names(self) -> list[str]:
        """The files that a snapshot refers to."""
        return [segment.name for segment in self._segments.values() if segment.name]

    def stored(self) -> list[StoredIds]:
        """What a snapshot holds of them."""
        return [segment.stored for segment in self._segments.values()]

    def blocks(self) -> tuple[tuple[bytes, ...], ...]:
        """All that is packed, by segment."""
        return tuple(tuple(segment.blocks) for segment in self._segments.values())

    def restore(self, segments: Sequence[StoredIds]) -> None:
        """Continue from what `stored` returned. Nothing is here yet."""
        found = IndexedLater(self._index)
        for content, newest in segments:
            segment = _IdSegment(self._store.again(content, held=False), newest)
            found.add(self._put(segment), segment.hashes())
        found.finish()
        self._share.bytes = self._index.least


class SeenEvents:
    """Accepted events, remembered for `horizon` seconds of event time; where there are many, in the `store`.

    Each that is not packed is kept as one complex number, the partition's time at that moment and the event's
    content: tuples would take three times the memory, and the garbage collector would walk through them.
    """

    __slots__ = ("_newer", "_older", "_packed", "_turn", "horizon")

    def __init__(self, horizon: float, store: SegmentStore = IN_MEMORY) -> None:
        self.horizon = horizon
        self._newer: dict[str, dict[str, complex]] = {}
        self._older: dict[str, dict[str, complex]] = {}  # all newer than what is packed
        self._turn = NEVER
        self._packed = _PackedEvents(store)

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

    def forget(self, tag: str, ids: Collection[str]) -> None:
        """Events of this type with these ids are new when they come again."""
        packed = {event_id for event_id in ids if self._packed.find(tag, event_id) is not None}
        for half in (self._newer, self._older):
            for event_id in ids:
                half.get(tag, {}).pop(event_id, None)
        if packed:
            self._packed.forget(tag, packed)

    def find(self, tag: str, event_id: str, content: int, now: float) -> Novelty:
        """Whether an event of this type and id was accepted within the horizon before `now`."""
        of_type = self._newer.get(tag)
        seen = None if of_type is None else of_type.get(event_id)
        if seen is None:
            of_type = self._older.get(tag)
            seen = None if of_type is None else of_type.get(event_id)
            if seen is None:
                seen = self._packed.find(tag, event_id) if self._packed.count else None
                if seen is None:
                    return "new"
        if now - seen.real > self.horizon:
            return "new"
        return "duplicate" if seen.imag == content else "other content"

    def retain(self, now: float) -> None:
        """Forget what nobody asks for from `now` on; pack what is in dicts if that is much. Called after so
        many records, so that a state depends on these alone."""
        if self._packed.count:
            self._packed.drop(now, self.horizon)
        if sum(map(len, self._newer.values())) >= MOST_IN_DICTS:
            events = self._remembered(now)
            self._newer, self._older = {}, {}
            if events:
                self._packed.add(events)

    def _remembered(self, now: float) -> list[_Seen]:
        """What the dicts have of the horizon before `now`, each event once."""
        seen: dict[tuple[str, str], complex] = {}
        for tag, of_type in chain(self._older.items(), self._newer.items()):
            seen.update(((tag, event_id), one) for event_id, one in of_type.items())
        return [
            _Seen(*key, one.real, int(one.imag))
            for key, one in seen.items()
            if now - one.real <= self.horizon
        ]

    def __len__(self) -> int:
        return self._in_dicts + self._packed.count

    @property
    def _in_dicts(self) -> int:
        return sum(map(len, self._dicts()))

    def _dicts(self) -> list[dict[str, complex]]:
        return [*self._newer.values(), *self._older.values()]

    @property
    def size(self) -> StateSize:
        """How many are not packed, and how much memory each takes."""
        one = size_of(self._in_dicts, islice(self._items(), SAMPLED))
        tables = sum(map(getsizeof, self._dicts())) / max(one.held, 1)
        return one._replace(bytes_each=one.bytes_each + tables)

    def _items(self) -> Iterator[tuple[str, complex]]:
        return chain.from_iterable(of_type.items() for of_type in self._dicts())

    @property
    def packed_size(self) -> StateSize:
        """How many are packed, and how much each takes of memory and on disk."""
        return self._packed.size

    def packed_bytes(self) -> float:
        """Bytes of an event in a segment, by a sample of those that are not packed; 0 if there is none."""
        some = [_Seen("", name, one.real, int(one.imag)) for name, one in islice(self._items(), _BLOCK)]
        return (len(_write(_IdBlock.of(some))) + stored_size(len(some))) / len(some) if some else 0.0

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return self._packed.names()

    def stored(self) -> StoredEvents:
        """What a snapshot holds: columns, as one by one they take ten times as long."""
        newer, older = (
            {tag: _columns(of_type) for tag, of_type in half.items()} for half in (self._newer, self._older)
        )
        return StoredEvents(self.horizon, self._turn, newer, older, self._packed.stored())

    @classmethod
    def again(cls, state: SeenEvents | StoredEvents, store: SegmentStore) -> SeenEvents:
        """Seen events as they were, with their segments in a `store`."""
        stored = state.stored() if isinstance(state, SeenEvents) else state
        seen = cls(stored.horizon, store)
        seen._turn = stored.turn
        seen._newer = {tag: _from_columns(columns) for tag, columns in stored.newer.items()}
        seen._older = {tag: _from_columns(columns) for tag, columns in stored.older.items()}
        seen._packed.restore(stored.segments)
        return seen

    def __reduce__(self) -> tuple[Any, ...]:
        """What its state is, wherever the packed events are."""
        return tuple, ((self.horizon, self._turn, self._newer, self._older, self._packed.blocks()),)


class SeenColumns(NamedTuple):
    """Seen events of one type: their ids, the partition's time at each (float64), and the hashes of their
    contents (uint32)."""

    ids: list[str]
    times: bytes
    contents: bytes


class StoredEvents(NamedTuple):
    """Seen events in a snapshot: those in dicts, by type, and the segments of the others."""

    horizon: float
    turn: float
    newer: dict[str, SeenColumns]
    older: dict[str, SeenColumns]
    segments: list[StoredIds]


def _columns(of_type: dict[str, complex]) -> SeenColumns:
    seen = np.fromiter(of_type.values(), np.complex128, len(of_type))
    return SeenColumns(list(of_type), seen.real.tobytes(), seen.imag.astype(np.uint32).tobytes())


def _from_columns(columns: SeenColumns) -> dict[str, complex]:
    ids, times, contents = columns
    values = np.empty(len(ids), np.complex128)
    values.real, values.imag = np.frombuffer(times), np.frombuffer(contents, np.uint32)
    return dict(zip(ids, values.tolist(), strict=True))


def _cut(events: Sequence[_Seen]) -> Iterator[Sequence[_Seen]]:
    """A block of events at a time."""
    return (events[begin : begin + _BLOCK] for begin in range(0, len(events), _BLOCK))
