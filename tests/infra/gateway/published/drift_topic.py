"""A topic of a case whose records the tests write themselves."""

from __future__ import annotations

import json
import uuid

import shop
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from driftline.infra.topics.administration import ensure_topics


class DriftTopic:
    """The drift topic of `orders` in a namespace of its own."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.namespace = f"t{uuid.uuid4().hex[:8]}"
        topics = shop.orders.topics(self.namespace)
        ensure_topics(bootstrap, topics.all())
        self.name = topics.drift

    def publish(self, count: int, size: int = 0) -> None:
        """Append so many records to partition 0, each with its number."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        try:
            for number in range(count):
                value = json.dumps({"number": number, "text": "x" * size}).encode()
                producer.send(self.name, value, partition=0)
            producer.flush()
        finally:
            producer.close()

    def delete_before(self, offset: int) -> None:
        """Delete records as retention does."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.delete_records({TopicPartition(self.name, 0): offset})
        finally:
            admin.close()
