"""Where the bytes of segments are: in memory, or where the fold's caller keeps them. A segment never changes,
so reading it gives what was kept, and the fold stays a function of its records.
"""

from __future__ import annotations

from typing import Any, Protocol


class SegmentBytes(Protocol):
    """The bytes of one segment."""

    @property
    def name(self) -> str:
        """The file that has them; empty if a snapshot holds them itself."""
        ...

    @property
    def stored(self) -> Any:
        """What a snapshot holds, so that `SegmentStore.again` finds them."""
        ...

    @property
    def memory(self) -> int:
        """How many of them are in memory."""
        ...

    def read(self, begin: int, end: int) -> bytes:
        """A part of them."""
        ...


class SegmentStore(Protocol):
    """Keeps the bytes of segments while they are in use, or a checkpoint names them."""

    def keep(self, content: bytes) -> SegmentBytes:
        """Keep these bytes."""
        ...

    def again(self, stored: Any) -> SegmentBytes:
        """The bytes that a snapshot holds or names."""
        ...


class _Held:
    __slots__ = ("stored",)

    name = ""

    def __init__(self, content: bytes) -> None:
        self.stored = content

    @property
    def memory(self) -> int:
        return len(self.stored)

    def read(self, begin: int, end: int) -> bytes:
        return self.stored[begin:end]


class MemoryStore:
    """Keeps segments in memory."""

    def keep(self, content: bytes) -> SegmentBytes:
        """See `SegmentStore`."""
        return _Held(content)

    def again(self, stored: Any) -> SegmentBytes:
        """See `SegmentStore`."""
        return _Held(stored)


IN_MEMORY = MemoryStore()
