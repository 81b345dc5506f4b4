"""The job on bytewax: one dataflow, keyed by message key where state is to survive.

With `durable` on, the windows and waiting requests of a key are the state of a stateful step, which bytewax
snapshots to SQLite; with it off, they are in a dict and nothing survives a restart. The framework
promises at least once with recovery, and nothing without.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from driftline.bench.peers.gauge import Gauge
from driftline.bench.peers.job import Job, Memory, Out, tag_of
from driftline.bench.peers.process import Assignment
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import load_case

BATCH = 1_000
"""Records of one read: the connector's default."""
SNAPSHOT_EVERY = timedelta(seconds=10)
"""The framework's own default."""


class Kept:
    """The data of one key as a store, in a form that can be snapshotted."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def set(self, key: str, value: Any) -> None:
        self._values[key] = value

    def delete(self, key: str) -> None:
        del self._values[key]


def build(assignment: Assignment, gauge: Gauge) -> Dataflow:
    """The dataflow."""
    case = load_case(assignment.case)
    decode = case.codec()._decoder.decode
    job = Job(case)
    brokers = [assignment.bootstrap]
    memory = Memory()

    def event_of(message: Any) -> Event | None:
        """The event, typed; None for references, which are in plain memory, and clock events."""
        gauge.event()
        event = decode(message.value)
        tag = tag_of(event)
        return None if tag == "clock" or job.refer(tag, event) else event

    def in_memory(event: Event) -> Iterable[Out]:
        return job.take(tag_of(event), event, memory)

    def in_state(kept: Kept | None, event: Event) -> tuple[Kept, Iterable[Out]]:
        kept = Kept() if kept is None else kept
        return kept, job.take(tag_of(event), event, kept)

    def message(out: Out) -> KafkaSinkMessage[bytes | None, bytes]:
        return KafkaSinkMessage(None, json.dumps(out[1]).encode())

    flow = Dataflow("job")
    source = KafkaSource(brokers, [assignment.log], batch_size=BATCH)
    events = op.filter_map("events", op.input("log", flow, source), event_of)
    if assignment.durable:
        keyed = op.key_on("key", events, lambda event: str(job.key(event)))
        out = op.key_rm("unkey", op.stateful_flat_map("state", keyed, in_state))
    else:
        out = op.flat_map("job", events, in_memory)
    for kind, topic in (("predictions", assignment.predictions), ("outcomes", assignment.outcomes)):
        chosen = op.filter(kind, out, lambda found, kind=kind: found[0] == kind)
        op.output(f"{kind}_out", op.map(f"{kind}_json", chosen, message), KafkaSink(brokers, topic))
    return flow


def main(assignment: Assignment) -> None:
    """Serve the assignment until the process is ended."""
    flow = build(assignment, Gauge())
    if not assignment.durable:
        cli_main(flow)
        return
    folder = Path(assignment.home) / "bytewax"
    folder.mkdir()
    init_db_dir(folder, 1)
    cli_main(flow, epoch_interval=SNAPSHOT_EVERY, recovery_config=RecoveryConfig(folder))


if __name__ == "__main__":
    main(Assignment.from_arguments())
