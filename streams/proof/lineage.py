"""Lineage: everything that one prediction is based on, read from the log and the output topics.

It has the request, the events behind each feature value with their offsets in the topic of the stage that
read them, the last label that the model had learned, the code that answered, and the outcomes. Every feature
value is computed again from the events behind it, without the fold, and compared with the value that was
used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from driftline.features.state.value_lineage import Behind, EvidenceCollector, FeatureEvidence
from driftline.streams.archive.epochs import UNRECORDED, Code, CodeEpoch, recorded_epochs
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.archive.topic_history import Past
from driftline.streams.declare.event_codec import EventCodec
from driftline.streams.declare.events import SYSTEM_EVENTS, Event, moment
from driftline.streams.declare.retirement import EventDecoder
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused, StreamsError
from driftline.streams.proof.passage import Stop, entered, stage_record, stops_of
from driftline.streams.records.messages import ModelVersion, Outcome, Prediction, begins_with
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import Place
from driftline.streams.records.positions import NOTHING, SourcePosition, position_of
from driftline.streams.stages.itinerary import itinerary_of
from driftline.streams.stages.places import StagePlaces


class PublishedPrediction(NamedTuple):
    """A prediction's record, and where it is."""

    partition: int
    source: SourcePosition
    record: ArchivedRecord


class At(msgspec.Struct, frozen=True):
    """An event in the log, or in the topic of a stage; `id` is empty for a record that only states the
    time."""

    offset: int
    id: str
    at: datetime


class FeatureLineage(msgspec.Struct, frozen=True):
    """A value used and what it rests on: how many events, the first and last of them in event time, and
    the newest few. `agrees` says whether `recomputed` is what was used; null is missing."""

    declared: str
    used: Any
    recomputed: Any
    agrees: bool
    count: int
    first: At | None
    last: At | None
    newest: Sequence[At]


class ModelLineage(msgspec.Struct, frozen=True):
    """The model that answered, and the event that made its newest label known; none before the first."""

    name: str
    version: str
    learned_through: At | None


class Epoch(msgspec.Struct, frozen=True):
    """The code that published the prediction. `difference` is the text of how it differs from the code of
    this process, if it does."""

    from_offset: int | None
    code: Code | None
    difference: str | None


class Revision(msgspec.Struct, frozen=True):
    """One outcome record: its offset on the topic, its source position, and what it says."""

    offset: int
    source: str
    appended: datetime
    outcome: Outcome


