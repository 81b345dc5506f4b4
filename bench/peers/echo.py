"""The smallest possible service on Kafka: aiokafka's getmany, and one send for every request.

It decodes nothing, computes nothing and remembers nothing; requests are recognised by their tag's bytes,
and a request is its own answer.
"""

from __future__ import annotations

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from driftline.bench.peers.gauge import Gauge
from driftline.bench.peers.job import Job
from driftline.bench.peers.process import Assignment
from driftline.streams.declare.usecase import load_case


async def serve(assignment: Assignment, gauge: Gauge) -> None:
    """Answer until the process is ended."""
    asked = f'"type":"{Job(load_case(assignment.case)).asks}"'.encode()
    consumer = AIOKafkaConsumer(
        assignment.log,
        bootstrap_servers=assignment.bootstrap,
        group_id=f"{assignment.namespace}.echo",
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=assignment.bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    await consumer.start()
    while True:
        fetched = await consumer.getmany(timeout_ms=1000, max_records=500)
        deliveries = []
        for tp, records in fetched.items():
            gauge.event()
            for record in records:
                if asked in record.value:
                    sent = await producer.send(
                        assignment.predictions, record.value, key=record.key, partition=tp.partition
                    )
                    deliveries.append(sent)
        for delivery in deliveries:
            await delivery


if __name__ == "__main__":
    uvloop.run(serve(Assignment.from_arguments(), Gauge()))
