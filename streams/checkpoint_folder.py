"""Checkpoints in a folder, or in an object store through pyarrow.fs.

The state is pickled and sealed in a forked child: the fork freezes the state at its offset within
milliseconds, and the worker serves on while the child writes. (Redis saves its data set likewise.)
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from streams.checkpoint import SUFFIX

_LONGEST_REASON = 1000


class _ForkedWrite:
    """A child process that writes `content()` of the state at the fork to a file, synced."""

    def __init__(self, path: Path, content: Callable[[], bytes]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._reading, writing = os.pipe()
        started = time.process_time()
        self._pid = os.fork()
        if self._pid == 0:
            _write_and_exit(path, content, writing)
        os.close(writing)
        self._cost = time.process_time() - started

    async def done(self) -> float:
        """Wait for the child; returns the seconds of CPU spent. Raises OSError when it failed."""
        return await asyncio.to_thread(self._wait)

    def _wait(self) -> float:
        with os.fdopen(self._reading, "rb") as told:
            reason = told.read().decode(errors="replace")
        _, status, usage = os.wait4(self._pid, 0)
        if status:
            self.path.unlink(missing_ok=True)
            raise OSError(f"writing {self.path.name} failed: {reason or os.waitstatus_to_exitcode(status)}")
        return self._cost + usage.ru_utime + usage.ru_stime

    async def abort(self) -> None:
        """End the child and remove what it wrote."""
        os.kill(self._pid, signal.SIGKILL)
        try:
            await self.done()
        except OSError:
            return
        self.path.unlink(missing_ok=True)


def _write_and_exit(path: Path, content: Callable[[], bytes], telling: int) -> None:
    """In the child: no thread but this one is left, so nothing of the parent's is used but memory."""
    code = 1
    try:
        gc.disable()  # a collection would touch, and so copy, every page
        with path.open("wb") as out:
            out.write(content())
            out.flush()
            os.fsync(out.fileno())
        code = 0
    except BaseException as error:
        os.write(telling, f"{type(error).__name__}: {error}".encode()[:_LONGEST_REASON])
    finally:
        os._exit(code)


class CheckpointFolder:
    """A folder of this machine: written aside, synced, renamed, and the folder synced too."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def names(self, partition: int) -> Sequence[str]:
        """See `CheckpointStore`."""
        folder = f"{partition:05d}"
        found = await asyncio.to_thread(_listed, self._path / folder)
        return [f"{folder}/{name}" for name in found]

    async def load(self, name: str) -> bytes:
        """See `CheckpointStore`."""
        return await asyncio.to_thread((self._path / name).read_bytes)

    def begin(self, name: str, content: Callable[[], bytes]) -> _UnfinishedFile:
        """See `CheckpointStore`."""
        return _UnfinishedFile(self._path / name, content)

    async def remove(self, name: str) -> None:
        """See `CheckpointStore`."""
        await asyncio.to_thread((self._path / name).unlink, missing_ok=True)


class _UnfinishedFile:
    def __init__(self, path: Path, content: Callable[[], bytes]) -> None:
        self._path = path
        self._write = _ForkedWrite(path.with_name(f".{path.name}.{os.getpid()}.part"), content)

    async def finish(self) -> float:
        cost = await self._write.done()
        await asyncio.to_thread(self._show)
        return cost

    def _show(self) -> None:
        self._write.path.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def discard(self) -> None:
        await self._write.abort()


def _listed(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIX))


class CheckpointBucket:
    """Any pyarrow filesystem; an object store shows an object only when it is whole.

    `aside` is a folder of this machine in which a checkpoint lies until it is uploaded.
    """

    def __init__(self, filesystem: Any, path: str, aside: Path) -> None:
        self._filesystem = filesystem
        self._path = PurePosixPath(path)
        self._aside = aside

    async def names(self, partition: int) -> Sequence[str]:
        """See `CheckpointStore`."""
        return await asyncio.to_thread(self._listed, f"{partition:05d}")

    def _listed(self, folder: str) -> list[str]:
        from pyarrow.fs import FileSelector

        selector = FileSelector(str(self._path / folder), allow_not_found=True)
        names = (info.base_name for info in self._filesystem.get_file_info(selector))
        return sorted(f"{folder}/{name}" for name in names if name.endswith(SUFFIX))

    async def load(self, name: str) -> bytes:
        """See `CheckpointStore`."""
        return await asyncio.to_thread(self._load, name)

    def _load(self, name: str) -> bytes:
        with self._filesystem.open_input_stream(str(self._path / name)) as stream:
            return bytes(stream.read())

    def begin(self, name: str, content: Callable[[], bytes]) -> _UnfinishedObject:
        """See `CheckpointStore`."""
        aside = self._aside / f"{os.getpid()}-{name.replace('/', '-')}.part"
        return _UnfinishedObject(self._filesystem, str(self._path / name), _ForkedWrite(aside, content))

    async def remove(self, name: str) -> None:
        """See `CheckpointStore`."""
        await asyncio.to_thread(self._remove, name)

    def _remove(self, name: str) -> None:
        from pyarrow.fs import FileType

        path = str(self._path / name)
        if self._filesystem.get_file_info(path).type is not FileType.NotFound:
            self._filesystem.delete_file(path)


class _UnfinishedObject:
    def __init__(self, filesystem: Any, path: str, write: _ForkedWrite) -> None:
        self._filesystem = filesystem
        self._path = path
        self._write = write

    async def finish(self) -> float:
        cost = await self._write.done()
        try:
            await asyncio.to_thread(self._upload)
        finally:
            self._write.path.unlink(missing_ok=True)
        return cost

    def _upload(self) -> None:
        self._filesystem.create_dir(str(PurePosixPath(self._path).parent), recursive=True)
        with self._write.path.open("rb") as content, self._filesystem.open_output_stream(self._path) as out:
            shutil.copyfileobj(content, out)

    async def discard(self) -> None:
        await self._write.abort()


def open_checkpoints(uri: str, aside: Path) -> CheckpointFolder | CheckpointBucket:
    """The store at a path of this machine or at a pyarrow.fs URI (s3://, gs://, ...)."""
    if "://" not in uri:
        return CheckpointFolder(Path(uri))
    if uri.startswith("file://"):
        return CheckpointFolder(Path(uri.removeprefix("file://")))
    from pyarrow.fs import FileSystem

    filesystem, path = FileSystem.from_uri(uri)
    return CheckpointBucket(filesystem, path, aside)
