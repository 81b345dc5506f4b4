"""What a partition of a stage sends to the stages behind it: events, and the time where no event tells it."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any, NamedTuple

from driftline.features.state.event_time import NEVER
from driftline.streams.errors import Refused
from driftline.streams.stages.stage_record import RECORD_VERSION, StageRecord, Writer, encode_record


class Target(NamedTuple):
    """A partition of a stage's topic that is written to."""

    stage: int
    partition: int


class Send(NamedTuple):
    """One record to be appended to a target."""

    target: Target
    value: bytes


class Sender:
    """Makes the records that one partition of a stage sends; `sends` are those since they were taken.

    A target that no event has told the time for `step` seconds of event time is told it by a tick.
    """

    def __init__(self, writer: Writer, targets: Iterable[Target], step: float) -> None:
        self._writer = writer
        self._step = step
        self._told = dict.fromkeys(targets, NEVER)
        self._next = NEVER
        self._offset = self._ordinal = -1
        self._watermark = NEVER
        self._sends: list[Send] = []

    def begin(self, offset: int, watermark: float) -> None:
        """What follows is caused by the record at `offset`, where time has come to `watermark`."""
        self._offset, self._ordinal, self._watermark = offset, 0, watermark

    def send(
        self, target: Target, event: bytes, read: dict[str, Any] | None = None, refused: Refused | None = None
    ) -> None:
        """Send an event on."""
        reason = None if refused is None else (refused.stage, refused.reason)
        self._append(target, event, read or {}, reason)

    def end(self) -> None:
        """All of the record is sent: tell the time to those who have not heard it."""
        if self._watermark <= NEVER or self._watermark < self._next:
            return
        for target, told in self._told.items():
            if self._watermark - told >= self._step:
                self._append(target, b"", {}, None)
        self._next = min(self._told.values(), default=inf) + self._step

    def take(self) -> list[Send]:
        """The records since the last time."""
        taken, self._sends = self._sends, []
        return taken

    def _append(
        self, target: Target, event: bytes, read: dict[str, Any], refused: tuple[str, str] | None
    ) -> None:
        stage, partition = self._writer
        record = StageRecord(
            RECORD_VERSION,
            stage,
            partition,
            self._offset,
            self._ordinal,
            self._watermark,
            event,
            read,
            refused,
        )
        self._ordinal += 1
        self._told[target] = self._watermark
        self._sends.append(Send(target, encode_record(record)))

    def state(self) -> dict[Target, float]:
        """The watermark that each target was told last; nothing is copied."""
        return self._told

    def restore(self, state: dict[Target, float]) -> None:
        """Go on from what `state` gave."""
        self._told = state
        self._next = min(state.values(), default=inf) + self._step
