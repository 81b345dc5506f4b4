"""The gain by replicas: one model that answers in one process, against a learner and two replicas in three.

Each process folds the recorded topic of its own stage, without a broker. If each has a core, the busiest
process limits the rate. It is measured in CPU time, which excludes other work on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

from river import forest

from driftline import MINUTE, Binary, Event, Label, Member, Shared, UseCase, field
from driftline.streams.between.activations import NotSealed
from driftline.streams.between.stage_record import Accepted
from driftline.streams.records.outputs import Target
from driftline.streams.simulation.sources import laid_out, with_closing_clock
from driftline.streams.stages.chain import Chain
from driftline.streams.stages.stage_fold import StageFold

FEATURES = [f"f{number}" for number in range(10)]
START = datetime(2024, 5, 6, tzinfo=UTC)


class Ask(Event, tag="ask"):
    order: str
    f0: float
    f1: float
    f2: float
    f3: float
    f4: float
    f5: float
    f6: float
    f7: float
    f8: float
    f9: float


class Known(Event, tag="known"):
    order: str
    bad: bool


def trees() -> forest.ARFClassifier:
    """Ten trees."""
    return forest.ARFClassifier(n_models=10, seed=1)


def case_of(replicas: int, every: int) -> UseCase:
    """The case with `replicas`, which publishes its pool every `every` labels."""
    return UseCase(
        "orders",
        key="order",
        events=[Ask, Known],
        features={name: field(name) for name in FEATURES},
        task=Binary("bad", ask=Ask, label=Label(Known, on="order", value=lambda e: e.bad, wait=10 * MINUTE)),
        models=Shared(Member("trees", trees), replicas=replicas, publish_every=every, monitoring=None),
        partitions=2,
    )


def events(requests: int, labelled: float) -> Iterator[Event]:
    """Requests, a second apart, a share of which is labelled a second later."""
    random = Random(1)
    for number in range(requests):
        at = START + timedelta(seconds=number)
        values = {name: random.random() for name in FEATURES}
        yield Ask(id=f"a{number}", at=at, order=f"o{number}", **values)
        if random.random() < labelled:
            bad = values["f0"] + values["f1"] * values["f2"] > 0.8
            yield Known(id=f"k{number}", at=at + timedelta(seconds=0.5), order=f"o{number}", bad=bad)


class Work(NamedTuple):
    """The records of one partition of a stage, for a process of its own."""

    replicas: int
    every: int
    target: Target
    records: list[bytes]


def recorded(case: UseCase, requests: int, labelled: float) -> tuple[Chain, dict[Target, list[bytes]]]:
    """The records that are sent to each partition behind the log."""
    topics: dict[Target, list[bytes]] = {}
    chain = Chain(case, case.partitions)
    happened = with_closing_clock(case, events(requests, labelled))
    for partition, record in laid_out(case, happened, case.partitions, chain.itinerary.entry):
        for folded in chain.step(partition, record):
            for target, value in folded.outputs.sends:
                topics.setdefault(target, []).append(value)
    return chain, topics


def fold(work: Work) -> float:
    """Seconds of CPU that a partition takes, 500 records at a time."""
    case = case_of(work.replicas, work.every)
    itinerary = Chain(case, case.partitions).itinerary
    one = StageFold(case, itinerary, *work.target, seal=NotSealed())
    records = [Accepted(offset, None, value) for offset, value in enumerate(work.records)]
    started = time.process_time()
    for first in range(0, len(records), 500):
        one.step(records[first : first + 500])
    return time.process_time() - started


def measured(replicas: int, every: int, requests: int, labelled: float) -> dict[str, float]:
    """Seconds of CPU of the busiest process, and of all."""
    chain, topics = recorded(case_of(replicas, every), requests, labelled)
    behind = [target for target in topics if target.stage >= chain.itinerary.serving]
    with ProcessPoolExecutor(len(behind)) as pool:
        spent = list(pool.map(fold, [Work(replicas, every, target, topics[target]) for target in behind]))
        return {"busiest": max(spent), "all": sum(spent)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=6_000)
    parser.add_argument("--labelled", type=float, default=0.1, help="share of the requests that get a label")
    parser.add_argument("--publish-every", type=int, default=100)
    given = parser.parse_args()
    found = {
        name: measured(replicas, given.publish_every, given.requests, given.labelled)
        for name, replicas in (("one pool", 0), ("two replicas", 2))
    }
    gain = found["one pool"]["busiest"] / found["two replicas"]["busiest"]
    print(json.dumps({"cores": os.cpu_count(), **vars(given), **found, "gain": gain}, indent=2))


if __name__ == "__main__":
    main()
