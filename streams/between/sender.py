"""Sends the records of a partition of a stage to later stages: events, and ticks with the time if there is no
event."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from math import inf
from typing import Any, NamedTuple

from driftline.features.state.event_time import NEVER
from driftline.streams.between.stage_record import (
    RECORD_VERSION,
    Answer,
    ModelRecord,
    PoolPart,
    StageRecord,
    Writer,
    encode_record,
)
from driftline.streams.declare.topics import LONGEST_BETWEEN
from driftline.streams.errors import REASON_BYTES, Refused
from driftline.streams.records.outputs import Send, Target

LONGEST_PART = LONGEST_BETWEEN - 1_024
"""Bytes of one part of a pool that is published: what a record may have, less what is beside it."""


class SenderState(NamedTuple):
    """What each target got: the last watermark, and how many records."""

    watermarks: dict[Target, float]
    counts: dict[Target, int]


class Sender:
    """Makes the records that one partition of a stage sends; `sends` are those since they were taken.

    A target without an event for `step` seconds of event time gets the time by a tick.
    """

    def __init__(self, writer: Writer, targets: Iterable[Target], step: float) -> None:
        self._writer = writer
        self._step = step
        self._sent_watermarks = dict.fromkeys(targets, NEVER)
        self._counts = dict.fromkeys(self._sent_watermarks, 0)
        self._next = NEVER
        self._offset = self._ordinal = -1
        self._watermark = NEVER
        self._silent = self._ended = False
        self._sends: list[Send] = []

    def begin(self, offset: int, watermark: float, *, silent: bool = False, ended: bool = False) -> None:
        """The next records are caused by the record at `offset`, with this `watermark`; in a warm-up they are
        `silent`, and every target gets a record when that has `ended`."""
        self._offset, self._ordinal, self._watermark = offset, 0, watermark
        self._silent, self._ended = silent, ended

    def send(
        self, target: Target, event: bytes, read: dict[str, Any] | None = None, refused: Refused | None = None
    ) -> None:
        """Send an event on. Raises Refused if the record is larger than the topic takes: nothing is sent
        then. A refused event has no features, and fits."""
        reason = None if refused is None else (refused.stage, refused.reason[:REASON_BYTES])
        self._append(target, event, read or {}, reason)

    def answered(self, target: Target, event: bytes, read: dict[str, Any], answer: Answer) -> None:
        """Send a request on with its answer. Raises Refused as `send` does."""
        self._append(target, event, read, None, answer)

    def publish(self, sealed: bytes) -> None:
        """Send a pool to all targets, in as many parts as their topic takes."""
        pieces = [sealed[at : at + LONGEST_PART] for at in range(0, len(sealed), LONGEST_PART)]
        whole = sha256(sealed).digest()
        for target in self._counts:
            for index, piece in enumerate(pieces):
                self._sends.append(self._part(target, PoolPart(whole, index, len(pieces), piece)))
            self._counts[target] += 1

    def _part(self, target: Target, part: PoolPart) -> Send:
        stage, partition = self._writer
        number = self._counts[target] + 1
        record = ModelRecord(
            RECORD_VERSION, stage, partition, number, self._offset, self._ordinal, self._watermark, part=part
        )
        self._ordinal += 1
        return Send(target, encode_record(record))

    def end(self) -> None:
        """The record is done: send the time to the targets that need it."""
        if not self._ended and (self._watermark <= NEVER or self._watermark < self._next):
            return
        for target, sent in self._sent_watermarks.items():
            if self._ended or self._watermark - sent >= self._step:
                self._append(target, b"", {}, None)
        self._next = min(self._sent_watermarks.values(), default=inf) + self._step

    def take(self) -> list[Send]:
        """The records since the last time."""
        taken, self._sends = self._sends, []
        return taken

    def _append(
        self,
        target: Target,
        event: bytes,
        read: dict[str, Any],
        refused: tuple[str, str] | None,
        answer: Answer | None = None,
    ) -> None:
        stage, partition = self._writer
        number = self._counts[target] + 1
        fields = (
            RECORD_VERSION,
            stage,
            partition,
            number,
            self._offset,
            self._ordinal,
            self._watermark,
            event,
            read,
            refused,
            self._silent,
        )
        record = StageRecord(*fields) if answer is None else ModelRecord(*fields, answer)
        value = encode_record(record)
        if len(value) > LONGEST_BETWEEN:
            raise Refused(
                "size",
                f"with its features it takes {len(value):,} bytes; there is room for {LONGEST_BETWEEN:,}",
            )
        self._ordinal += 1
        self._counts[target] = number
        self._sent_watermarks[target] = self._watermark
        self._sends.append(Send(target, value))

    def state(self) -> SenderState:
        """The state of each target; nothing is copied."""
        return SenderState(self._sent_watermarks, self._counts)

    def restore(self, state: SenderState) -> None:
        """Continue from what `state` returned."""
        self._sent_watermarks, self._counts = state
        self._next = min(self._sent_watermarks.values(), default=inf) + self._step
