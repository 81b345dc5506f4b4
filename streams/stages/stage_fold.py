"""The fold over one partition of a stage: pure, deterministic, from records to what it sends and puts out."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from driftline.errors import pass_interrupt
from driftline.online_models.errors import reason_of
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import FoldFault, StreamsError
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.record import Record
from driftline.streams.stages.feature_stage import FeatureStage
from driftline.streams.stages.intake_stage import IntakeStage
from driftline.streams.stages.itinerary import Itinerary
from driftline.streams.stages.last_stage import LastStage
from driftline.streams.stages.sender import Send, Sender
from driftline.streams.stages.stage_record import Writer

TICKS_IN_A_WAIT = 1024
"""How often at least, within the wait for a label, a stage tells the time to each that it writes to."""
SHORTEST_TICK = 1.0
"""Seconds of event time between two ticks, at least."""


class StageWork(Protocol):
    """What one kind of stage does with its records."""

    @property
    def offset(self) -> int: ...
    def fold(self, records: Sequence[Record], out: Outputs) -> None: ...
    def state(self) -> Any: ...
    def restore(self, state: Any) -> None: ...


class StageStep(NamedTuple):
    """What records of a stage cause: `sends` to the stages behind it, in order, and what users see."""

    sends: list[Send]
    outputs: Outputs


class StageFold:
    """State and step of one partition of a stage.

    However the same records are cut into steps, what is sent and put out has the same bytes.
    """

    def __init__(
        self, case: UseCase, itinerary: Itinerary, number: int, partition: int, *, rows: bool = False
    ) -> None:
        self.number = number
        self.partition = partition
        self.next_offset = 0
        step = max(SHORTEST_TICK, case.task.label.wait / TICKS_IN_A_WAIT)
        self._sender = Sender(Writer(number, partition), itinerary.targets(number), step)
        self.work = _work(case, itinerary, number, partition, self._sender, rows)

    def step(self, records: Sequence[Record]) -> StageStep:
        """Fold records of this partition, in its order. Raises FoldFault, after which the state is not whole;
        no event that is refused does that."""
        out = Outputs()
        try:
            self.work.fold(records, out)
        except StreamsError:
            raise
        except BaseException as error:
            pass_interrupt(error)
            raise FoldFault(self.partition, self.work.offset, reason_of(error)) from error
        if records:
            self.next_offset = records[-1].offset + 1
        return StageStep(self._sender.take(), out)

    def snapshot(self) -> bytes:
        """The pickled state. One pickle, so that what is shared within it stays shared."""
        return pickle.dumps((self.next_offset, self._sender.state(), self.work.state()), protocol=5)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot, which must come from a trusted place."""
        self.next_offset, told, state = pickle.loads(snapshot)
        self._sender.restore(told)
        self.work.restore(state)


def _work(
    case: UseCase, itinerary: Itinerary, number: int, partition: int, sender: Sender, rows: bool
) -> IntakeStage | FeatureStage | LastStage:
    if number == 0:
        return IntakeStage(case, itinerary, partition, sender, rows)
    if number == itinerary.last:
        return LastStage(case, itinerary, partition)
    return FeatureStage(case, itinerary, number, sender, rows)
