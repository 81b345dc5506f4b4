"""The clients alone: needs no more than kafka-python and msgspec (and what the case itself imports)."""

from driftline.errors import DriftlineError
from streams.errors import NoBroker, Refused
from streams.sdk import EventProducer, PredictionConsumer, Undelivered

__all__ = ["DriftlineError", "EventProducer", "NoBroker", "PredictionConsumer", "Refused", "Undelivered"]
