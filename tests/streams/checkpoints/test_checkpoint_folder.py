"""A checkpoint is of one moment, whether a child process or a thread writes it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from driftline.streams.archive.storage import Storage
from driftline.streams.checkpoints import folder
from driftline.streams.checkpoints.checkpoint import CheckpointContent
from driftline.streams.checkpoints.folder import CheckpointFolder

NAMES = [f"00000/{number}.checkpoint" for number in range(3)]


def sockets() -> bytes:
    """Numbers of this process's open sockets."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found.append(name)
        except OSError:
            continue
    return ",".join(found).encode()


class Counter:
    """A state that goes on; a checkpoint holds its value and the process that took it."""

    def __init__(self) -> None:
        self.value = 0

    def take(self) -> Callable[[], CheckpointContent]:
        taken = f"{self.value} {os.getpid()}".encode()
        return lambda: CheckpointContent(taken, [["a-file"]])


async def opened(tmp_path: Path, is_quick: bool) -> CheckpointFolder:
    """A folder whose next checkpoint is taken here, as one was written quickly, or by a child, as there is
    none."""
    checkpoints = CheckpointFolder(Storage(str(tmp_path)))
    if is_quick:
        await checkpoints.begin(NAMES[0], Counter().take).finish()
    return checkpoints


def written(tmp_path: Path, counter: Counter) -> list[tuple[int, bool]]:
    """Of one checkpoint after the other: its value, and whether this process took it. The state goes on while
    each is written."""

    async def run() -> list[tuple[int, bool]]:
        checkpoints = CheckpointFolder(Storage(str(tmp_path)))
        found = []
        for name in NAMES:
            unfinished = checkpoints.begin(name, counter.take)
            counter.value += 1
            done = await unfinished.finish()
            content = await checkpoints.load(name)
            assert (done.size, done.packed) == (len(content), [["a-file"]])
            value, pid = map(int, content.split())
            found.append((value, pid == os.getpid()))
        assert await checkpoints.names("00000") == NAMES
        return found

    return asyncio.run(run())


def test_a_state_that_was_written_quickly_is_taken_here(tmp_path: Path) -> None:
    assert written(tmp_path, Counter()) == [(0, False), (1, True), (2, True)]


def test_one_that_takes_long_is_taken_by_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder._ThreadedWrite, "quick", -1.0)
    assert written(tmp_path, Counter()) == [(0, False), (1, True), (2, False)]
    monkeypatch.setattr(folder._ForkedWrite, "quick", -1.0)
    assert written(tmp_path, Counter()) == [(0, False), (1, False), (2, False)]


def fails_when_taken() -> Callable[[], CheckpointContent]:
    raise ValueError("no state")


def fails_later() -> Callable[[], CheckpointContent]:
    def content() -> CheckpointContent:
        raise ValueError("no state")

    return content


@pytest.mark.parametrize("is_quick", [False, True])
@pytest.mark.parametrize("take", [fails_when_taken, fails_later])
def test_a_state_that_cannot_be_written_is_an_os_error_and_leaves_nothing(
    tmp_path: Path, take: Callable[[], Callable[[], CheckpointContent]], is_quick: bool
) -> None:
    async def run() -> None:
        checkpoints = await opened(tmp_path, is_quick)
        with pytest.raises(OSError, match=r"1\.checkpoint.*failed: ValueError: no state"):
            await checkpoints.begin(NAMES[1], take).finish()

    asyncio.run(run())
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == is_quick


@pytest.mark.parametrize("is_quick", [False, True])
def test_one_that_is_given_up_leaves_nothing(tmp_path: Path, is_quick: bool) -> None:
    async def run() -> None:
        checkpoints = await opened(tmp_path, is_quick)
        await checkpoints.begin(NAMES[1], Counter().take).discard()

    asyncio.run(run())
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == is_quick


def test_the_child_has_no_socket_of_its_parent(tmp_path: Path) -> None:
    def take() -> Callable[[], CheckpointContent]:
        return lambda: CheckpointContent(sockets(), [])

    async def written() -> bytes:
        checkpoints = CheckpointFolder(Storage(str(tmp_path)))
        await checkpoints.begin("00000/a.checkpoint", take).finish()
        return await checkpoints.load("00000/a.checkpoint")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert str(listening.fileno()).encode() in sockets().split(b",")
        assert asyncio.run(written()) == b""
        socket.create_connection(listening.getsockname()).close()
