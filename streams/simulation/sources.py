"""Sources of events outside Kafka, and how they are laid out as a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import msgspec.structs

from driftline.features.declare.field_types import field_types
from driftline.features.state.event_time import NEVER
from driftline.streams.declare.event_codec import advice
from driftline.streams.declare.events import (
    SYSTEM_EVENTS,
    Clock,
    Command,
    Event,
    Reference,
    Serve,
    WarmUp,
    moment,
)
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.retirement import EventDecoder
from driftline.streams.declare.usecase import UseCase, load_object
from driftline.streams.errors import DeclarationError, StreamsError
from driftline.streams.fold.watermark import Watermark
from driftline.streams.simulation import tables
from driftline.streams.simulation.recording import LineDecoder, Recorded
from driftline.streams.simulation.tables import Reading, UnreadableTable

AS_IT_IS = Reading()
Entry = TypeVar("Entry", Event, Event | Recorded)


Placement = tuple[bytes | None, int | None]
"""The key of an event's record, and its partition; None for every one."""


class LogRecord(NamedTuple):
    """One record of a simulated log; `timestamp` is its append time in ms, where one was given."""

    offset: int
    key: bytes | None
    value: bytes
    timestamp: int = -1


def open_source(
    case: UseCase,
    source: str | None,
    limit: int | None = None,
    reading: Reading = AS_IT_IS,
) -> Iterator[Event]:
    """Events of `source`: module:function, a table (see `driftline.streams.simulation.tables`), or - for JSON
    lines on standard
    input. None means the case's own. `limit` counts events.

    Tables hold a `type` column and the fields. Raises DeclarationError and UnreadableTable.
    """
    return map(_event_of, open_log(case, source, limit, reading))


def open_log(
    case: UseCase,
    source: str | None,
    limit: int | None = None,
    reading: Reading = AS_IT_IS,
) -> Iterator[Event | Recorded]:
    """As `open_source`; recorded events (`replay --values` of a live case) keep their partition and append
    time."""
    name = source or case.source
    if name is None:
        raise DeclarationError(f"{case.name} declares no source: name a file or module:function")
    if name == "-":
        events = _from_lines(case, "standard input", sys.stdin.buffer)
    elif tables.is_table(Path(name)) or Path(name).is_file():
        events = _from_table(case, Path(name), reading)
    else:
        events = _from_function(name, load_object(name))
    return islice(events, limit)


def _from_function(name: str, source: Callable[[], Iterable[Event | Recorded]]) -> Iterator[Event | Recorded]:
    """The events that a user's function yields; if it calls `sys.exit()`, it has not reached its end."""
    try:
        yield from source()
    except SystemExit as error:
        raise StreamsError(f"source {name} ended early: it raised SystemExit({error.code!r})") from error


def _event_of(entry: Event | Recorded) -> Event:
    return entry.event if isinstance(entry, Recorded) else entry


def _from_table(case: UseCase, path: Path, reading: Reading) -> Iterator[Event | Recorded]:
    if not path.exists():
        raise DeclarationError(f"source {path} does not exist")
    if reading.zone is None and tables.format_of(path) in tables.LINES:
        # decoded straight to events, which is much faster
        with tables.open_bytes(path) as stream:
            yield from _from_lines(case, str(path), stream)
        return
    decoder = _decoder(case)
    kinds: list[type[Event]] = [*case.events, *SYSTEM_EVENTS]
    types = {event.__struct_config__.tag: event for event in kinds}
    times = _Times(reading.zone)
    for number, row in tables.rows(path, reading.encoding):
        event_type = types.get(row.get("type"))
        required = _required(event_type) if event_type is not None else ()
        # a table has the columns of all types: an empty cell is a value only where one is required
        fields = {name: value for name, value in row.items() if not _is_empty(value) or name in required}
        try:
            if event_type is not None:
                times.complete(fields, event_type)
            yield decoder.convert(fields)
        except (msgspec.ValidationError, ValueError) as error:
            hint = advice(str(error), case.events)
            raise UnreadableTable(f"{path}, row {number}: {error}{hint}") from error


def _is_empty(value: Any) -> bool:
    return value is None or value != value  # many tables write NaN for a missing value


class _Times:
    """Gives times without a zone the declared one."""

    def __init__(self, zone: str | None) -> None:
        try:
            self._zone = None if zone is None else ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise DeclarationError(
                f"{zone!r} is no time zone: name one such as UTC or Europe/Paris"
            ) from None

    def complete(self, fields: dict[str, Any], event_type: type[Event]) -> None:
        """Read the event's times in place; raises ValueError for one without a zone."""
        for name in _times_of(event_type):
            value = fields.get(name)
            if isinstance(value, str):
                value = _spelled(name, value)
            elif isinstance(value, date) and not isinstance(value, datetime):
                value = datetime.combine(value, time())
            if not isinstance(value, datetime):
                continue
            if value.tzinfo is None:
                if self._zone is None:
                    raise ValueError(
                        f"{name} has no zone ({value}): declare it with --zone, such as --zone UTC"
                    )
                value = value.replace(tzinfo=self._zone)
            fields[name] = value


