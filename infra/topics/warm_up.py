"""The warm-up of a log: its progress in each partition, and the history still to be sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from driftline.infra.errors import InfraError
from driftline.streams.archive.log_reader import LogReader
from driftline.streams.clients.producer import EventProducer
from driftline.streams.declare.events import Event, Serve, WarmUp
from driftline.streams.declare.usecase import UseCase
from driftline.streams.simulation.sources import LogRecord, as_warm_up, layout

WarmUpStage = Literal["empty", "under way", "over", "none"]


class Standing(NamedTuple):
    """How far the warm-up of one partition has come: records of history in it, and the last one's value.

    "none": the partition begins with something else, so it can have no warm-up any more.
    """

    stage: WarmUpStage
    records: int = 0
    last: bytes = b""


Placed = tuple[int, bytes | None, bytes]
"""(partition, key, value) of a record to send."""


class _Kind(msgspec.Struct):
    type: str


def standings(bootstrap: str, log: str, partitions: int) -> list[Standing]:
    """Where the warm-up stands in each partition; reads its history."""
    with LogReader(bootstrap) as reader:
        return [_standing(reader, log, number) for number in range(partitions)]


def _standing(reader: LogReader, log: str, partition: int) -> Standing:
    begin, end = reader.extent(log, partition)
    first, records, last = True, 0, b""
    for chunk in reader.chunks(log, partition, begin, end):
        for record in chunk:
            value = record.value or b""
            kind = _kind(value)
            if first:
                if kind != _tag(WarmUp):
                    return Standing("none")
                first = False
            elif kind == _tag(Serve):
                return Standing("over", records, last)
            else:
                records, last = records + 1, value
    if first:
        return Standing("none" if end else "empty")
    return Standing("under way", records, last)


def _kind(value: bytes) -> str:
    try:
        return msgspec.json.decode(value, type=_Kind).type
    except msgspec.MsgspecError:
        return ""


def _tag(kind: type[Event]) -> str:
    return str(kind.__struct_config__.tag)


def send_history(
    producer: EventProducer, case: UseCase, bootstrap: str, log: str, events: Iterable[Event]
) -> int:
    """Send a warm-up, or the rest of an interrupted one; returns the number of records sent."""
    begun = standings(bootstrap, log, case.partitions)
    _refuse_begun(log, begun)
    return _sent(producer, remaining(case, events, begun))


def send_end(producer: EventProducer, case: UseCase, bootstrap: str, log: str) -> int:
    """End a warm-up as it is; returns the number of partitions in which one was under way."""
    begun = standings(bootstrap, log, case.partitions)
    if not any(standing.stage == "under way" for standing in begun):
        raise InfraError(f"{log}: no warm-up is under way")
    return _sent(producer, ends(case, begun))


def _sent(producer: EventProducer, records: Iterable[Placed]) -> int:
    count = 0
    for partition, key, value in records:
        producer.place(partition, key, value)
        count += 1
    return count


def _refuse_begun(log: str, begun: Iterable[Standing]) -> None:
    stages = [standing.stage for standing in begun]
    if "none" in stages or not {"empty", "under way"} & set(stages):
        raise InfraError(
            f"{log} holds records already: only the beginning of a log can be a warm-up. Use another "
            "namespace"
        )


def remaining(case: UseCase, events: Iterable[Event], begun: list[Standing]) -> Iterator[Placed]:
    """What a warm-up with this history still lacks, its markers included.

    Raises InfraError, before there is anything, when a partition holds another history.
    """
    unproved = {n for n, standing in enumerate(begun) if standing.stage == "under way" and standing.records}
    held: list[Placed] = []  # until it is sure that this is the history that was begun
    for partition, record in layout(case, as_warm_up(case, events), case.partitions):
        standing = begun[partition]
        if standing.stage == "over":
            continue
        there = 0 if standing.stage == "empty" else 1 + standing.records
        if record.offset >= there:
            held.append((partition, record.key, record.value))
        elif _kind(record.value) == _tag(Serve) or _differs(record, standing):
            raise InfraError(
                f"partition {partition} holds {standing.records:,} records of another history than this one: "
                "resume with the history that the warm-up began with, or end it by --end-warm-up"
            )
        elif record.offset == standing.records:
            unproved.discard(partition)
        if not unproved:
            yield from held
            held = []


def _differs(record: LogRecord, standing: Standing) -> bool:
    """Whether the last record of history that is there already is another one in this history."""
    return 0 < record.offset == standing.records and record.value != standing.last


def ends(case: UseCase, begun: list[Standing]) -> Iterator[Placed]:
    """The markers that end a warm-up, for the partitions in which it is under way."""
    codec = case.codec()
    value = codec.encode(Serve(id=f"serve:{case.name}", at=datetime.now(UTC)))
    for partition, standing in enumerate(begun):
        if standing.stage == "under way":
            yield partition, None, value
