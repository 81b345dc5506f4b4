"""The job on Quix Streams with its State (RocksDB).

Windows and waiting requests are in State, one entry a window and key, without a change log topic
(so they survive a restart of the process, not the loss of its disk); with `durable` off they are in
a dict and nothing survives a restart.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application, State
from quixstreams.models import Deserializer
from quixstreams.models.serializers import SerializationContext

from driftline.bench.peers.gauge import Gauge
from driftline.bench.peers.job import Job, Memory, Out, Store, tag_of
from driftline.bench.peers.process import Assignment
from driftline.streams.declare.event_codec import EventCodec
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import load_case


class EventDeserializer(Deserializer):  # type: ignore[misc]
    """Typed events by msgspec, which is faster than the framework's own JSON to dict."""

    def __init__(self, codec: EventCodec) -> None:
        super().__init__()
        self._decode = codec._decoder.decode

    def __call__(self, value: bytes, ctx: SerializationContext) -> Event:
        return self._decode(value)


class StateStore:
    """The State of one message key as a store."""

    def __init__(self, state: State) -> None:
        self.get = state.get
        self.set = state.set
        self.delete = state.delete


def build(assignment: Assignment, gauge: Gauge) -> Application:
    """The application, with its data frame set up."""
    case = load_case(assignment.case)
    job = Job(case)
    memory = Memory()
    app = Application(
        broker_address=assignment.bootstrap,
        consumer_group=f"{assignment.namespace}.{'state' if assignment.durable else 'memory'}.quix",
        auto_offset_reset="earliest",
        loglevel="ERROR",
        use_changelog_topics=False,
        auto_create_topics=False,
        state_dir=f"{assignment.home}/quix",
    )
    log = app.topic(assignment.log, value_deserializer=EventDeserializer(case.codec()))
    predictions = app.topic(assignment.predictions, value_serializer="json")
    outcomes = app.topic(assignment.outcomes, value_serializer="json")

    def is_keyed(event: Event) -> bool:
        """References and clock events have no key; State is by key."""
        gauge.event()
        tag = tag_of(event)
        return tag != "clock" and not job.refer(tag, event)

    def in_state(event: Event, state: State) -> list[Out]:
        store: Store = StateStore(state)
        return job.take(tag_of(event), event, store)

    def in_memory(event: Event) -> list[Out]:
        return job.take(tag_of(event), event, memory)

    def message(out: Any) -> Any:
        return out[1]

    keyed = app.dataframe(log).filter(is_keyed)
    if assignment.durable:
        out = keyed.apply(in_state, stateful=True, expand=True)
    else:
        out = keyed.apply(in_memory, expand=True)
    out.filter(lambda found: found[0] == "predictions").apply(message).to_topic(predictions)
    out.filter(lambda found: found[0] == "outcomes").apply(message).to_topic(outcomes)
    return app


if __name__ == "__main__":
    build(Assignment.from_arguments(), Gauge()).run()