def _spelled(name: str, text: str) -> datetime | str:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        if text.replace(".", "", 1).isdigit():
            return text  # seconds since the epoch
        raise ValueError(f"{name} is {text!r}, which is no time of ISO 8601 (2026-01-31T08:00:00Z)") from None


@cache
def _times_of(event_type: type[Event]) -> tuple[str, ...]:
    """Names of the fields that hold times."""
    hints = field_types(event_type)
    return tuple(
        name
        for name in event_type.__struct_fields__
        if hints[name] is datetime or datetime in get_args(hints[name])
    )


@cache
def _required(event_type: type[Event]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(event_type) if field.required)


def _decoder(case: UseCase) -> EventDecoder[Event]:
    return EventDecoder((*case.events, *SYSTEM_EVENTS))


def _from_lines(case: UseCase, name: str, stream: IO[bytes]) -> Iterator[Event | Recorded]:
    decoder = LineDecoder(_decoder(case))
    for number, line in tables.lines(stream):
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            hint = advice(str(error), case.events)
            raise UnreadableTable(f"{name}, line {number}: {error}{hint}") from error


def with_closing_clock(case: UseCase, events: Iterable[Entry]) -> Iterator[Entry | Event]:
    """The events, then a clock event far enough on that nothing stays pending, whichever the task.

    That is beyond the newest event whose time the fold accepts: otherwise an event that is a year ahead by
    mistake would make all later ones late.
    """
    writing = case.writing
    watermark = Watermark(writing.allowed_lateness, writing.max_jump, writing.clock_skew)
    for entry in events:
        event = _event_of(entry)
        if not isinstance(event, (Reference, Command)):  # which move no time
            at = event.at.timestamp()
            if isinstance(event, Clock):
                watermark.take_clock(at)
            elif watermark.judge(at, event.id) in ("on time", "ahead"):
                watermark.advance(at)
        yield entry
    if watermark.newest != NEVER:
        wait = max(one.task.label.wait for one in case.each())
        end = watermark.newest + wait + writing.allowed_lateness + 1.0
        # the id has its time: another end of the same log gives another event
        yield Clock(id=f"clock:{case.name}:{end:.6f}", at=moment(end))


def as_warm_up(case: UseCase, events: Iterable[Event]) -> Iterator[Event]:
    """The events between the markers of a warm-up: learned from, without any output."""
    at: datetime | None = None
    for event in events:
        if at is None:
            yield WarmUp(id=f"warm-up:{case.name}", at=event.at)
        at = event.at
        yield event
    if at is not None:
        yield Serve(id=f"serve:{case.name}", at=at)


def layout(
    case: UseCase, events: Iterable[Event | Recorded], partitions: int
) -> Iterator[tuple[int, LogRecord]]:
    """(partition, record) for every event, offsets from 0; broadcast events once a partition.

    Recorded ones go only to their own partition, with their append times. Raises UnreadableTable if there is
    no such partition.
    """
    codec = case.codec()
    placed: dict[bytes, int] = {}

    def home(event: Event) -> Placement:
        key = codec.key(event)
        if key is None:
            return None, None
        partition = placed.get(key)
        if partition is None:
            partition = placed[key] = partition_of(key, partitions)
        return key, partition

    return laid_out(case, events, partitions, home)


def with_homes(
    case: UseCase,
    events: Iterable[Event | Recorded],
    partitions: int,
    home: Callable[[Event], Placement],
) -> Iterator[Event | Recorded]:
    """The events; recorded ones as if recorded in the partition that `home` gives them. An event for every
    partition is recorded once if the declaration has one partition, and goes to all."""
    for entry in events:
        if not isinstance(entry, Recorded):
            yield entry
            continue
        partition = home(entry.event)[1]
        if partition is not None:
            yield entry._replace(partition=partition)
        elif case.partitions > 1:
            yield entry
        else:
            yield from (entry._replace(partition=each) for each in range(partitions))


def laid_out(
    case: UseCase,
    events: Iterable[Event | Recorded],
    partitions: int,
    home: Callable[[Event], Placement],
) -> Iterator[tuple[int, LogRecord]]:
    """As `layout`, with `home` giving the key of each event and its partition (None: every partition)."""
    encode = case.codec().encode_trusted
    offsets = [0] * partitions
    everywhere = range(partitions)
    for entry in events:
        event = _event_of(entry)
        value = encode(event)
        key, partition_at_home = home(event)
        appended = -1
        if isinstance(entry, Recorded):
            targets: Iterable[int] = (_checked(entry.partition, partitions),)
            appended = entry.appended
        elif partition_at_home is None:
            targets = everywhere
        else:
            targets = (partition_at_home,)
        for partition in targets:
            offset = offsets[partition]
            offsets[partition] = offset + 1
            yield partition, LogRecord(offset, key, value, appended)


def _checked(partition: int, partitions: int) -> int:
    if partition >= partitions:
        raise UnreadableTable(
            f"an event was recorded in partition {partition}, and here are partitions 0 to {partitions - 1}: "
            "fold the log with as many partitions as it had"
        )
    return partition
