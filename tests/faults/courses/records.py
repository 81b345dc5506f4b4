"""Faults of the records: no events, events out of order, events with a wrong time."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from driftline.streams.declare.partitioning import partition_of
from tests.faults.courses.moves import (
    killed,
)
from tests.faults.courses.register import Outcome, fault
from tests.faults.lab.run import Run


@fault
def poison(run: Run) -> Outcome:
    """Records that are no events, and oversized ones, among the events; a SIGKILL among them."""
    worker = run.worker()
    for number in range(3):
        run.feed_to((number + 1) / 4)
        run.inject(
            (
                run.random.choice([None, b"EWR", b"nobody"]),
                run.random.choice([b"", b"no json", run.random.randbytes(50), b"x" * 1_000_000]),
                run.random.randrange(run.case.partitions),
            )
            for _ in range(10)
        )
    run.until_published(run.random.uniform(0.3, 0.7))
    worker = killed(run, worker)
    return Outcome(run.settle(worker))


@fault
def disorder(run: Run) -> Outcome:
    """Events that come twice, late and out of order; a SIGKILL among them."""
    run.log_is_the_source = False
    events = run.events
    for _ in range(len(events) // 20):
        _disorder(run, run.random.choice([1, 5, 20]))
    for _ in range(3):
        _disorder(run, 500)  # what it jumps over comes too late
    worker = run.worker()
    run.feed_to(0.7)
    run.until_fed()
    run.until_passed(worker, run.random.uniform(0.5, 0.9))
    run.feed_to(1)  # something to predict is left, however fast the worker is
    worker = killed(run, worker)
    return Outcome(run.settle(worker))


def _disorder(run: Run, distance: int) -> None:
    """An event comes again so many events later, or changes places with the one there."""
    events = run.events
    index = run.random.randrange(len(events) - 1)
    far = min(len(events) - 1, index + distance)
    if run.random.random() < 0.5:
        events.insert(far, events[index])
    else:
        events[index], events[far] = events[far], events[index]


@fault
def wrong_clock(run: Run) -> Outcome:
    """Events dated 2099 expire nothing; a SIGKILL among them."""
    worker = run.worker()
    codec = run.case.codec()
    asked = [event for event in run.events if isinstance(event, run.case.task.ask)]
    for number in range(3):
        run.feed_to((number + 1) / 4)
        run.until_fed()  # three in a row would agree with each other, and move time
        template = run.random.choice(asked)
        wrong = msgspec.structs.replace(
            template, id=f"{template.id}-2099", at=datetime(2099, 1, 1, tzinfo=UTC)
        )
        key = codec.key(wrong)
        assert key is not None
        run.inject([(key, codec.encode(wrong), partition_of(key, run.case.partitions))])
    run.until_published(run.random.uniform(0.2, 0.6))
    run.feed_to(1)  # something to predict is left, however fast the worker is
    worker = killed(run, worker)
    return Outcome(run.settle(worker))
