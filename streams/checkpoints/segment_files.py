"""Segments of packed predictions, windows and ids of events as files beside the checkpoints that name them.

A file is named by the sha256 of its content and never changes, so writing it again writes the same, and a
sealed checkpoint vouches for every file that it names. Other files are never read. A file is written when its
segment is made, and made durable by the checkpoints that name it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import OrderedDict, defaultdict
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from driftline.atomic_file import replacing, sync_folder
from driftline.errors import StateUnreadable
from driftline.features.state.segment_store import (
    IN_MEMORY,
    MemoryBudget,
    SegmentBytes,
    SegmentStore,
    Share,
)
from driftline.streams.archive.storage import STALE

log = logging.getLogger("driftline.worker")

SEGMENTS = "segments"


class SegmentLost(StateUnreadable):
    """A segment that a state names is missing or changed."""


class SegmentMemory:
    """The segments of a worker that are in memory too: the newest. They take `limit` bytes at most, with what
    finds them and all others: the shares of `beside`."""

    def __init__(self, limit: int) -> None:
        self.beside = MemoryBudget(limit)
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def hold(self, name: str, content: bytes) -> None:
        """Hold one more, and drop the oldest if there is no room."""
        if name in self._held:
            return
        self._held[name] = content
        self._size += len(content)
        room = self.beside.room
        while self._held and self._size > room:
            _, oldest = self._held.popitem(last=False)
            self._size -= len(oldest)

    def get(self, name: str) -> bytes | None:
        """The content of a segment, if it is held."""
        return self._held.get(name)


class _SegmentFile:
    __slots__ = ("_memory", "_path", "name")

    def __init__(self, path: Path, memory: SegmentMemory) -> None:
        self._path = path
        self._memory = memory
        self.name = path.name

    @property
    def stored(self) -> str:
        """See `SegmentBytes`."""
        return self.name

    @property
    def memory(self) -> int:
        """See `SegmentBytes`."""
        return len(self._memory.get(self.name) or b"")

    def read(self, begin: int, end: int) -> bytes:
        """See `SegmentBytes`."""
        content = self._memory.get(self.name)
        if content is not None:
            return content[begin:end]
        try:
            file = os.open(self._path, os.O_RDONLY)
            try:
                return os.pread(file, end - begin, begin)
            finally:
                os.close(file)
        except OSError as error:
            raise StateUnreadable(f"segment {self._path} cannot be read: {error}") from error


class SegmentFiles:
    """The segments of one partition, in a folder: a `SegmentStore`. `durable` are the names of those that
    survive a power loss."""

    def __init__(
        self, folder: Path, memory: SegmentMemory, budget: MemoryBudget | None, durable: set[str]
    ) -> None:
        self._folder = folder
        self._memory = memory
        self._budget = budget
        self._durable = durable

    @property
    def budget(self) -> MemoryBudget | None:
        """See `SegmentStore`."""
        return self._budget

    def share(self) -> Share:
        """See `SegmentStore`."""
        return self._memory.beside.share()

    def keep(self, content: bytes, *, held: bool = True) -> SegmentBytes:
        """See `SegmentStore`. A segment that cannot be written stays in memory, and in each checkpoint."""
        path = self._folder / hashlib.sha256(content).hexdigest()
        try:
            self._write(path, content)
        except OSError as error:
            log.error(
                "%d bytes of packed state stay in memory, they cannot be written: %s",
                len(content),
                error,
            )
            return IN_MEMORY.keep(content)
        if held:
            self._memory.hold(path.name, content)
        return _SegmentFile(path, self._memory)

    def _write(self, path: Path, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._durable.discard(path.name)
        # written even if it exists: it may be torn, or so old that it is about to be removed
        with replacing(path) as file:
            file.write(content)

    def again(self, stored: Any, *, held: bool = True) -> SegmentBytes:
        """See `SegmentStore`; `stored` may be the content itself, of a state that was all in memory. Raises
        SegmentLost."""
        if isinstance(stored, bytes):
            return self.keep(stored, held=held)
        content = self.content(stored)
        if held:
            self._memory.hold(stored, content)
        return _SegmentFile(self._folder / stored, self._memory)

    def content(self, name: str) -> bytes:
        """All of a segment; raises SegmentLost."""
        path = self._folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SegmentLost(f"segment {path} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != name:
            raise SegmentLost(f"segment {path} is torn or was altered: its content is not what its name says")
        return content

    def check(self, names: Iterable[str]) -> None:
        """Raises SegmentLost if one is missing."""
        for name in names:
            if not (self._folder / name).exists():
                raise SegmentLost(f"segment {self._folder / name} is not there any more")

    def make_durable(self, names: Iterable[str]) -> None:
        """Make those of these survive a power loss that are not known to; raises OSError."""
        for name in names:
            if name in self._durable:
                continue
            file = os.open(self._folder / name, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        if self._folder.exists():
            sync_folder(self._folder)

    def stored(self, names: Iterable[str]) -> None:
        """A checkpoint that names these, and no others, has made them durable."""
        self._durable.clear()
        self._durable.update(names)

    def collect(self, used: Container[str]) -> None:
        """Remove files that no checkpoint names, except recent ones: the next checkpoint may name them."""
        if not self._folder.exists():
            return
        before = time.time() - STALE
        for path in sorted(self._folder.iterdir()):
            if path.name not in used and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)


class _BackInMemory:
    """Keeps segments in memory, even those that were files when the state was stored."""

    budget: MemoryBudget | None = None

    def __init__(self, files: SegmentFiles) -> None:
        self._files = files

    def share(self) -> Share:
        return IN_MEMORY.share()

    def keep(self, content: bytes, *, held: bool = True) -> SegmentBytes:
        return IN_MEMORY.keep(content)

    def again(self, stored: Any, *, held: bool = True) -> SegmentBytes:
        return IN_MEMORY.keep(stored if isinstance(stored, bytes) else self._files.content(stored))


class SegmentFolders:
    """Where a worker keeps the segments of its partitions: `root` is the folder of its checkpoints, `memory`
    how many bytes of them may be in memory, and `windows` how many bytes of windows may; None keeps all in
    memory."""

    def __init__(self, root: Path, memory: int | None, windows: int | None = None) -> None:
        self._root = root
        self._memory = SegmentMemory(memory or 0)
        self._budget = None if windows is None else MemoryBudget(windows)
        self._is_limited = memory is not None
        self._durable: defaultdict[str, set[str]] = defaultdict(set)

    def files(self, folder: str) -> SegmentFiles:
        """The files of the partition whose checkpoints are in a folder."""
        place = self._root / folder / SEGMENTS
        return SegmentFiles(place, self._memory, self._budget, self._durable[folder])

    def store(self, folder: str) -> SegmentStore:
        """The store for the segments of that partition's fold."""
        files = self.files(folder)
        return files if self._is_limited else _BackInMemory(files)
