"""What a stage knows of those who write to its topic: what has come from each, and how far time is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from driftline.features.state.event_time import NEVER
from driftline.streams.errors import StreamsError
from driftline.streams.stages.stage_record import StageRecord, Writer


class Heard(NamedTuple):
    """The last that came from a writer: its position, and the watermark that it told."""

    offset: int
    ordinal: int
    watermark: float


class Writers:
    """The writers of one partition of a stage's topic.

    A writer sends in order, and at least once: what it may not have sent before it ended, it sends again.
    First appearances are in order, so a record that is not beyond the last one of its writer has come before.

    `watermark` is the least of what the writers told: no event before it comes from any of them. It stays at
    `NEVER` until each has told.
    """

    def __init__(self, known: Iterable[Writer]) -> None:
        self._heard = dict.fromkeys(known, Heard(-1, -1, NEVER))
        self.watermark = NEVER

    def take(self, record: StageRecord) -> bool:
        """Whether the record is new; raises StreamsError where nobody is known to write it."""
        writer = record.writer
        last = self._heard.get(writer)
        if last is None:
            raise StreamsError(
                f"stage {writer.stage} has no partition {writer.partition} that writes here: the topic is of "
                "another declaration"
            )
        if (record.offset, record.ordinal) <= (last.offset, last.ordinal):
            return False
        told = max(record.watermark, last.watermark)
        self._heard[writer] = Heard(record.offset, record.ordinal, told)
        if last.watermark <= self.watermark:
            self.watermark = min(heard.watermark for heard in self._heard.values())
        return True

    def state(self) -> dict[Writer, Heard]:
        """What was heard of each; nothing is copied."""
        return self._heard

    def restore(self, state: dict[Writer, Heard]) -> None:
        """Go on from what `state` gave."""
        self._heard = state
        self.watermark = min(heard.watermark for heard in state.values())
