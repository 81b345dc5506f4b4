"""The child that writes a checkpoint holds nothing open that is to end with its worker."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

from driftline.streams.archive.storage import Storage
from driftline.streams.checkpoints.checkpoint import CheckpointContent
from driftline.streams.checkpoints.folder import CheckpointFolder


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


def test_the_child_has_no_socket_of_its_parent(tmp_path: Path) -> None:
    def content() -> CheckpointContent:
        return CheckpointContent(sockets(), [])

    async def written() -> bytes:
        checkpoints = CheckpointFolder(Storage(str(tmp_path)))
        await checkpoints.begin("00000/a.checkpoint", content).finish()
        return await checkpoints.load("00000/a.checkpoint")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert str(listening.fileno()).encode() in sockets().split(b",")
        assert asyncio.run(written()) == b""
        socket.create_connection(listening.getsockname()).close()
