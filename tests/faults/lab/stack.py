"""The broker of the fault lab, and how its runs wait."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from kafka.errors import KafkaError

from driftline.infra.local.kafka import LocalBroker
from tests.faults.lab.proxy import ProxiedStack, Proxy

PATIENCE = 180.0
"""Seconds after which a condition is given up; nothing is decided by time but that."""


class LabError(Exception):
    """The run did not come to where it could be judged."""


def until(
    condition: Callable[[], Any],
    what: str,
    within: float = PATIENCE,
    progress: Callable[[], Any] = lambda: None,
) -> Any:
    """Wait until a condition gives something true, and return that; seconds are counted from the last change
    of `progress` on. A broker that is away answers no."""
    deadline, before = time.monotonic() + within, None
    while time.monotonic() < deadline:
        with suppress(KafkaError):
            if found := condition():
                return found
            if (now := progress()) != before:
                deadline, before = time.monotonic() + within, now
        time.sleep(0.02)
    raise LabError(f"not within {within:g} s: {what}")


class Lab:
    """One broker, that may be killed, paused and started again."""

    def __init__(self, home: Path | None = None) -> None:
        self._own = home is None
        self.home = home or Path(tempfile.mkdtemp(prefix="driftline-faults-"))
        self.stack = ProxiedStack(self.home / "broker")
        self.broker: LocalBroker = self.stack.up()

    @property
    def bootstrap(self) -> str:
        return self.broker.bootstrap

    @property
    def network(self) -> Proxy:
        """The way to the broker of the workers whose network is disturbed."""
        return self.stack.network

    def kill_broker(self) -> None:
        """SIGKILL; returns when the process is gone."""
        os.kill(self.broker.pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # it may have been reaped by the next process started
            os.waitpid(self.broker.pid, 0)

    def start_broker(self) -> None:
        """Start it again on its data and port."""
        self.broker = self.stack.up()

    def pause_broker(self) -> None:
        os.kill(self.broker.pid, signal.SIGSTOP)

    def resume_broker(self) -> None:
        os.kill(self.broker.pid, signal.SIGCONT)

    def restore(self) -> None:
        """The broker runs again, whatever a run that did not come to its end has left."""
        with suppress(ProcessLookupError):
            self.resume_broker()
        self.network.restore()
        self.start_broker()

    def close(self) -> None:
        """Stop the broker and, unless the home was given, remove all files."""
        with suppress(ProcessLookupError):
            self.resume_broker()
        self.stack.down()
        if self._own:
            shutil.rmtree(self.home)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
