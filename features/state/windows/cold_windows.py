"""Windows of keys that had no event lately, in pages of a store instead of memory.

A page is an immutable segment of windows, each packed and read alone; one that is taken out is marked. An
index of ten bytes a window finds a key's place. A page goes when nothing in it can be read any more: all is
expired, or taken out. One of which little is left is packed again with others.

Layout of a page, integers in the machine's order: how many windows there are (4 bytes); where each ends (4
each), counted from where the first begins; the windows, each a pickle of its key and its attributes, arrays
by their bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pickle import loads
from sys import getsizeof
from typing import Any, NamedTuple

from driftline.features.state.event_time import NEVER
from driftline.features.state.key_index import MOST_ENTRIES, KeyIndex
from driftline.features.state.segment_store import PiecePickler, Pieces, SegmentBytes, SegmentStore, ends_of
from driftline.features.state.windows.window import EventWindow
from driftline.features.state.windows.window_columns import attributes_of
from driftline.object_size import StateSize

PAGE_BITS = 11
PAGE = 1 << PAGE_BITS
"""Windows packed at a time, which takes some milliseconds."""
WORN = 4
"""A page is packed again with others when a part in so many of its windows is left."""
_COUNT = 4
_END = 4


class StoredPage(NamedTuple):
    """A page in a snapshot: what its store needs to read it again, a byte for each window, 1 if it was taken
    out, and the time of the newest event in it."""

    content: Any
    taken: bytes
    newest: float


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
    """`left` windows are in it still; the newest of their events is at `newest`."""

    __slots__ = ("_content", "left", "newest", "pieces", "taken")

    def __init__(self, content: SegmentBytes, newest: float, taken: bytes = b"") -> None:
        count = int.from_bytes(content.read(0, _COUNT), "little")
        begin = _COUNT + count * _END
        self._content = content
        self.pieces = Pieces(content, begin, array("I", content.read(_COUNT, begin)))
        self.newest = newest
        self.taken = bytearray(taken or count)
        self.left = self.taken.count(0)

    @property
    def name(self) -> str:
        return self._content.name

    @property
    def stored(self) -> StoredPage:
        return StoredPage(self._content.stored, bytes(self.taken), self.newest)

    @property
    def memory(self) -> int:
        return self.pieces.memory + getsizeof(self.taken)

    def rest(self) -> Iterator[tuple[int, bytes]]:
        """Slot and bytes of each window that is left; they are read at once."""
        return ((slot, piece) for slot, piece in enumerate(self.pieces) if not self.taken[slot])


class ColdWindows:
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
        keys, parts, newest = [], [], NEVER
        for key, window in windows:
            keys.append(key)
            parts.append(self._packing.pack(key, window))
            newest = max(newest, window.ats[-1])
        self._write(keys, parts, newest)

    def _write(self, keys: list[Any], parts: list[bytes], newest: float) -> None:
        content = b"".join((len(parts).to_bytes(_COUNT, "little"), ends_of(parts).tobytes(), *parts))
        self._add(_Page(self._store.keep(content), newest), enumerate(keys))
        if self._index.entries > MOST_ENTRIES * self._count:
            self._index.clean(len(parts), self._count, self._is_gone)

    def _add(self, page: _Page, keys: Iterable[tuple[int, Any]]) -> None:
        number = self._made
        self._made += 1
        self._pages[number] = page
        self._count += page.left
        begin = number << PAGE_BITS
        self._index.add((begin | slot, key) for slot, key in keys)

    def _is_gone(self, place: int) -> bool:
        page = self._pages.get(place >> PAGE_BITS)
        return page is None or bool(page.taken[place & PAGE - 1])

    def _find(self, key: Any) -> tuple[int, int, EventWindow] | None:
        """The number of the page with a key's window, the slot there, and the window."""
        for place in self._index.places(key):
            if not self._is_gone(place):
                number, slot = place >> PAGE_BITS, place & PAGE - 1
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
        page = self._pages[number]
        page.taken[slot] = 1
        page.left -= 1
        self._count -= 1
        if not page.left:
            del self._pages[number]
        return window

    def items(self) -> Iterator[tuple[Any, EventWindow]]:
        """A copy of each key and its window."""
        for page in list(self._pages.values()):
            for _, packed in page.rest():
                yield self._packing.unpack(packed)

    def tidy(self, bound: float) -> None:
        """Drop the pages without an event after `bound`, and pack again those of which little is left."""
        worn = []
        for number, page in list(self._pages.items()):
            if page.newest <= bound or page.left * WORN < len(page.pieces):
                del self._pages[number]
                self._count -= page.left
                if page.newest > bound:
                    worn.append(page)
        keys: list[Any] = []
        parts: list[bytes] = []
        for page in worn:
            for _, packed in page.rest():
                keys.append(self._packing.key(packed))
                parts.append(packed)
        newest = max((page.newest for page in worn), default=NEVER)
        for begin in range(0, len(parts), PAGE):
            self._write(keys[begin : begin + PAGE], parts[begin : begin + PAGE], newest)

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
        key = self._packing.key
        for content, taken, newest in pages:
            page = _Page(self._store.again(content), newest, taken)
            self._add(page, ((slot, key(packed)) for slot, packed in page.rest()))
