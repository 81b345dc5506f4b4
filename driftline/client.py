"""The clients alone: needs no more than kafka-python and msgspec (and what the case itself imports)."""

from streams.sdk import EventProducer, PredictionConsumer, Undelivered

__all__ = ["EventProducer", "PredictionConsumer", "Undelivered"]
