"""Checkpoints in a folder, or in an object store through pyarrow.fs.

The state is pickled and sealed in a forked child: the fork freezes the state at its offset within
milliseconds, and the worker serves on while the child writes. (Redis saves its data set likewise.) But each
page of memory that the worker changes meanwhile is copied then, which takes as long again: a state that is
pickled sooner is pickled in the worker, and sealed and written in a thread.
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
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from driftline.streams.archive.storage import Storage
from driftline.streams.checkpoints.checkpoint import SUFFIX, CheckpointContent, TakeState, Written

_LONGEST_REASON = 1000


class _Write(Protocol):
    path: Path
    quick: float
    """Seconds of CPU below which, if a partition's checkpoint took less this way, its next one is taken here.
    A fork and its copies take the worker 0.03."""

    async def done(self) -> Written:
        """Wait for the end; returns what it took. Raises OSError when it failed."""
        ...

    async def abort(self) -> None:
        """End it and remove what it wrote."""
        ...


class _ForkedWrite:
    """A child process that writes the checkpoint of the state at the fork to a file, synced."""

    quick = 0.05

    def __init__(self, path: Path, take: TakeState) -> None:
        self.path = path
        self._reading, writing = os.pipe()
        started = time.process_time()
        self._pid = os.fork()
        if self._pid == 0:
            _write_and_exit(path, take, writing)
        os.close(writing)
        self._cost = time.process_time() - started

    async def done(self) -> Written:
        """See `_Write`."""
        return await asyncio.to_thread(self._wait)

    def _wait(self) -> Written:
        with os.fdopen(self._reading, "rb") as answer:
            output = answer.read()
        _, status, usage = os.wait4(self._pid, 0)
        if status:
            self.path.unlink(missing_ok=True)
            raise _failed(self.path, output.decode(errors="replace") or os.waitstatus_to_exitcode(status))
        packed = msgspec.json.decode(output, type=list[list[str]])
        return Written(self._cost + usage.ru_utime + usage.ru_stime, self.path.stat().st_size, packed)

    async def abort(self) -> None:
        """See `_Write`."""
        os.kill(self._pid, signal.SIGKILL)
        with suppress(OSError):
            await self.done()
        self.path.unlink(missing_ok=True)


class _ThreadedWrite:
    """Takes a state here, and writes its checkpoint to a file in a thread, synced."""

    quick = 0.03

    def __init__(self, path: Path, take: TakeState) -> None:
        self.path = path
        started = time.thread_time()
        try:
            self._content = take()
        except Exception as error:
            raise _failed(path, _told(error)) from error
        self._cost = time.thread_time() - started
        self._writing: asyncio.Task[Written] | None = None

    async def done(self) -> Written:
        """See `_Write`."""
        self._writing = self._writing or asyncio.create_task(asyncio.to_thread(self._write))
        return await asyncio.shield(self._writing)

    def _write(self) -> Written:
        started = time.thread_time()
        try:
            size, packed = _write_synced(self.path, self._content)
        except Exception as error:
            self.path.unlink(missing_ok=True)
            raise _failed(self.path, _told(error)) from error
        return Written(self._cost + time.thread_time() - started, size, packed)

    async def abort(self) -> None:
        """See `_Write`."""
        if self._writing is not None:
            with suppress(OSError):
                await self._writing
        self.path.unlink(missing_ok=True)


def _failed(path: Path, reason: object) -> OSError:
    return OSError(f"writing {path.name} failed: {reason}")


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _write_synced(path: Path, content: Callable[[], CheckpointContent]) -> tuple[int, list[list[str]]]:
    """Write a checkpoint; returns its bytes, and the segments written for it."""
    sealed, packed = content()
    with path.open("wb") as out:
        out.write(sealed)
        out.flush()
        os.fsync(out.fileno())
    return len(sealed), packed


def _write_and_exit(path: Path, take: TakeState, telling: int) -> None:
    """In the child: only this thread is left, so it uses nothing of the parent's but memory."""
    code = 1
    try:
        _close_sockets()
        gc.disable()  # a collection would touch, and so copy, every page
        _, packed = _write_synced(path, take())
        with os.fdopen(telling, "wb", closefd=False) as answer:
            answer.write(msgspec.json.encode(packed))
        code = 0
    except BaseException as error:
        os.write(telling, _told(error).encode()[:_LONGEST_REASON])
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
        self._quick: dict[str, bool] = {}

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

    def begin(self, name: str, take: TakeState) -> _UnfinishedFile:
        """See `CheckpointStore`."""
        folder = name.rpartition("/")[0]
        kind = _ThreadedWrite if self._quick.get(folder, False) else _ForkedWrite
        took = partial(self._quick.__setitem__, folder)
        return _UnfinishedFile(self._storage, name, kind(self._storage.aside(name), take), took)

    async def remove(self, name: str) -> None:
        """See `CheckpointStore`."""
        await asyncio.to_thread(self._storage.remove, name)


class _UnfinishedFile:
    def __init__(self, storage: Storage, name: str, write: _Write, took: Callable[[bool], object]) -> None:
        self._storage = storage
        self._name = name
        self._write = write
        self._took = took

    async def finish(self) -> Written:
        written = await self._write.done()
        self._took(written.seconds < self._write.quick)
        await asyncio.to_thread(self._storage.adopt, self._write.path, self._name)
        return written

    async def discard(self) -> None:
        await self._write.abort()
