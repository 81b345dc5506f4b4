"""Worker and producer as processes of their own, and what the worker says of itself in its status file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from driftline.infra.errors import InfraError
from driftline.infra.settings import Settings
from driftline.setting_sources import child_environment

READY_WITHIN = 90.0
PROCESS_STOPS_WITHIN = 30.0


class Process:
    """A Python module that runs beside us; its output goes to a file."""

    def __init__(self, name: str, module: Sequence[str], settings: Settings) -> None:
        self.name = name
        self.log = settings.home / "logs" / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = child_environment(settings)
        with self.log.open("wb") as out:
            self._process = self._start(module, environment, out)

    @staticmethod
    def _start(module: Sequence[str], environment: dict[str, str], out: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        """True when it ended well; raises InfraError, with the end of its log, when it failed."""
        code = self._process.poll()
        if code:
            raise self.failure(f"the {self.name} ended with {code}")
        return code is not None

    def failure(self, what: str) -> InfraError:
        """An error that shows the end of the process's log."""
        tail = self.log.read_text(errors="replace")[-3000:].strip()
        return InfraError(f"{what}; its log {self.log} ends with:\n{tail}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not end it."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(PROCESS_STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def process(name: str, module: Sequence[str], settings: Settings) -> Iterator[Process]:
    process = Process(name, module, settings)
    try:
        yield process
    finally:
        process.stop()


def read_status(path: Path) -> dict[str, Any] | None:
    try:
        status: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return status


def ready(worker: Process, path: Path) -> dict[str, Any]:
    """The worker's first status."""
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if worker.ended():
            raise worker.failure("the worker ended before it had anything to do")
        status = read_status(path)
        if status is not None and status["pid"] == worker.pid:
            return status
        time.sleep(0.1)
    raise worker.failure(f"the worker was not ready within {READY_WITHIN:g} s")
