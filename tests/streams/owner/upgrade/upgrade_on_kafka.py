"""An upgrade on a real Kafka while events come."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from driftline.streams.declare.events import Event
from tests.commands.forked_command import Command

TOGETHER = 10
"""Events that are produced between two looks whether the worker has ended."""


class UpgradeUnderLoad:
    """A worker that serves a system, and the new code that takes over from it while its events come."""

    old: Command
    new: Command
    old_said: Path
    new_said: Path

    def __init__(self, system: Any, events: Sequence[Event], eventually: Callable[..., Any]) -> None:
        self._system = system
        self._events = events
        self._eventually = eventually
        self._fed = 0

    def _feed(self, until: int) -> None:
        self._system.produce(self._events[self._fed : until])
        self._fed = max(self._fed, until)

    def serve(self, until: int) -> None:
        """Start the worker, and produce the events before this one."""
        self.old, self.old_said = self._system.command("worker", self._system.case_path)
        self._feed(until)

    def take_over(self, case: str, until: int) -> None:
        """Run the upgrade, and produce the events before this one while the worker has not ended, and the
        others then. Fails unless the worker ends well."""
        self.new, self.new_said = self._system.command("upgrade", case)

        def ended() -> bool:
            assert self.new.poll() is None, self.new_said.read_text()
            if self._fed < until:
                self._feed(self._fed + TOGETHER)
            return self.old.poll() is not None

        self._eventually(ended)
        assert self.old.returncode == 0, "one that is superseded must not be started again"
        self._feed(len(self._events))


def gap_ms(predictions: Sequence[Any], old: str, new: str) -> int:
    """Milliseconds from the last prediction of one model to the first of the next."""
    served = {record.timestamp: json.loads(record.value)["model"]["name"] for record in predictions}
    last = max(at for at, model in served.items() if model == old)
    first = min(at for at, model in served.items() if model == new)
    gap: int = first - last
    return gap
