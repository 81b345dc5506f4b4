"""Windows of keys that had no event lately, in pages of a store: a copy of each, which may be in memory too.

A page is an immutable segment of windows, each packed and read alone; one that is taken out, as its key has
an event, is marked. An index of ten bytes a window finds a key's place. A page goes when nothing in it can be
read any more: all is expired, or taken out. Pages of which little is left are packed again, several in one.

Layout of a page, integers in the machine's order: how many windows there are (4 bytes); the time of the
newest event in them (8, a float); the hashes of their keys (as `stored_hashes` writes them); where each ends,
counted from where the first begins, and its checksum (4 each); the windows, each a pickle of its key and its
attributes, arrays by their bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pickle import loads
from struct import Struct
from sys import getsizeof
from typing import Any, NamedTuple

import numpy as np

from driftline.features.state.event_time import NEVER
from driftline.features.state.key_index import (
    MOST_ENTRIES,
    Hashes,
    IndexedLater,
    KeyIndex,
    are_hashed_alike,
    hashes_left,
    hashes_of,
    stored_hashes,
    stored_size,
)
from driftline.features.state.segment_store import (
    KNOWN_OF_PIECE,
    PiecePickler,
    Pieces,
    SegmentBytes,
    SegmentStore,
    piece_columns,
)
from driftline.features.state.windows.window import EventWindow
from driftline.features.state.windows.window_columns import attributes_of
from driftline.object_size import StateSize

SLOT_BITS = 11
"""A page has at most two to the power of so many windows."""
PAGE = 1 << 10
"""Windows packed at a time, which takes some milliseconds."""
WORN = 4
"""So many pages are packed again, in one, when each has fewer windows left than such a part of one."""
_SLOTS = (1 << SLOT_BITS) - 1
_HEAD = Struct("<Id")


class StoredPage(NamedTuple):
    """A page in a snapshot: what its store needs to read it again, and a byte for each window, 1 if it was
    taken out."""

    content: Any
    taken: bytes


class WindowPacking:
    """Packs windows like an `empty` one with their keys, and unpacks them."""

    def __init__(self, empty: EventWindow) -> None:
        self._kind = type(empty)
        self._attributes = tuple((name, getattr(empty, name)) for name in attributes_of(empty))
        self._pickler = PiecePickler()

    def pack(self, key: Any, window: EventWindow) -> bytes:
        """The bytes of a key and its window."""
        values = [key]
        for name, _ in self._attributes:
            value = getattr(window, name)
            values.append(value.tobytes() if isinstance(value, array) else value)
        return self._pickler.pickled(values)

    @staticmethod
    def key(packed: bytes) -> Any:
        """The key in bytes that `pack` made."""
        return loads(packed)[0]

    def unpack(self, packed: bytes) -> tuple[Any, EventWindow]:
        """The key and its window in bytes that `pack` made."""
        key, *values = loads(packed)
        window = self._kind.__new__(self._kind)
        for (name, example), value in zip(self._attributes, values, strict=True):
            is_array = value.__class__ is bytes
            setattr(window, name, array(example.typecode, value) if is_array else value)
        return key, window


class _Page:
    """`left` windows are in it still; none of their events is newer than `newest`."""

    __slots__ = ("_content", "left", "newest", "pieces", "taken")

    def __init__(self, content: SegmentBytes, taken: bytes | bytearray = b"") -> None:
        count, self.newest = _HEAD.unpack(content.read(0, _HEAD.size))
        self._content = content
        self.pieces = Pieces(content, _HEAD.size + stored_size(count), count)
        self.taken = bytearray(taken or count)
        self.left = self.taken.count(0)

    @property
    def name(self) -> str:
        return self._content.name

    @property
    def stored(self) -> StoredPage:
        return StoredPage(self._content.stored, bytes(self.taken))

    @property
    def memory(self) -> int:
        return self.pieces.memory + getsizeof(self.taken)

    def rest(self) -> Iterator[tuple[int, bytes]]:
        """Slot and bytes of each window that is left; they are read at once."""
        return ((slot, piece) for slot, piece in enumerate(self.pieces) if not self.taken[slot])

    def hashed(self) -> tuple[Hashes, Hashes]:
        """The slots of the windows that are left, and the hashes of their keys."""
        stored = self._content.read(_HEAD.size, _HEAD.size + stored_size(len(self.taken)))
        return hashes_left(
            self.taken, stored, lambda: (WindowPacking.key(packed) for _, packed in self.rest())
        )


class WindowPages:
    """Packed windows of one table, by key. Raises StateUnreadable where a page is not what was written."""

    def __init__(self, packing: WindowPacking, store: SegmentStore) -> None:
        self._packing = packing
        self._store = store
        self._pages: dict[int, _Page] = {}
        self._made = 0
        self._count = 0
        self._index = KeyIndex()

    def __len__(self) -> int:
        return self._count

    def put(self, windows: Iterable[tuple[Any, EventWindow]]) -> None:
        """Pack windows, at most `PAGE`, whose keys have none here; each has an event."""
        self._write(*self._packed(windows))

    def apart(self, windows: Iterable[tuple[Any, EventWindow]]) -> tuple[str, StoredPage]:
        """Pack such windows into a page that is not among those here: its file, empty if it could not be
        written, and what a snapshot holds of it."""
        keys, parts, newest = self._packed(windows)
        content = self._keep(keys, parts, newest)
        return content.name, StoredPage(content.stored, bytes(len(keys)))

    def add(self, name: str, keys: list[Any], windows: dict[Any, EventWindow]) -> None:
        """Add a page that `apart` has written of windows with these keys, of which the `windows` are left."""
        left = [(slot, key) for slot, key in enumerate(keys) if key in windows]
        if left:
            taken = bytearray(b"\1" * len(keys))
            for slot, _ in left:
                taken[slot] = 0
            slots, left_keys = zip(*left, strict=True)
            page = _Page(self._store.again(name, held=False), taken)
            self._add(page, np.array(slots), hashes_of(left_keys))

    def _packed(self, windows: Iterable[tuple[Any, EventWindow]]) -> tuple[list[Any], list[bytes], float]:
        """Keys, packed windows, and the time of the newest event."""
        keys, parts, newest = [], [], NEVER
        for key, window in windows:
            keys.append(key)
            parts.append(self._packing.pack(key, window))
            newest = max(newest, window.ats[-1])
        return keys, parts, newest

    def _write(self, keys: list[Any], parts: list[bytes], newest: float) -> None:
        page = _Page(self._keep(keys, parts, newest))
        self._add(page, np.arange(len(keys)), hashes_of(keys))

    def _keep(self, keys: list[Any], parts: list[bytes], newest: float) -> SegmentBytes:
        hashes = stored_hashes(hashes_of(keys), alike=are_hashed_alike(keys))
        head = _HEAD.pack(len(parts), newest)
        return self._store.keep(b"".join((head, hashes, piece_columns(parts), *parts)))

    def _add(self, page: _Page, slots: Hashes, hashes: Hashes) -> None:
        self._index.add(self._put(page) | slots, hashes)
        if self._index.entries > MOST_ENTRIES * self._count:
            self._index.clean(page.left, self._count, self._is_gone)

    def _put(self, page: _Page) -> int:
        """Add a page, but for the index; returns where its places begin."""
        number = self._made
        self._made += 1
        self._pages[number] = page
        self._count += page.left
        return number << SLOT_BITS

    def _is_gone(self, place: int) -> bool:
        page = self._pages.get(place >> SLOT_BITS)
        return page is None or bool(page.taken[place & _SLOTS])

    def _find(self, key: Any) -> tuple[int, int, EventWindow] | None:
        """The number of the page with a key's window, the slot there, and the window."""
        for place in self._index.places(hash(key)):
            if not self._is_gone(place):
                number, slot = place >> SLOT_BITS, place & _SLOTS
                found, window = self._packing.unpack(self._pages[number].pieces[slot])
                if found == key:
                    return number, slot, window
        return None

    def peek(self, key: Any) -> EventWindow | None:
        """A copy of a key's window; None if there is none here."""
        found = self._find(key)
        return None if found is None else found[2]

    def take(self, key: Any) -> EventWindow | None:
        """Take a key's window out; None if there is none here."""
        found = self._find(key)
        if found is None:
            return None
        number, slot, window = found
        self._take(number, slot)
        return window

    def forget(self, key: Any) -> None:
        """Take out the window of a key that has one here. It is read only if others may be this key's."""
        places = [place for place in self._index.places(hash(key)) if not self._is_gone(place)]
        if len(places) > 1:
            self.take(key)
        else:
            self._take(places[0] >> SLOT_BITS, places[0] & _SLOTS)

    def _take(self, number: int, slot: int) -> None:
        page = self._pages[number]
        page.taken[slot] = 1
        page.left -= 1
        self._count -= 1
        if not page.left:
            del self._pages[number]

    def items(self) -> Iterator[tuple[Any, EventWindow]]:
        """A copy of each key and its window."""
        for page in list(self._pages.values()):
            for _, packed in page.rest():
                yield self._packing.unpack(packed)

    def ahead(self) -> Iterator[tuple[Any, EventWindow]]:
        """A copy of each key and its window, those of the newest pages first; what is taken out before its
        turn comes is left out."""
        for number, page in sorted(self._pages.items(), reverse=True):
            for _, packed in page.rest():
                if number not in self._pages:
                    break
                yield self._packing.unpack(packed)

    def drop_expired(self, bound: float) -> list[Any]:
        """Drop a page without an event after `bound`, if there is one; returns the keys that were in it."""
        number = next((number for number, page in self._pages.items() if page.newest <= bound), None)
        if number is None:
            return []
        page = self._pages.pop(number)
        self._count -= page.left
        return self._rest_of([page])[0]

    def pack_worn(self) -> None:
        """Pack again the pages of which little is left, if there are enough of them for one."""
        worn = (n for n, page in self._pages.items() if page.left * WORN < PAGE)
        numbers = list(islice(worn, WORN))
        if len(numbers) == WORN:
            pages = [self._pages.pop(number) for number in numbers]
            self._count -= sum(page.left for page in pages)
            keys, parts = self._rest_of(pages)
            self._write(keys, parts, max(page.newest for page in pages))

    def _rest_of(self, pages: Iterable[_Page]) -> tuple[list[Any], list[bytes]]:
        """The keys in pages, and their packed windows."""
        parts = [packed for page in pages for _, packed in page.rest()]
        return [self._packing.key(packed) for packed in parts], parts

    @property
    def least(self) -> int:
        """Bytes of memory that they take, without the buckets of the index: known at once."""
        return self._index.least + KNOWN_OF_PIECE * self._count

    @property
    def size(self) -> StateSize:
        """How many there are, and how much each takes of memory, with the index, and on disk, with those that
        were taken out of its page."""
        pages, count = self._pages.values(), self._count
        if not count:
            return StateSize(0, 0.0)
        memory = self._index.memory + sum(page.memory for page in pages)
        on_disk = sum(page.pieces.size for page in pages if page.name)
        return StateSize(count, memory / count, on_disk / count)

    def names(self) -> list[str]:
        """The files that a snapshot refers to."""
        return [page.name for page in self._pages.values() if page.name]

    def stored(self) -> list[StoredPage]:
        """What a snapshot holds of the pages."""
        return [page.stored for page in self._pages.values()]

    def restore(self, pages: Iterable[StoredPage]) -> None:
        """Continue from what `stored` returned, and from nothing else."""
        self._pages, self._count, self._index = {}, 0, KeyIndex()
        found = IndexedLater(self._index)
        for content, taken in pages:
            page = _Page(self._store.again(content), taken)
            begin = self._put(page)
            slots, hashes = page.hashed()
            found.add(begin | slots, hashes)
        found.finish()
