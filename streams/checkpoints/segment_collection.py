"""Removes the segments of a partition that no checkpoint names any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from driftline.streams.checkpoints.checkpoint import CheckpointStore, decode
from driftline.streams.checkpoints.sealing import Seal
from driftline.streams.checkpoints.segment_files import SegmentFiles
from driftline.streams.errors import Unauthentic


class SegmentCollection:
    """Knows which segments each checkpoint of one partition of a `log` names: for those that it saw stored,
    and for others once they were read. The checkpoints are in a `folder`, the segments `files` of it."""

    def __init__(
        self, store: CheckpointStore, files: SegmentFiles, folder: str, log: str, partition: int, seal: Seal
    ) -> None:
        self._store = store
        self._files = files
        self._folder = folder
        self._log = log
        self._partition = partition
        self._seal = seal
        self._named: dict[str, Sequence[str]] = {}

    async def collect(self, stored: str, segments: Sequence[str]) -> None:
        """A checkpoint with these segments was `stored`, and older ones may have been removed. Raises
        OSError, and removes nothing then."""
        self._named[stored] = segments
        self._files.stored(segments)
        names = await self._store.names(self._folder)
        for name in names:
            if name not in self._named:
                self._named[name] = await self._read(name)
        self._named = {name: self._named[name] for name in names}
        used = frozenset(segment for named in self._named.values() for segment in named)
        await asyncio.to_thread(self._files.collect, used)

    async def _read(self, name: str) -> Sequence[str]:
        try:
            content = await self._store.load(name)
            return decode(content, self._log, self._partition, self._seal).header.segments
        except (FileNotFoundError, Unauthentic):
            return ()  # removed meanwhile, or unusable
