"""The fold of a case of several stages over a file or the case's own source, without Kafka."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator

from driftline.streams.between.stage_record import Accepted
from driftline.streams.declare.case_models import check_models_of
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.processor import Summary
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.records.record import Record
from driftline.streams.simulation.digest import Digests
from driftline.streams.simulation.recording import Recorded
from driftline.streams.simulation.sources import laid_out, with_homes
from driftline.streams.stages.chain import Chain


class SilentPartitionWarning(UserWarning):
    """A partition of the log had no events, so that later stages do not know its event time."""


class ChainSimulation:
    """All stages, fed in the source's order; `cpu_seconds` is the folds' own time.

    Predictions have their source positions in the topic of the stage that answers, other outputs in the last
    one's, and so have the digests.
    """

    def __init__(self, case: UseCase, partitions: int) -> None:
        self.case = case
        self.partitions = partitions
        check_models_of(case)
        self.chain = Chain(case, partitions)
        stages = self.chain.itinerary.plan.stages
        self._digests = Digests(stages[-1].partitions, stages[self.chain.itinerary.serving].partitions)
        self.cpu_seconds = 0.0

    def fold(self, events: Iterable[Event | Recorded]) -> Iterator[tuple[int, Outputs]]:
        """Fold events; yields the outputs of each stage, with its partition there."""
        published_by = (self.chain.itinerary.serving, self.chain.itinerary.last)
        silent = set(range(self.partitions))
        home = self.chain.itinerary.entry
        placed = with_homes(self.case, events, self.partitions, home)
        for partition, record in laid_out(self.case, placed, self.partitions, home):
            if record.key is not None:  # None: an event for every partition
                silent.discard(partition)
            started = time.process_time()
            steps = list(self.chain.step(partition, record))
            self.cpu_seconds += time.process_time() - started
            for one in steps:
                if one.stage in published_by:
                    self._digests.add(one.partition, one.outputs)
                yield one.partition, one.outputs
        if silent:
            warnings.warn(
                f"no events in partitions of the log: {', '.join(map(str, sorted(silent)))}. Time waited for "
                "them: labels had their effect only when a clock event came. Fewer partitions learn sooner",
                SilentPartitionWarning,
                stacklevel=2,
            )

    def digests(self) -> dict[str, str]:
        """Digests of the outputs so far, by kind."""
        return self._digests.as_dict()

    def summary(self) -> Summary:
        """Counts and metrics so far."""
        return self.chain.summary()


def recorded_topics(case: UseCase, events: Iterable[Event]) -> dict[Target, list[Record]]:
    """What comes to each partition of each stage, in the source's order: the log, and what is sent between
    stages."""
    chain = Chain(case, case.partitions)
    topics: dict[Target, list[Record]] = {
        Target(number, partition): []
        for number, stage in enumerate(chain.stages)
        for partition in range(len(stage))
    }
    for partition, record in laid_out(case, events, case.partitions, chain.itinerary.entry):
        topics[Target(0, partition)].append(record)
        for step in chain.step(partition, record):
            for target, value in step.outputs.sends:
                topics[target].append(Accepted(len(topics[target]), None, value))
    return topics
