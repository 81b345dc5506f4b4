"""Checkpoints in a folder, or in an object store through pyarrow.fs.

The state is pickled and sealed in a forked child: the fork freezes the state at its offset within
milliseconds, and the worker serves on while the child writes. (Redis saves its data set likewise.)
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from driftline.streams.archive.storage import Storage
from driftline.streams.checkpoints.checkpoint import SUFFIX, CheckpointContent, Written

_LONGEST_REASON = 1000


class _ForkedWrite:
    """A child process that writes `content()` of the state at the fork to a file, synced."""

    def __init__(self, path: Path, content: Callable[[], CheckpointContent]) -> None:
        self.path = path
        self._reading, writing = os.pipe()
        started = time.process_time()
        self._pid = os.fork()
        if self._pid == 0:
            _write_and_exit(path, content, writing)
        os.close(writing)
        self._cost = time.process_time() - started

    async def done(self) -> Written:
        """Wait for the child; returns what it took. Raises OSError when it failed."""
        return await asyncio.to_thread(self._wait)

    def _wait(self) -> Written:
        with os.fdopen(self._reading, "rb") as answer:
            output = answer.read()
        _, status, usage = os.wait4(self._pid, 0)
        if status:
            self.path.unlink(missing_ok=True)
            reason = output.decode(errors="replace") or os.waitstatus_to_exitcode(status)
            raise OSError(f"writing {self.path.name} failed: {reason}")
        packed = msgspec.json.decode(output, type=list[list[str]])
        return Written(self._cost + usage.ru_utime + usage.ru_stime, self.path.stat().st_size, packed)

    async def abort(self) -> None:
        """End the child and remove what it wrote."""
        os.kill(self._pid, signal.SIGKILL)
        try:
            await self.done()
        except OSError:
            return
        self.path.unlink(missing_ok=True)


def _write_and_exit(path: Path, content: Callable[[], CheckpointContent], telling: int) -> None:
    """In the child: only this thread is left, so it uses nothing of the parent's but memory."""
    code = 1
    try:
        _close_sockets()
        gc.disable()  # a collection would touch, and so copy, every page
        sealed, packed = content()
        with path.open("wb") as out:
            out.write(sealed)
            out.flush()
            os.fsync(out.fileno())
        with os.fdopen(telling, "wb", closefd=False) as answer:
            answer.write(msgspec.json.encode(packed))
        code = 0
    except BaseException as error:
        os.write(telling, f"{type(error).__name__}: {error}".encode()[:_LONGEST_REASON])
    finally:
        os._exit(code)


def _close_sockets() -> None:
    """Close the parent's connections and listening ports here: they must end with the parent, not with this
    child."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.close(number)
        except OSError as error:
            if error.errno != errno.EBADF:  # the folder itself was open while it was read
                raise


class CheckpointFolder:
    """Checkpoints as files of a storage, a folder for each partition."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def names(self, folder: str) -> Sequence[str]:
        """See `CheckpointStore`."""
        names = await asyncio.to_thread(self._storage.names, folder)
        return [name for name in names if name.endswith(SUFFIX)]

    async def load(self, name: str) -> bytes:
        """See `CheckpointStore`."""
        content = await asyncio.to_thread(self._storage.read, name)
        if content is None:
            raise FileNotFoundError(f"{self._storage.path(name)} is not there any more")
        return content

    def begin(self, name: str, content: Callable[[], CheckpointContent]) -> _UnfinishedFile:
        """See `CheckpointStore`."""
        return _UnfinishedFile(self._storage, name, content)

    async def remove(self, name: str) -> None:
        """See `CheckpointStore`."""
        await asyncio.to_thread(self._storage.remove, name)


class _UnfinishedFile:
    def __init__(self, storage: Storage, name: str, content: Callable[[], CheckpointContent]) -> None:
        self._storage = storage
        self._name = name
        self._write = _ForkedWrite(storage.aside(name), content)

    async def finish(self) -> Written:
        written = await self._write.done()
        await asyncio.to_thread(self._storage.adopt, self._write.path, self._name)
        return written

    async def discard(self) -> None:
        await self._write.abort()
