"""The passage of one prediction through the stages of its case: a record in each, from the log's event on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.archive.topic_history import Past
from driftline.streams.between.stage_record import StageRecord, decode_record
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import StreamsError
from driftline.streams.fold.intake import Intake
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.records.positions import POSITIONS_OF_AN_EPOCH, SourcePosition
from driftline.streams.stages.feature_fold import FeatureFold
from driftline.streams.stages.itinerary import itinerary_of
from driftline.streams.stages.places import StagePlaces


class Stop(msgspec.Struct, frozen=True):
    """A record of the request in the topic of a stage; `read` are the features that it brought along, and
    `features` the names of those that the stage reads."""

    topic: str
    partition: int
    offset: int
    stage: int
    read: dict[str, Any]
    features: tuple[str, ...]

    @property
    def target(self) -> Target:
        """The partition of the stage."""
        return Target(self.stage, self.partition)


def stops_of(
    history: Past, case: UseCase, places: StagePlaces, partition: int, source: SourcePosition
) -> list[Stop]:
    """The stops of a prediction with this source position, of a partition that answers: from the log on.

    Raises StreamsError for records that are neither in Kafka nor in the archive.
    """
    stops: list[Stop] = []
    target, offset = Target(places.serving, partition), source[0] - places.first_position
    if not 0 <= offset < POSITIONS_OF_AN_EPOCH:
        raise StreamsError(
            f"the prediction was made in epoch {source[0] // POSITIONS_OF_AN_EPOCH} of the code, and epoch "
            f"{places.number} is recorded"
        )
    while True:
        sent = stage_record(history, places, target, offset) if target.stage else None
        read = {} if sent is None else sent.read
        features = case.plan.stages[target.stage].features
        stops.insert(0, Stop(*places.input(target), offset, target.stage, read, features))
        if sent is None:
            return _whole(case, stops)
        if sent.stage >= target.stage:
            raise StreamsError(
                f"{places.input(target)}, offset {offset} comes from stage {sent.stage}, which is not before "
                f"stage {target.stage} here"
            )
        target, offset = Target(*sent.writer), sent.offset


def _whole(case: UseCase, stops: list[Stop]) -> list[Stop]:
    """The stops, if every feature was read at one of them; raises StreamsError otherwise."""
    read = {name for stop in stops for name in stop.features}
    if unread := [name for name in case.features if name not in read]:
        raise StreamsError(f"no stage of its way reads {', '.join(map(repr, unread))}")
    return stops


def stage_record(history: Past, places: StagePlaces, target: Target, offset: int) -> StageRecord:
    """The record of a stage behind the log at an offset. Raises StreamsError if there is none."""
    place = places.input(target)
    for records in history.records(*place, offset, offset + 1):
        for record in records:
            return decode_record(record.value)
    raise StreamsError(f"{place} holds no record at offset {offset}, which a prediction was made of")


def entered(
    case: UseCase, target: Target, records: Iterable[ArchivedRecord]
) -> Iterator[tuple[ArchivedRecord, Event]]:
    """Those of a partition's records that entered its features, with their event: neither refused, repeated
    nor late."""
    itinerary = itinerary_of(case)
    if itinerary is None:
        yield from _accepted(case, target.partition, records)
        return
    fold = FeatureFold(case, itinerary, target)
    for record in records:
        if (event := fold.fold(record)) is not None:
            yield record, event


def _accepted(
    case: UseCase, partition: int, records: Iterable[ArchivedRecord]
) -> Iterator[tuple[ArchivedRecord, Event]]:
    codec = case.codec()
    intake = Intake(case, case.feature_state(), partition)  # no model decides which events are accepted
    before = 0
    for record in records:
        intake.fold([record], Outputs())
        if intake.counts.events > before:
            before = intake.counts.events
            yield record, codec.decode(record.value, record.key)