class Lineage(msgspec.Struct, frozen=True):
    """The basis of one prediction, and its outcomes.

    `offset` is that on the topic. `status` is "pending" before the first outcome, else the last one's.
    `stops` are the records of the request in the topics of the stages, the log first.
    """

    id: str
    topic: str
    partition: int
    offset: int
    source: str
    appended: datetime
    prediction: Prediction
    request: At
    features: dict[str, FeatureLineage]
    model: ModelLineage
    epoch: Epoch
    status: str
    outcomes: Sequence[Revision]
    stops: Sequence[Stop]

    @property
    def agrees(self) -> bool:
        """Whether every feature value used equals the one recomputed from the events behind it."""
        return all(feature.agrees for feature in self.features.values())

    def as_json(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(msgspec.to_builtins(self) | {"agrees": self.agrees}).decode()


def find_prediction(
    history: Past, topic: str, partitions: Iterable[int], prediction_id: str
) -> PublishedPrediction:
    """The published prediction with an id; raises StreamsError if there is none."""
    prefix = begins_with("predictions", prediction_id)
    assert prefix is not None
    partitions = list(partitions)
    for partition in partitions:
        for record in _whole(history, topic, partition):
            if record.value is not None and record.value.startswith(prefix):
                return PublishedPrediction(partition, position_of(record.headers), record)
    raise StreamsError(
        f"no prediction {prediction_id!r} in {topic}, partitions {', '.join(map(str, partitions))}, in Kafka "
        "or the archive: an id is that of the request's event and the task's name, with a colon between"
    )


def decoded_prediction(topics: Topics, published: PublishedPrediction) -> Prediction:
    """The content of a published prediction; raises StreamsError if it is not a prediction."""
    try:
        return msgspec.json.decode(published.record.value or b"", type=Prediction)
    except msgspec.MsgspecError as error:
        raise StreamsError(
            f"{topics.predictions}-{published.partition}, offset {published.record.offset} is no prediction: "
            f"{error}"
        ) from error


def lineage(
    history: Past, case: UseCase, topics: Topics, code: Code, prediction_id: str, shown: int
) -> Lineage:
    """The lineage of one prediction; each feature lists up to `shown` of the newest events behind it.

    The topics between stages are those of the code that published it, and count as the log does. Raises
    StreamsError for an unknown id, for a log that lacks records from its start to the request, for one that
    holds another event at its place, and for other code whose stages this case does not have.
    """
    published = find_prediction(history, topics.predictions, range(topics.predicting), prediction_id)
    prediction = decoded_prediction(topics, published)
    codec, itinerary = case.codec(), itinerary_of(case)
    # whose labels the model has: the partition that answers, or the one that learns for all replicas
    learner = published.partition if topics.learning == topics.predicting else 0
    served = _served(recorded_epochs(history, topics.models, learner), published.source)
    epoch = _epoch(served, code)
    places = (
        StagePlaces(topics, code.short, itinerary)
        if served is None
        else StagePlaces(topics, served.code.short, itinerary, served.number)
    )
    stops = _stops(history, case, places, published, epoch)
    log = Place(topics.log, stops[0].partition)
    request = request_of(prediction, history, codec, log, stops[0].offset)
    outcomes = list(outcomes_of(history, topics.outcomes, learner, prediction_id))
    return Lineage(
        prediction_id,
        topics.predictions,
        published.partition,
        published.record.offset,
        _text(published.source),
        appended_at(published.record),
        prediction,
        At(stops[0].offset, request.id, request.at),
        _features(history, case, stops, request, prediction, shown),
        _learned(history, case, places, Target(places.count - 1, learner), prediction.model),
        epoch,
        outcomes[-1].outcome.status if outcomes else "pending",
        outcomes,
        stops,
    )


def _features(
    history: Past, case: UseCase, stops: Sequence[Stop], request: Event, prediction: Prediction, shown: int
) -> dict[str, FeatureLineage]:
    """The features of a request in the order of declaration, each from the events before it in the topic of
    the stage that read it."""
    found: dict[str, FeatureEvidence] = {}
    for stop in stops:
        features = {name: case.features[name] for name in stop.features}
        collector = EvidenceCollector(features, request, request.at.timestamp())
        if collector.wanted:
            topic = chain.from_iterable(history.records(stop.topic, stop.partition, 0, stop.offset))
            for record, event in entered(case, stop.target, topic):
                if type(event) in collector.wanted:
                    collector.offer(record.offset, event, event.at.timestamp())
        found |= collector.collected({name: evidence.value for name, evidence in found.items()})
    return {name: _value(found[name], prediction.features.get(name), shown) for name in case.features}


def _whole(history: Past, topic: str, partition: int) -> Iterator[ArchivedRecord]:
    begin, end = history.begin(topic, partition), history.end(topic, partition)
    return chain.from_iterable(history.records(topic, partition, begin, end))


def request_of(prediction: Prediction, history: Past, codec: EventCodec, log: Place, offset: int) -> Event:
    """The request that a prediction answers, at an offset of the log; raises StreamsError if there is another
    event, or none."""
    request = _event(history, codec, *log, offset)
    if request.id != prediction.event_id:
        raise StreamsError(
            f"{log}, offset {offset} holds {request.id!r}, but {prediction.id!r} answers "
            f"{prediction.event_id!r}"
        )
    return request


def _event(history: Past, codec: EventCodec, topic: str, partition: int, offset: int) -> Event:
    """The event at an offset of the log; raises StreamsError when there is none."""
    where = f"{topic}-{partition}, offset {offset}"
    for records in history.records(topic, partition, offset, offset + 1):
        try:
            return codec.decode(records[0].value, records[0].key)
        except Refused as refused:
            raise StreamsError(f"{where} holds no event of the case: {refused}") from refused
    raise StreamsError(f"{where} holds no record")


def _learned(
    history: Past, case: UseCase, places: StagePlaces, target: Target, model: ModelVersion
) -> ModelLineage:
    offset = model.learned_through
    if offset < 0:
        return ModelLineage(model.name, model.version, None)
    if target.stage == 0:
        event = _event(history, case.codec(), *places.input(target), offset)
        return ModelLineage(model.name, model.version, At(offset, event.id, event.at))
    offset -= places.first_position
    arrived = stage_record(history, places, target, offset)
    if not arrived.event:
        return ModelLineage(model.name, model.version, At(offset, "", moment(arrived.watermark)))
    event = EventDecoder[Event]((*case.events, *SYSTEM_EVENTS)).decode(arrived.event)
    return ModelLineage(model.name, model.version, At(offset, event.id, event.at))


def _value(evidence: FeatureEvidence, used: Any, shown: int) -> FeatureLineage:
    behind = evidence.behind
    agrees = bool(evidence.value == used)
    return FeatureLineage(
        evidence.declared,
        used,
        used if agrees else _plain(evidence.value),
        agrees,
        len(behind),
        _at(behind[0]) if behind else None,
        _at(behind[-1]) if behind else None,
        [_at(event) for event in behind[-shown:]] if shown else [],
    )


def _plain(value: Any) -> Any:
    """A value from user code in a form that JSON has."""
    return value if value is None or type(value) in (bool, int, float, str) else repr(value)


def _at(event: Behind) -> At:
    return At(event.offset, event.id, moment(event.at))


def _served(epochs: Sequence[CodeEpoch], source: SourcePosition) -> CodeEpoch | None:
    """The code epoch in whose stretch of the predictions a source position is; None if none is recorded."""
    begun = [epoch for epoch in epochs if epoch.tails.get("predictions", NOTHING) < source]
    return begun[-1] if begun else None


def _epoch(served: CodeEpoch | None, code: Code) -> Epoch:
    if served is None:
        return Epoch(None, None, UNRECORDED)
    return Epoch(served.from_offset, served.code, code.difference(served.code))


def _stops(
    history: Past, case: UseCase, places: StagePlaces, published: PublishedPrediction, epoch: Epoch
) -> list[Stop]:
    """The stops of a prediction, in the topics of the code that published it. Raises StreamsError, which
    names that code if it is other code."""
    try:
        return stops_of(history, case, places, published.partition, published.source)
    except StreamsError as error:
        if epoch.code is None or epoch.difference is None:
            raise
        raise StreamsError(
            f"the prediction was made by other code, with {epoch.difference}, and this code cannot follow it "
            f"through the stages of that: {error}. Ask the code that made it"
        ) from error


def outcomes_of(history: Past, topic: str, partition: int, prediction_id: str) -> Iterator[Revision]:
    prefix = begins_with("outcomes", prediction_id)
    assert prefix is not None
    for record in _whole(history, topic, partition):
        if record.value is not None and record.value.startswith(prefix):
            outcome = msgspec.json.decode(record.value, type=Outcome)
            yield Revision(record.offset, _text(position_of(record.headers)), appended_at(record), outcome)


def _text(position: SourcePosition) -> str:
    return "{}:{}".format(*position)


def appended_at(record: ArchivedRecord) -> datetime:
    return moment(record.timestamp / 1000)
