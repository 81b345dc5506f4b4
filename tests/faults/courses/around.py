"""Faults of what is around the workers: the network, the clock, and others who write to the log.

Registered beside the others; a run is judged in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from kafka import KafkaProducer

from driftline.streams.declare.partitioning import partition_of
from tests.faults.courses.moves import worker_that_answers
from tests.faults.courses.register import FAULTS, Outcome, fault
from tests.faults.lab.feed import PRODUCER
from tests.faults.lab.proxy import Proxy
from tests.faults.lab.run import Run

LASTS = 20.0
"""Seconds that a fault of the network lasts: longer than the group waits for a silent worker."""
NETWORK: dict[str, Callable[[Proxy], None]] = {
    "frozen": Proxy.freeze,
    "delayed": lambda network: network.delay(0.5),
    "half-open": Proxy.half_open,
    "throttled": lambda network: network.throttle(2_000.0),
    "reset": Proxy.reset,
}
"""What the network between worker and broker does, by name."""
CLOCKS = {"day-ahead": 86_400, "day-behind": -86_400, "month-ahead": 30 * 86_400}
"""Seconds by which a worker's clock is wrong, by name."""


def network(run: Run, harm: Callable[[Proxy], None], lasts: float = LASTS) -> Outcome:
    """The worker's network is disturbed for a while; producers and readers are not."""
    run.reached_at = run.lab.network.address
    worker = worker_that_answers(run)
    run.feed_to(0.8)
    harm(run.lab.network)
    run.note(f"the network is disturbed for {lasts:g} s")
    before = sum(run.ends(run.topics.predictions).values())
    time.sleep(lasts)  # the fault itself
    run.note(f"{sum(run.ends(run.topics.predictions).values()) - before} predictions came meanwhile")
    awaited = run.next_prediction()
    run.feed_to(0.95)  # what came through the fault may have been answered already
    run.lab.network.restore()
    run.measure("network back to next prediction", awaited())
    return Outcome(run.settle(worker))


def wrong_worker_clock(run: Run, seconds: float) -> Outcome:
    """A worker with a wrong clock is killed, one with a right clock continues, then the other way round."""
    wrong = ("--clock-off", str(seconds))
    for number, options in enumerate([wrong, (), wrong]):
        worker = run.worker(*options)
        run.feed_to((number + 1) / 3)
        run.until_published((number + run.random.uniform(0.2, 0.9)) / 3)
        if number < 2:
            run.note("SIGKILL")
            worker.kill()
    return Outcome(run.settle(worker))


def _register() -> None:
    for name, harm in NETWORK.items():
        FAULTS[f"network-{name}"] = lambda run, harm=harm: network(run, harm)
    for name, seconds in CLOCKS.items():
        FAULTS[f"worker-clock-{name}"] = lambda run, seconds=seconds: wrong_worker_clock(run, seconds)


_register()


@fault
def transactions(run: Run) -> Outcome:
    """Others' transactions in the log: committed, aborted, and one left open, which readers wait for."""
    run.log_is_the_source = False
    worker = run.worker()
    run.feed_to(0.3)
    run.until_published(run.random.uniform(0.05, 0.25))
    with_others = KafkaProducer(
        bootstrap_servers=run.lab.bootstrap, transactional_id=f"{run.namespace}.other", **PRODUCER
    )
    try:
        with_others.init_transactions()
        for ends in (with_others.commit_transaction, with_others.abort_transaction):
            _begin(run, with_others)
            ends()
        _begin(run, with_others)
        run.note("a transaction is open")
        run.feed_to(0.7)
        run.until_fed()
        awaited = run.next_prediction()
        with_others.abort_transaction()
        run.measure("transaction ended to next prediction", awaited())
    finally:
        with_others.close()
    return Outcome(run.settle(worker))


def _begin(run: Run, producer: KafkaProducer) -> None:
    """Some events of the source once more, with ids of their own, in a transaction that stays open."""
    codec = run.case.codec()
    producer.begin_transaction()
    for event in run.random.sample(run.events[: len(run.events) // 4], 50):
        key = codec.key(event)
        partitions = range(run.case.partitions) if key is None else [partition_of(key, run.case.partitions)]
        for partition in partitions:
            producer.send(run.topics.log, codec.encode(event), key=key, partition=partition)
    producer.flush()


@fault
def foreign_partitioner(run: Run) -> Outcome:
    """Events in other partitions than their keys' are dead letters; a SIGKILL among them."""
    worker = run.worker()
    for number in range(3):
        run.feed_to((number + 1) / 4)
        run.until_fed()
        misplaced(run, 20)
    run.until_published(run.random.uniform(0.2, 0.5))
    run.note("SIGKILL")
    worker.kill()
    return Outcome(run.settle(run.worker()))


def misplaced(run: Run, records: int) -> None:
    """Append so many events of the source to the partition beside their key's."""
    codec, count = run.case.codec(), run.case.partitions
    keyed = [(key, event) for event in run.events if (key := codec.key(event)) is not None]
    run.inject(
        (key, codec.encode(event), (partition_of(key, count) + 1) % count)
        for key, event in run.random.sample(keyed, records)
    )
