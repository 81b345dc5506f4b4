"""Prints a topic's past, from Kafka and the archive: for reading, as JSON, or as lines of a source."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from heapq import heappop, heappush
from typing import Any

import msgspec

from driftline.features.state.event_time import NEVER
from driftline.infra.errors import InfraError
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.archive.topic_history import TopicPast
from driftline.streams.between.stage_record import decode_record
from driftline.streams.declare.event_codec import EventCodec
from driftline.streams.declare.events import Event, moment
from driftline.streams.errors import Refused
from driftline.streams.records.outputs import Target
from driftline.streams.simulation.recording import as_line
from driftline.streams.stages.places import StagePlaces

Bound = int | datetime
"""An offset, or a moment of the broker's append time."""


def bound(text: str) -> Bound:
    """An offset or an RFC 3339 time with its zone; ValueError for anything else."""
    if text.isdecimal():
        return int(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no zone: write {text}Z for UTC")
    return moment


def stretch(
    history: TopicPast, topic: str, partition: int, start: Bound | None, stop: Bound | None
) -> Iterator[ArchivedRecord]:
    """The records of one partition in [start, stop); None is its begin and end, later stops are its end."""

    def offset(at: Bound) -> int:
        if isinstance(at, int):
            return at
        return history.offset_at(topic, partition, max(0, int(at.timestamp() * 1000)))

    begin = history.begin(topic, partition) if start is None else offset(start)
    end = history.end(topic, partition)
    if stop is not None:
        end = min(end, offset(stop))
    for chunk in history.records(topic, partition, begin, end):
        yield from chunk


def printed(
    stretches: Mapping[int, Iterator[ArchivedRecord]], places: StagePlaces | None, *, as_json: bool
) -> Iterator[bytes]:
    """The records of partitions, a line each; with `places` they are between stages."""
    shown = record_as_json if as_json else record_as_text
    for number, records in stretches.items():
        for record in records:
            yield shown(number, record if places is None else between_stages(record, places)) + b"\n"


def record_as_text(partition: int, record: ArchivedRecord) -> bytes:
    """partition:offset, key and value, with tabs between."""
    return b"%d:%d\t%s\t%s" % (partition, record.offset, record.key or b"", record.value or b"")


def record_as_json(partition: int, record: ArchivedRecord) -> bytes:
    """{partition, offset, source, headers, key, value}: `headers` are the others, where there are any.

    A value that is JSON stands there as it is, else as text, else as {"base64": ...}.
    """
    shown: dict[str, Any] = {"partition": partition, "offset": record.offset}
    headers = {name: _text(value) for name, value in record.headers}
    if "source" in headers:
        shown["source"] = headers.pop("source")
    if headers:
        shown["headers"] = headers
    return msgspec.json.encode(shown | {"key": _text(record.key), "value": _value(record.value)})


def between_stages(record: ArchivedRecord, places: StagePlaces) -> ArchivedRecord:
    """A record between stages, its value as JSON: who wrote it, for which record of its own topic, how far
    time is there, and the event with what was read on its way."""
    sent = decode_record(record.value)
    shown: dict[str, Any] = {
        "from": places.name(Target(*sent.writer)),
        "number": sent.number,
        "source": f"{sent.offset}:{sent.ordinal}",
        "watermark": None if sent.watermark == NEVER else moment(sent.watermark),
    }
    if sent.event:
        shown |= {"event": msgspec.Raw(sent.event), "read": sent.read}
    if sent.refused is not None:
        shown["refused"] = sent.refused
    return record._replace(value=msgspec.json.encode(shown))


def _value(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        parsed = msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _text(value)
    return parsed if b"\n" in value else msgspec.Raw(value)


def _text(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


OnRefused = Callable[[int, ArchivedRecord, Refused], None]
"""Gets the partition, a record that is no event, and why."""


def as_source(
    partitions: Mapping[int, Iterator[ArchivedRecord]], codec: EventCodec, on_refused: OnRefused
) -> Iterator[bytes]:
    """The log's events as one source, that is laid out as this log again.

    Keyed events keep their partition's order, and those of several partitions come in the order of time, so
    that they may as well go into another number of partitions; one that every partition received comes once,
    after all that precedes it and before all that follows it in any of them. Records that are no events are
    passed to `on_refused` and left out. Raises InfraError when the partitions received such events in
    different orders, or not all of them: no one source gives that log.
    """
    logs = {number: _events(number, records, codec, on_refused) for number, records in partitions.items()}
    heads: list[tuple[float, int, bytes]] = []
    shared: dict[int, tuple[int, bytes]] = {}

    def go_on(number: int) -> None:
        """Look at a partition's next event."""
        found = next(logs[number], None)
        if found is None:
            return
        record, event, line = found
        if codec.key(event) is None:
            shared[number] = record.offset, line
        else:
            heappush(heads, (event.at.timestamp(), number, line))

    while True:
        shared.clear()
        for number in logs:
            go_on(number)
        while heads:
            _, number, line = heappop(heads)
            yield line
            go_on(number)
        if not shared:
            return
        lines = {line for _, line in shared.values()}
        if len(lines) > 1 or len(shared) < len(logs):
            places = ", ".join(f"{number}:{offset}" for number, (offset, _) in shared.items())
            raise InfraError(
                "the partitions did not receive the same events without key in the same order (at "
                f"{places}), so no one source gives this log: replay one --partition"
            )
        yield lines.pop()


def as_recorded(
    partitions: Mapping[int, Iterator[ArchivedRecord]], codec: EventCodec, on_refused: OnRefused
) -> Iterator[bytes]:
    """The log's events as a source that keeps their partitions and append times (see
    `driftline.streams.simulation.recording`).

    Records that are no events are passed to `on_refused` and left out.
    """
    for number, records in partitions.items():
        for record, _, line in _events(number, records, codec, on_refused):
            yield as_line(number, record.timestamp, line)


def _events(
    number: int, records: Iterator[ArchivedRecord], codec: EventCodec, on_refused: OnRefused
) -> Iterator[tuple[ArchivedRecord, Event, bytes]]:
    """Records of a partition that are events, with the event, and with its JSON on one line."""
    for record in records:
        try:
            event = codec.decode(record.value, record.key)
        except Refused as refused:
            on_refused(number, record, refused)
            continue
        line = codec.encode_trusted(event) if b"\n" in (record.value or b"") else record.value
        assert line is not None  # decode refuses a record without value
        yield record, event, line
