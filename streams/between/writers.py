"""The writers of a stage's topic: how many records each has sent, and its watermark."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from driftline.features.state.event_time import NEVER
from driftline.streams.between.stage_record import StageRecord, Writer
from driftline.streams.errors import StreamsError


class RecordsLost(StreamsError):
    """Records of a writer are no longer in the topic, and have not been read."""


class Heard(msgspec.Struct):
    """How many records came from a writer so far, its watermark, and whether its newest record belongs to a
    warm-up."""

    records: int
    watermark: float
    silent: bool = False


WriterProgress = dict[tuple[int, int], Heard]
"""What was heard of each writer, by its stage and partition."""


class Writers:
    """The writers of one partition of a stage's topic.

    A writer sends in order, and at least once: records that it may not have sent before it ended are sent
    again. First appearances are in order and without a gap: a record that is not beyond the last one of its
    writer has come before, and one that is not the next shows that the topic has lost some.

    `watermark` is the smallest of the writers' watermarks: no event before it comes from any of them. It is
    `NEVER` until each has sent one. `warming` says whether a warm-up is under way in one of them.
    """

    def __init__(self, known: Iterable[Writer]) -> None:
        self._heard: WriterProgress = {writer: Heard(0, NEVER) for writer in known}
        self.watermark = NEVER
        self.warming = False

    @property
    def max_at(self) -> float | None:
        """The watermark; None until each writer has sent one."""
        return None if self.watermark == NEVER else self.watermark

    def take(self, record: StageRecord) -> bool:
        """Whether the record is new; raises RecordsLost if some before it are missing, and StreamsError for
        an unknown writer."""
        last = self._heard.get((record.stage, record.partition))
        if last is None:
            raise StreamsError(
                f"stage {record.stage} has no partition {record.partition} that writes here: the topic is of "
                "another declaration"
            )
        if record.number <= last.records:
            return False
        if record.number > last.records + 1:
            raise RecordsLost(
                f"records {last.records + 1} to {record.number - 1} that stage {record.stage}, partition "
                f"{record.partition}, has written are missing: the topic was truncated, or deleted and made "
                "again. Restore it, or go on in another namespace"
            )
        last.records = record.number
        before = last.watermark
        if record.silent is not last.silent:
            last.silent = record.silent
            self._look_whether_warming()
        if record.watermark > before:
            last.watermark = record.watermark
            if before <= self.watermark:  # it was the smallest, or one of them
                self.watermark = min([heard.watermark for heard in self._heard.values()])
        return True

    def state(self) -> WriterProgress:
        """The progress of each; nothing is copied."""
        return self._heard

    def restore(self, state: WriterProgress) -> None:
        """Continue from what `state` returned."""
        self._heard = state
        self.watermark = min(heard.watermark for heard in state.values())
        self._look_whether_warming()

    def _look_whether_warming(self) -> None:
        self.warming = any(heard.silent for heard in self._heard.values())
