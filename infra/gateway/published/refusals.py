"""Recent refusals of the fold: by the record's position, and by the id of the refused request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import NamedTuple

import msgspec

from driftline.streams.declare.events import Event

REMEMBERED_REFUSALS = 50_000

LogPosition = tuple[int, int]
"""Partition and offset of an event in the log."""


class RefusedRecord(NamedTuple):
    """Why the fold refused a record. `request_id` is the id of the refused request; None for other
    records."""

    stage: str
    reason: str
    request_id: str | None
    is_behind: bool
    """Whether a stage behind the log refused it. The log's own stage accepted the event, so it drops
    repeats."""
    epochs: int = 0
    """How many code epochs had been read by then."""


class _Head(msgspec.Struct):
    type: str
    id: str


class Refusals:
    """The newest refusals of one case.

    The topic of dead letters has the partitions of the log first, then those of the stages behind it. A
    record that such a stage refuses has a position in the stage's own topic, so only the request's id
    identifies it.
    """

    def __init__(self, ask: type[Event], log_partitions: int) -> None:
        self._log_partitions = log_partitions
        self._ask = ask.__struct_config__.tag
        self._epochs = 0
        self._read_head = msgspec.json.Decoder(_Head).decode
        self._by_position: OrderedDict[LogPosition, RefusedRecord] = OrderedDict()
        self._by_request: dict[str, RefusedRecord] = {}
        self._waiting: dict[LogPosition, asyncio.Future[RefusedRecord]] = {}
        self._waiting_behind: dict[str, asyncio.Future[RefusedRecord]] = {}

    def add(self, position: LogPosition, value: bytes, stage: str, reason: str) -> None:
        """Add the refusal of the record with this value. Its position is the partition of its dead letter,
        and the offset in the topic that the stage reads."""
        is_behind = position[0] >= self._log_partitions
        refusal = RefusedRecord(stage, reason, self._request_id(value), is_behind, self._epochs)
        self._by_position[position] = refusal
        if refusal.request_id is not None:
            self._by_request[refusal.request_id] = refusal
        if len(self._by_position) > REMEMBERED_REFUSALS:
            self._forget(self._by_position.popitem(last=False)[1])
        if is_behind:
            waiting = self._waiting_behind.pop(refusal.request_id or "", None)
        else:
            waiting = self._waiting.pop(position, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(refusal)

    def _request_id(self, value: bytes) -> str | None:
        try:
            head = self._read_head(value)
        except (msgspec.MsgspecError, RecursionError):
            return None  # another client sent it: the gateway sends only events that can be decoded
        return head.id if head.type == self._ask else None

    def _forget(self, oldest: RefusedRecord) -> None:
        if oldest.request_id is not None and self._by_request.get(oldest.request_id) is oldest:
            del self._by_request[oldest.request_id]

    def begin_epoch(self) -> None:
        """Other code serves from here on: what a stage behind the log has refused may be sent again."""
        self._epochs += 1

    def of_request(self, event_id: str) -> RefusedRecord | None:
        """The newest refusal of a request with this id."""
        return self._by_request.get(event_id)

    def at(self, position: LogPosition) -> asyncio.Future[RefusedRecord]:
        """Resolves if the fold refuses the record at a position of the log."""
        waiting: asyncio.Future[RefusedRecord] = asyncio.get_running_loop().create_future()
        known = self._by_position.get(position)
        if known is not None:
            waiting.set_result(known)
        else:
            self._waiting[position] = waiting
        return waiting

    def behind(self, request_id: str) -> asyncio.Future[RefusedRecord]:
        """Resolves if a stage behind the log refuses the request with this id, or the code that serves has
        refused it."""
        waiting: asyncio.Future[RefusedRecord] = asyncio.get_running_loop().create_future()
        known = self._by_request.get(request_id)
        if known is not None and known.is_behind and known.epochs == self._epochs:
            waiting.set_result(known)
        else:
            self._waiting_behind[request_id] = waiting
        return waiting

    def give_up(self, position: LogPosition) -> None:
        """Stop waiting for the refusal of this record."""
        self._waiting.pop(position, None)

    def give_up_behind(self, request_id: str) -> None:
        """Stop waiting for the refusal of this request."""
        self._waiting_behind.pop(request_id, None)
