"""The job on plain Faust, as its documentation shows: records, an agent that takes event by event,
and a table for durable state.

Windows and waiting requests are in the table (in memory, with its change log topic), one entry a
window and key; with `durable` off they are in a dict and nothing survives a restart.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import faust

from driftline.bench.peers.gauge import Gauge
from driftline.bench.peers.job import Job, Memory, Store
from driftline.bench.peers.process import Assignment
from driftline.streams.declare.usecase import load_case


class Scheduled(faust.Record, serializer="json"):  # type: ignore[misc, call-arg]
    id: str
    at: str
    flight: str
    number: str
    origin: str
    dest: str
    carrier: str
    tailnum: str | None
    distance: float
    duration: float


class Departed(faust.Record, serializer="json"):  # type: ignore[misc, call-arg]
    id: str
    at: str
    flight: str
    number: str
    origin: str
    dest: str
    carrier: str
    tailnum: str | None
    delay: float


class Arrived(faust.Record, serializer="json"):  # type: ignore[misc, call-arg]
    id: str
    at: str
    flight: str
    number: str
    origin: str
    dest: str
    carrier: str
    tailnum: str | None
    delay: float


class Cancelled(faust.Record, serializer="json"):  # type: ignore[misc, call-arg]
    id: str
    at: str
    flight: str
    origin: str
    dest: str
    carrier: str


class Weather(faust.Record, serializer="json"):  # type: ignore[misc, call-arg]
    id: str
    at: str
    origin: str
    temperature: float | None
    dew_point: float | None
    humidity: float | None
    wind: float | None
    wind_direction: float | None
    gust: float | None
    precipitation: float | None
    pressure: float | None
    visibility: float | None


class Plane(faust.Record, serializer="json"):  # type: ignore[misc, call-arg]
    id: str
    at: str
    tailnum: str
    year: int | None
    manufacturer: str | None
    model: str | None
    engines: int | None
    seats: int | None


class Prediction(faust.Record, serializer="json"):  # type: ignore[misc, call-arg]
    id: str
    event_id: str
    task: str
    at: str
    keys: dict[str, str]
    prediction: bool
    probabilities: dict[str, float]
    model: str
    features: dict[str, Any]


class Outcome(faust.Record, serializer="json"):  # type: ignore[misc, call-arg]
    prediction_id: str
    event_id: str
    task: str
    at: str
    keys: dict[str, str]
    status: str
    prediction: bool
    model: str
    label: bool | None
    loss: float | None
    horizon: float


RECORDS = {
    record.__name__.lower(): record for record in (Scheduled, Departed, Arrived, Cancelled, Weather, Plane)
}
OUTPUTS = {"predictions": Prediction, "outcomes": Outcome}


class TableStore:
    """A Faust table as a store."""

    def __init__(self, table: Any) -> None:
        self.get = table.get
        self.set = table.__setitem__
        self.delete = table.pop


def build(assignment: Assignment, gauge: Gauge) -> faust.App:
    """The application."""
    app = faust.App(
        f"{assignment.namespace}.{'table' if assignment.durable else 'memory'}.faust",
        broker=f"kafka://{assignment.bootstrap}",
        store="memory://",
        topic_disable_leader=True,
        topic_partitions=load_case(assignment.case).partitions,
        web_enabled=False,
        worker_redirect_stdouts=False,
        datadir=f"{assignment.home}/faust",
    )
    job = Job(load_case(assignment.case))
    log = app.topic(assignment.log, value_serializer="json")
    topics = {
        "predictions": app.topic(assignment.predictions, value_type=Prediction),
        "outcomes": app.topic(assignment.outcomes, value_type=Outcome),
    }
    store: Store = TableStore(app.Table("kept")) if assignment.durable else Memory()

    @app.agent(log)  # type: ignore[untyped-decorator]
    async def serve(stream: Any) -> None:
        async for value in stream:
            gauge.event()
            tag = value.pop("type")
            record = RECORDS.get(tag)
            if record is None:  # a clock event
                continue
            event: Any = record(**value)
            event.at = datetime.fromisoformat(event.at)
            for topic, message in job.take(tag, event, store):
                await topics[topic].send(key=message["keys"]["origin"], value=OUTPUTS[topic](**message))

    return app


if __name__ == "__main__":
    application = build(Assignment.from_arguments(), Gauge())
    sys.argv = ["faust", "worker", "-l", "error", "--without-web"]
    application.main()
