"""The passage of one prediction through the stages of its case: a record in each, back to the log's event.

What each stage has read is in the record that it wrote for the next one. That it read it rightly is what the
audit proves, stage by stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from driftline.streams.archive.topic_history import Past
from driftline.streams.declare.event_codec import EventCodec
from driftline.streams.errors import StreamsError
from driftline.streams.proof.lineage import (
    Revision,
    appended_at,
    decoded_prediction,
    find_prediction,
    outcomes_of,
    request_of,
)
from driftline.streams.records.messages import Prediction
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import Place
from driftline.streams.stages.places import StagePlaces
from driftline.streams.stages.stage_record import StageRecord, decode_record


class Stop(msgspec.Struct, frozen=True):
    """A record of the request in the topic of a stage; `read` are the features that it brought along."""

    topic: str
    partition: int
    offset: int
    read: dict[str, Any]


class Passage(msgspec.Struct, frozen=True):
    """What one prediction came from: `stops` from the log on, and its outcomes, as in a lineage."""

    id: str
    topic: str
    partition: int
    offset: int
    appended: datetime
    prediction: Prediction
    stops: Sequence[Stop]
    status: str
    outcomes: Sequence[Revision]

    @property
    def agrees(self) -> bool:
        """Whether every feature was used as it was read. One out of its range may count as missing."""
        used = self.prediction.features
        return all(
            used[name] == value for stop in self.stops for name, value in stop.read.items() if name in used
        )

    def as_json(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(msgspec.to_builtins(self) | {"agrees": self.agrees}).decode()


def passage(history: Past, codec: EventCodec, places: StagePlaces, prediction_id: str) -> Passage:
    """The passage of a prediction of this code.

    Raises StreamsError for an unknown id, for records that are neither in Kafka nor in the archive, and for a
    log that holds another event at the request's place.
    """
    topics = places.topics
    published = find_prediction(history, topics.predictions, range(topics.answering), prediction_id)
    prediction = decoded_prediction(topics, published)
    stops: list[Stop] = []
    target, offset = Target(places.count - 1, published.partition), published.source[0]
    while target.stage > 0:
        told = _record_at(history, places, target, offset)
        place = places.input(target)
        stops.append(Stop(place.topic, place.partition, offset, told.read))
        target, offset = Target(*told.writer), told.offset
    request_of(prediction, history, codec, Place(topics.log, target.partition), offset)
    stops.append(Stop(topics.log, target.partition, offset, {}))
    outcomes = list(outcomes_of(history, topics.outcomes, published.partition, prediction_id))
    return Passage(
        prediction_id,
        topics.predictions,
        published.partition,
        published.record.offset,
        appended_at(published.record),
        prediction,
        stops[::-1],
        outcomes[-1].outcome.status if outcomes else "pending",
        outcomes,
    )


def _record_at(history: Past, places: StagePlaces, target: Target, offset: int) -> StageRecord:
    place = places.input(target)
    for records in history.records(*place, offset, offset + 1):
        for record in records:
            return decode_record(record.value)
    raise StreamsError(f"{place} holds no record at offset {offset}, which a prediction was made of")
