"""The job on Pathway: a reducer over the records of each partition, which come in batches.

Only a reducer gets a whole batch, unordered, so it sorts by offset. Its result is the batch's outputs. The
job's state is in a dict outside, as no operator of Pathway learns; nothing survives a restart. Records that
it fetches before its first batch are not counted in its CPU, in its favour.
"""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any

import pathway as pw

from driftline.bench.peers.gauge import Gauge
from driftline.bench.peers.job import Job, Memory, tag_of
from driftline.bench.peers.process import Assignment
from driftline.streams.declare.usecase import load_case

COMMIT_MS = 100
"""Milliseconds between batches; the default of 1,500 is longer than a prediction may take."""
Sent = tuple[tuple[str, bytes], ...]


def main(assignment: Assignment) -> None:
    """Serve the assignment until the process is ended."""
    gauge = Gauge()
    case = load_case(assignment.case)
    decode = case.codec()._decoder.decode
    job = Job(case)
    stores = [Memory() for _ in range(case.partitions)]
    settings = {
        "bootstrap.servers": assignment.bootstrap,
        "group.id": f"{assignment.namespace}.pathway",
        "auto.offset.reset": "earliest",
    }

    @pw.reducers.stateful_many  # type: ignore[untyped-decorator]
    def serve(_: Sent | None, rows: list[tuple[list[Any], int]]) -> Sent:
        gauge.event()
        sent = []
        for partition, _offset, value in sorted(row for row, _count in rows):
            event = decode(value)
            tag = tag_of(event)
            if tag == "clock":
                continue
            for topic, message in job.take(tag, event, stores[partition]):
                sent.append((topic, json.dumps(message).encode()))
        return tuple(sent)

    log = pw.io.kafka.read(
        settings, assignment.log, format="raw", with_metadata=True, autocommit_duration_ms=COMMIT_MS
    )
    records = log.select(
        value=pw.this.data,
        partition=pw.this._metadata["partition"].as_int(),
        offset=pw.this._metadata["offset"].as_int(),
    )
    batches = records.groupby(pw.this.partition).reduce(
        sent=serve(pw.this.partition, pw.this.offset, pw.this.value)
    )
    sent = batches.flatten(pw.this.sent).select(
        topic=pw.apply_with_type(itemgetter(0), str, pw.this.sent),
        value=pw.apply_with_type(itemgetter(1), bytes, pw.this.sent),
    )
    # a batch's result replaces the one before it; what goes to Kafka is what was put, not what was replaced
    rows = sent.to_stream().filter(pw.this.is_upsert)
    for kind, topic in (("predictions", assignment.predictions), ("outcomes", assignment.outcomes)):
        chosen = rows.filter(pw.this.topic == kind).select(pw.this.value)
        pw.io.kafka.write(chosen, settings, topic, format="raw")
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main(Assignment.from_arguments())
