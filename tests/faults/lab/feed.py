"""The producer of a run: paced, and let go on step by step."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import structs

from driftline.streams.clients.producer import EventProducer
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.simulation.sources import open_source, with_closing_clock
from tests.faults.lab.stack import PATIENCE, LabError

PIECE = 50
"""Events that the producer sends at once."""


PRODUCER = {"delivery_timeout_ms": 600_000, "max_block_ms": 600_000, "request_timeout_ms": 10_000}


class Feed(threading.Thread):
    """Sends events at a pace, up to a gate that the run opens step by step."""

    def __init__(
        self, case: UseCase, bootstrap: str, namespace: str, events: Sequence[Event], pace: float
    ) -> None:
        super().__init__(name="feed", daemon=True)
        self._producer = EventProducer(case, bootstrap, namespace=namespace, **PRODUCER)
        self._events = events
        self._live = case.is_live
        self._pause = PIECE / pace
        self._gate = 0
        self._sent = 0
        self._abandoned = False
        self._changed = threading.Condition()
        self._failure: BaseException | None = None

    def open(self, count: int) -> None:
        """Let the first `count` events out."""
        with self._changed:
            self._gate = max(self._gate, count)
            self._changed.notify()

    def run(self) -> None:
        try:
            with self._producer:
                while self._sent < len(self._events) and not self._abandoned:
                    self._send(self._events[self._sent : self._sent + PIECE])
        except BaseException as error:
            self._failure = error

    def _send(self, piece: Sequence[Event]) -> None:
        upto = self._sent + len(piece)
        with self._changed:
            if self._gate < upto:
                self._producer.flush()
                self._changed.wait_for(lambda: self._gate >= upto or self._abandoned)
        for event in piece:
            self._producer.send(structs.replace(event, at=datetime.now(UTC)) if self._live else event)
        self._sent = upto
        time.sleep(self._pause)

    def is_level(self) -> bool:
        """Whether all that the gate lets out has been acknowledged."""
        if self._failure is not None:
            raise self._failure
        with self._changed:  # held while it flushes
            return self._sent + PIECE > self._gate

    def abandon(self) -> None:
        """Send no more."""
        with self._changed:
            self._abandoned = True
            self._changed.notify()
        self.join()

    def finish(self) -> None:
        """Send all that is left and wait for its acknowledgement."""
        self.open(len(self._events))
        self.join(PATIENCE * 4)
        if self._failure is not None:
            raise self._failure
        if self.is_alive():
            raise LabError("the producer did not come to its end")


CASE = "driftline.examples.flights:flights"


@functools.lru_cache(maxsize=2)
def source(case_path: str, limit: int) -> Sequence[Event]:
    """The first events of a case's source, and the clock that closes them; a live case has its example's."""
    case = load_case(case_path)
    if case.is_live:
        return tuple(open_source(load_case(f"driftline.examples.{case.name}:{case.name}"), None, limit))
    return tuple(with_closing_clock(case, open_source(case, None, limit)))
