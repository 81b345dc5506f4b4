"""What the fold costs as a case grows: the payments case on one partition, one model for all, features by
three keys. From memory, in a process of its own, whose resident memory is then that of the state.

python -m driftline.bench.speed.scale CARDS EVENTS SECONDS_BETWEEN
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from time import process_time
from typing import Any, NamedTuple

from driftline.bench.cases import without_extras
from driftline.examples.payments import payments
from driftline.examples.payments.events import Disputed, Payment
from driftline.garbage_collection import seldom_collected
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.simulation.sources import LogRecord
from driftline.streams.status.worker_status import resident_bytes

CHUNK = 500
START = datetime(2024, 1, 1, tzinfo=UTC)
DISPUTED = 0.02
"""Share of the payments that are disputed, about as many of the next payments later as there are cards."""


class Size(NamedTuple):
    """How large a run is; `seconds_between` two payments decides how many are in windows, and open."""

    cards: int
    events: int
    seconds_between: float


SIZES = {
    "few_cards": Size(1_000, 200_000, 1.0),
    "many_cards": Size(100_000, 200_000, 1.0),
    "many_events": Size(10_000, 1_000_000, 60.0),
}
"""The first two differ in the cards alone, and nearly all their payments wait at the end. The third is in a
steady state: what is older than its windows and its 14 days of waiting has gone."""


def scaled() -> UseCase:
    """The payments case on one partition, its champion alone."""
    return replace(without_extras(payments), partitions=1)


def events(size: Size) -> Iterator[Event]:
    """Payments with cards drawn alike, and disputes, for ever."""
    random = Random(7)
    number = 0
    while True:
        number += 1
        at = START + timedelta(seconds=number * size.seconds_between)
        card = random.randrange(size.cards)
        yield Payment(
            id=f"payment-{number}",
            at=at,
            payment=f"p{number}",
            card=f"c{card}",
            merchant=f"m{random.randrange(size.cards) // 10}",
            device=f"d{card}",
            country="ES",
            amount=round(random.lognormvariate(3.3, 0.6), 2),
        )
        if random.random() < DISPUTED:
            payment = max(1, number - random.randrange(1_000))
            yield Disputed(id=f"disputed-{number}", at=at, payment=f"p{payment}")


def chunks(case: UseCase, size: Size) -> Iterator[list[LogRecord]]:
    """The log, made as it is read."""
    return chunked(case, islice(events(size), size.events))


def chunked(case: UseCase, happened: Iterable[Event], first: int = 0) -> Iterator[list[LogRecord]]:
    """A log of these events from the `first` offset on, encoded as it is read."""
    codec = case.codec()
    records = (
        LogRecord(offset, codec.key(event), codec.encode(event))
        for offset, event in enumerate(happened, first)
    )
    while chunk := list(islice(records, CHUNK)):
        yield chunk


def resident_mb() -> float:
    """Resident memory of this process now, in MB; its largest so far would begin with that of its parent."""
    return resident_bytes() / 2**20


@seldom_collected()  # as wherever a case is folded
def measure(size: Size) -> dict[str, Any]:
    """CPU us an event of the fold alone, and MB that it has added to the process."""
    case = scaled()
    processor = PartitionProcessor(case, 0)
    processor.step(next(chunks(case, size))[:1])  # imports and compiles what is needed
    processor = PartitionProcessor(case, 0)
    before, spent, predictions = resident_mb(), 0.0, 0
    for chunk in chunks(case, size):
        begun = process_time()
        out = processor.step(chunk)
        spent += process_time() - begun
        predictions += len(out.predictions)
    return {
        "cpu_us_per_event": spent / size.events * 1e6,
        "resident_mb": resident_mb() - before,
        "predictions": predictions,
        "open": processor.intake.label_join.open,
    } | size._asdict()


if __name__ == "__main__":
    pin()
    cards, count, seconds_between = sys.argv[1:]
    print(json.dumps(measure(Size(int(cards), int(count), float(seconds_between)))))
