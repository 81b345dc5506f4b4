"""What a take-over leaves on the topics that it writes to: markers, that no reader is given."""

from __future__ import annotations

from kafka import KafkaConsumer, TopicPartition

AT_ONCE_MS = 500


def only_markers(consumer: KafkaConsumer, place: TopicPartition, begin: int, end: int) -> bool:
    """Whether a partition holds no record between two offsets; the consumer is a committed reader's."""
    consumer.assign([place])
    consumer.seek(place, begin)
    while consumer.position(place) < end:
        if consumer.poll(AT_ONCE_MS):
            return False
    return True
