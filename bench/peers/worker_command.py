"""The command `driftline worker` as a process, as its supervisor starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from driftline.bench.peers.process import PeerFailed
from driftline.infra.settings import Settings
from driftline.setting_sources import child_environment

ENDS_WITHIN = 120.0


class WorkerCommand:
    """A worker of a case below the settings' home, where its log goes too."""

    def __init__(self, case: str, settings: Settings) -> None:
        path = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._log = settings.home / "worker.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "driftline", "worker", case],
                env=child_environment(settings) | path,
                stdout=log,
                stderr=log,
            )

    def check(self) -> None:
        """Raises PeerFailed when the process has ended."""
        if self.process.poll() is not None:
            raise self.failure(f"ended with {self.process.returncode}")

    def failure(self, what: str) -> PeerFailed:
        """The error to raise, with the end of the worker's log."""
        return PeerFailed(f"driftline worker {what}; its log ends with: {self._log.read_text()[-1500:]}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal, unless the process has ended, and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(ENDS_WITHIN)
