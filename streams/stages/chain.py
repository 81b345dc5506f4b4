"""All stages of a case in one process, folded in the order of the log: a pure function of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from driftline.online_models.pool.report import merged_report
from driftline.streams.between.activations import NotSealed
from driftline.streams.between.stage_record import Accepted
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import DeclarationError
from driftline.streams.fold.label_join import LabelTally
from driftline.streams.fold.processor import Summary, added
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.records.record import Record
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.stage_fold import StageFold


class Told(NamedTuple):
    """The outputs of a partition of a stage."""

    stage: int
    partition: int
    outputs: Outputs


class Chain:
    """The stages of a case on so many partitions, each with a log of its own.

    The effects of a record of the log go through all stages before the next record comes: that is the order
    in which records of several writers meet. In a cluster it is the one in which the broker appended them.
    Raises DeclarationError where one stage is enough. Pools for replicas go no further than this process:
    they need no seal.
    """

    def __init__(self, case: UseCase, partitions: int, *, rows: bool = False) -> None:
        case = replace(case, partitions=partitions)
        if not case.plan.is_chain:
            raise DeclarationError(f"{case.name} on {partitions} partitions is one stage, and no chain")
        self.itinerary = Itinerary(case, case.plan)
        self.stages = [
            [
                StageFold(case, self.itinerary, number, partition, rows=rows, seal=NotSealed())
                for partition in range(stage.partitions)
            ]
            for number, stage in enumerate(self.itinerary.plan.stages)
        ]
        self._ends = [[0] * len(stage) for stage in self.stages]

    def step(self, partition: int, record: Record) -> Iterator[Told]:
        """Fold one record of the log, and all that it causes."""
        out = self.stages[0][partition].step((record,))
        yield Told(0, partition, out)
        waiting = deque(out.sends)
        while waiting:
            (number, place), value = waiting.popleft()
            out = self.stages[number][place].step((self._appended(Target(number, place), value),))
            yield Told(number, place, out)
            waiting.extend(out.sends)

    def _appended(self, target: Target, value: bytes) -> Record:
        offset = self._ends[target.stage][target.partition]
        self._ends[target.stage][target.partition] = offset + 1
        return Accepted(offset, None, value)

    def summary(self) -> Summary:
        """Counts added over the partitions, and metrics merged."""
        folds = [fold for stage in self.stages for fold in stage]
        pools = [pool for fold in folds for pool in fold.pools()]
        labels = sum((fold.labels for fold in folds), LabelTally())
        return Summary(added(fold.counts() for fold in folds), labels, merged_report(pools))
