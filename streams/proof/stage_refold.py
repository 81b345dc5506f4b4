"""A partition of a stage, folded again from its topic as the code of this process did in one epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from driftline.streams.archive.epochs import Code, CodeEpoch, asked_before, recorded_epochs
from driftline.streams.archive.topic_history import Past
from driftline.streams.between.activations import Sealing
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import StreamsError
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.records.ports import Place, StoredRecord
from driftline.streams.records.positions import SourcePosition, source_of
from driftline.streams.stages.places import StagePlaces
from driftline.streams.stages.stage_fold import StageFold
from driftline.streams.stages.succession import IntakeSuccession, Legacy, Succession


class StageRefold:
    """The fold of a partition of a stage from its topic's start. Where this code took over from other code,
    what that had published stands again. Raises StreamsError where some of that is missing."""

    def __init__(
        self,
        case: UseCase,
        places: StagePlaces,
        code: Code,
        past: Past,
        target: Target,
        seal: Sealing | None = None,
    ) -> None:
        itinerary = places.itinerary
        assert itinerary is not None
        self.first_position = places.first_position if target.stage else 0
        """The source position of the topic's offset 0."""
        fold = StageFold(case, itinerary, *target, seal=seal, first_position=self.first_position)
        self._fold = fold
        self._succession: Succession | None = None
        self._intake: IntakeSuccession | None = None
        if places.number and target.stage == 0:
            begins = _own(recorded_epochs(past, *places.outputs(target)["dead_letters"]), code, places.number)
            if begins:
                unanswered = _unanswered(past, places, code)
                self._intake = IntakeSuccession(fold, begins[-1].forgets_at, unanswered)
        if places.number and target.stage == itinerary.last:
            outputs = places.outputs(target)
            epochs = recorded_epochs(past, *outputs["models"])
            own = _own(epochs, code, places.number)
            if own:
                self._succession = Succession(case, fold, asked_before(epochs, own[-1]))
                predictions, outcomes = (
                    _published(past, outputs[kind], own[-1].tails[kind])
                    for kind in ("predictions", "outcomes")
                )
                self._succession.tell(predictions, outcomes)
                self._legacy = Legacy(own[-1].from_offset, own[-1].settled, own[-1].reached)

    def step(self, records: Sequence[StoredRecord]) -> Outputs:
        """As `StageFold.step`."""
        if self._intake is not None:
            return self._intake.step(records)
        if self._succession is None:
            return self._fold.step(records)
        return self._succession.step(records, self._legacy)


def _own(epochs: Sequence[CodeEpoch], code: Code, number: int) -> list[CodeEpoch]:
    return [epoch for epoch in epochs if epoch.code == code and epoch.number == number]


def _unanswered(past: Past, places: StagePlaces, code: Code) -> Iterator[str]:
    """The requests that the code before had refused when this code took its answering partitions over."""
    for target in places.targets_of(places.count - 1):
        for epoch in _own(recorded_epochs(past, *places.outputs(target)["models"]), code, places.number):
            yield from epoch.unanswered


def _published(past: Past, place: Place, tail: SourcePosition) -> Iterator[bytes]:
    """The outputs of a place up to a source position."""
    begin, end = past.begin(*place), past.end(*place)
    if begin > 0:
        raise StreamsError(
            f"{place}: offsets [0, {begin}) are missing. This code took over from other code and went on "
            "from what that had published: name an archive that has them"
        )
    for records in past.records(*place, begin, end):
        for record in records:
            position = source_of(record.headers)
            if position is None:
                continue
            if position > tail:
                return
            yield record.value or b""


def epoch_number(past: Past, places: StagePlaces, code: Code) -> int:
    """The number of the newest epoch in which this code served a chain; 0 where it has not yet."""
    last = places.targets_of(places.count - 1)
    epochs = [epoch for one in last for epoch in recorded_epochs(past, *places.outputs(one)["models"])]
    return max((epoch.number for epoch in epochs if epoch.code == code), default=0)


def stage_epochs(places: StagePlaces, past: Past, target: Target) -> Sequence[CodeEpoch]:
    """The code epochs that decide what is compared of a partition of a stage. Those of the last stage are of
    its partitions. The intake tells of those behind the first with its dead letters; the stages between
    publish nothing, and are this code's where any of the last stage is."""
    last = places.count - 1
    if target.stage == last:
        return recorded_epochs(past, *places.outputs(target)["models"])
    answering = [places.outputs(one)["models"] for one in places.targets_of(last)]
    epochs = [epoch for place in answering for epoch in recorded_epochs(past, *place)]
    numbered = {epoch.number: epoch for epoch in epochs}
    if target.stage:
        own = numbered.get(places.number)
        return [] if own is None else [_of_stage(own, target)]
    first = [_of_stage(numbered[min(numbered)], target)] if numbered else []
    return [*first, *recorded_epochs(past, *places.outputs(target)["dead_letters"])]


def _of_stage(epoch: CodeEpoch, target: Target) -> CodeEpoch:
    return CodeEpoch(target.partition, 0, epoch.code, {}, epoch.number)
