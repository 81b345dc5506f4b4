"""The wire format of the output topics: plain JSON, one struct a topic."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec


class ModelVersion(msgspec.Struct, frozen=True, gc=False):
    """The model that served: `version` is a position in the log, member@partition:offset."""

    name: str
    version: str
    learned_through: int


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One answer to one request. `features` are the values used; absent means missing."""

    id: str
    event_id: str
    task: str
    at: datetime
    keys: dict[str, Any]
    prediction: Any
    probabilities: dict[str, float] | None
    model: ModelVersion
    features: dict[str, Any]


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A prediction joined with what became of it.

    `horizon` is seconds from request to label; `loss` is the task's (log loss in nats, squared
    error); `corrects` is the revision that this one replaces.
    """

    prediction_id: str
    event_id: str
    task: str
    at: datetime
    keys: dict[str, Any]
    status: Literal["labelled", "unlabelled", "void"]
    prediction: Any
    model: str
    label: Any = None
    loss: float | None = None
    horizon: float | None = None
    revision: int = 0
    corrects: int | None = None


class Side(msgspec.Struct, frozen=True):
    """One side of a change: the mean over `count` values."""

    mean: float
    count: int


class DriftEvent(msgspec.Struct, frozen=True):
    """A change found in a stream of values; offsets are positions in the log's partition."""

    id: str
    at: datetime
    key: str
    subject: str
    detector: str
    severity: Literal["warning", "drift", "recovered"]
    before: Side
    after: Side
    first_offset: int
    offset: int


class ModelEvent(msgspec.Struct, frozen=True):
    """A change of what serves or learns, with its reason."""

    id: str
    at: datetime
    key: str
    kind: str
    member: str
    stage: str
    reason: str
    serving: str
    offset: int


def begins_with(kind: str, prediction_id: str) -> bytes | None:
    """What the records of one prediction begin with in the topic of a kind; None where none is of one."""
    field = {"predictions": "id", "outcomes": "prediction_id"}.get(kind)
    return None if field is None else b'{"%s":%s,' % (field.encode(), msgspec.json.encode(prediction_id))
