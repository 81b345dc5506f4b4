"""Where events come from outside Kafka, and how they are laid out as a log."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import msgspec.structs

from streams.errors import DeclarationError
from streams.events import SYSTEM_EVENTS, Clock, Event, Reference, Serve, WarmUp, moment
from streams.partitioning import partition_of
from streams.usecase import UseCase, load


class LogRecord(NamedTuple):
    """One record of a simulated log."""

    offset: int
    key: bytes | None
    value: bytes


def open_source(case: UseCase, source: str | None, limit: int | None = None) -> Iterator[Event]:
    """Events of `source`: module:function, a .jsonl, .csv or .parquet file, or - for standard input.

    None means the case's own. `limit` counts events. Files hold a `type` column and the fields.
    """
    name = source or case.source
    if name is None:
        raise DeclarationError(f"{case.name} declares no source: name a file or module:function")
    if name == "-":
        events = _lines(case, sys.stdin.buffer)
    elif name.endswith((".jsonl", ".csv", ".parquet")):
        events = _file(case, Path(name))
    else:
        events = iter(load(name)())
    return islice(events, limit)


def _file(case: UseCase, path: Path) -> Iterator[Event]:
    if not path.exists():
        raise DeclarationError(f"source {path} does not exist")
    if path.suffix == ".jsonl":
        with path.open("rb") as lines:
            yield from _lines(case, lines)
        return
    union = _union(case)
    kinds: list[type[Event]] = [*case.events, *SYSTEM_EVENTS]
    types = {event.__struct_config__.tag: event for event in kinds}
    for number, row in enumerate(_rows(path), 1):
        event_type = types.get(row.get("type"))
        required = _required(event_type) if event_type is not None else ()
        # a table has the columns of all types: an empty cell is a value only where one is required
        fields = {name: value for name, value in row.items() if value is not None or name in required}
        at = fields.get("at")
        if isinstance(at, datetime) and at.tzinfo is None:
            fields["at"] = at.replace(tzinfo=UTC)
        try:
            yield msgspec.convert(fields, union, strict=False)
        except msgspec.ValidationError as error:
            raise DeclarationError(f"{path}, row {number}: {error}") from error


@cache
def _required(event_type: type[Event]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(event_type) if field.required)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                yield {name: value or None for name, value in row.items()}
    else:
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            yield from (row for batch in file.iter_batches(8192) for row in batch.to_pylist())


def _union(case: UseCase) -> Any:
    from typing import Union

    return Union[(*case.events, *SYSTEM_EVENTS)]


def _lines(case: UseCase, lines: IO[bytes]) -> Iterator[Event]:
    decoder = msgspec.json.Decoder(_union(case))
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise DeclarationError(f"line {number}: {error}") from error


def with_closing_clock(case: UseCase, events: Iterable[Event]) -> Iterator[Event]:
    """The events, then clock events far enough on that nothing stays pending."""
    newest: float | None = None
    for event in events:
        if not isinstance(event, Reference):
            at = event.at.timestamp()
            newest = at if newest is None or at > newest else newest
        yield event
    if newest is None:
        return
    end = newest + case.task.label.wait + case.lateness + 1.0
    step = case.max_jump
    number = 0
    while newest < end:
        newest = min(end, newest + step)
        yield Clock(id=f"clock:{case.name}:end:{number}", at=moment(newest))
        number += 1


def as_warm_up(case: UseCase, events: Iterable[Event]) -> Iterator[Event]:
    """The events between the markers that make them history: learned from, and nothing put out."""
    at: datetime | None = None
    for event in events:
        if at is None:
            yield WarmUp(id=f"warm-up:{case.name}", at=event.at)
        at = event.at
        yield event
    if at is not None:
        yield Serve(id=f"serve:{case.name}", at=at)


def layout(case: UseCase, events: Iterable[Event], partitions: int) -> Iterator[tuple[int, LogRecord]]:
    """(partition, record) for every event, offsets from 0; broadcast events once a partition."""
    codec = case.codec()
    offsets = [0] * partitions
    placed: dict[bytes, int] = {}
    everywhere = range(partitions)
    for event in events:
        value = codec.encode_trusted(event)
        key = codec.key(event)
        if key is None:
            targets: Iterable[int] = everywhere
        else:
            home = placed.get(key)
            if home is None:
                home = placed[key] = partition_of(key, partitions)
            targets = (home,)
        for partition in targets:
            offset = offsets[partition]
            offsets[partition] = offset + 1
            yield partition, LogRecord(offset, key, value)
