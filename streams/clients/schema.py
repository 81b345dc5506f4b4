"""JSON Schema of every topic of a case."""

from __future__ import annotations

from typing import Any, Union

import msgspec

from driftline.features.declare.feature_descriptions import json_schema
from driftline.streams.archive.epochs import CodeEpoch
from driftline.streams.declare.events import SYSTEM_EVENTS
from driftline.streams.declare.usecase import UseCase
from driftline.streams.records.messages import (
    DataAnomaly,
    DataStatistics,
    DriftEvent,
    ModelEvent,
    Outcome,
    Prediction,
)

RETIRED = "Retired: accepted, and read by nothing"


def topic_schemas(case: UseCase, namespace: str = "") -> dict[str, Any]:
    """JSON Schema (2020-12) of the records of each topic, by topic name."""
    topics = case.topics(namespace)
    union: Any = Union[(*case.events, *SYSTEM_EVENTS)]
    schemas = {
        topics.log: msgspec.json.schema(union),
        topics.predictions: msgspec.json.schema(Prediction),
        topics.outcomes: msgspec.json.schema(Outcome),
        topics.drift: msgspec.json.schema(DriftEvent),
        topics.models: _either(ModelEvent, CodeEpoch),
        topics.statistics: msgspec.json.schema(DataStatistics),
        topics.anomalies: msgspec.json.schema(DataAnomaly),
        topics.dead_letters: {
            "description": "A refused record, verbatim: any bytes; or one that was accepted: with stage "
            "range, it has a feature out of its valid range, with stage ahead, nothing agreed with its time "
            "yet. Headers: source (offset:ordinal), stage and reason, all text."
        },
    }
    for event in case.events:
        properties = schemas[topics.log]["$defs"][event.__name__]["properties"]
        properties |= {name: {"deprecated": True, "description": RETIRED} for name in event.__retired__}
    prediction = schemas[topics.predictions]["$defs"]["Prediction"]["properties"]
    prediction["features"] = json_schema(case.features, case.task.ask)
    for schema in schemas.values():
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schemas


def _either(*kinds: type) -> dict[str, Any]:
    """The schema of records of one of these structs."""
    schemas = [msgspec.json.schema(kind) for kind in kinds]
    definitions = {name: definition for schema in schemas for name, definition in schema["$defs"].items()}
    return {"anyOf": [{"$ref": schema["$ref"]} for schema in schemas], "$defs": definitions}
