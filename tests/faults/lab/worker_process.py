"""A worker of a run as a process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.commands.forked_command import forking
from tests.faults.lab import launcher
from tests.faults.lab.stack import PATIENCE, LabError

if TYPE_CHECKING:
    from tests.faults.lab.run import Run


class WorkerProcess:
    """One worker process; all workers of a run share its home."""

    def __init__(self, run: Run, case_path: str, options: Sequence[str], *, cold: bool) -> None:
        self._statuses = run.home / "status"
        self.log = run.home / f"worker-{len(run.workers)}.log"
        self.log.touch()
        processes = multiprocessing.get_context("spawn") if cold else forking()
        self.process: Any = processes.Process(
            target=launcher.launched,
            args=([case_path, *options], run.environment, str(self.log)),
            daemon="--upgrade" not in options,  # which has children of its own
        )
        self.process.start()

    @property
    def alive(self) -> bool:
        return self.process.exitcode is None

    @property
    def status(self) -> dict[str, Any] | None:
        """What this process last wrote."""
        for path in self._statuses.glob("*.json"):
            found: dict[str, Any] = json.loads(path.read_text())
            if found["pid"] == self.process.pid:
                return found
        return None

    @property
    def partitions(self) -> dict[str, dict[str, Any]]:
        """Status of its partitions, by name."""
        status = self.status
        return {} if status is None else dict(status["partitions"])

    @property
    def offsets(self) -> dict[str, int]:
        """How far each of its partitions is folded."""
        return {name: found.get("next_offset", 0) for name, found in self.partitions.items()}

    def in_state(self, state: str) -> set[str]:
        return {p for p, found in self.partitions.items() if found["state"] == state}

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def check(self) -> None:
        """Raise LabError when it has ended by an error, which no waiting mends."""
        if self.process.exitcode is not None and self.process.exitcode > 0:
            raise LabError(f"the worker exited with {self.process.exitcode}; see {self.log}")

    def died(self) -> bool:
        """Whether it has ended; raises LabError when it ended otherwise than by SIGKILL."""
        code = self.process.exitcode
        if code not in (None, -signal.SIGKILL):
            raise LabError(f"the worker exited with {code}; see {self.log}")
        return code is not None

    def terminate(self) -> float:
        """SIGTERM; returns the seconds until it exits, which must be with 0."""
        started = time.monotonic()
        self.process.terminate()
        self.process.join(PATIENCE)
        if self.process.exitcode != 0:
            raise LabError(f"SIGTERM: the worker exited with {self.process.exitcode}; see {self.log}")
        return time.monotonic() - started

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)
