"""The clients alone: needs no more than kafka-python and msgspec (and what the case itself imports)."""

from driftline.errors import DriftlineError
from driftline.streams.clients.consumer import PredictionConsumer
from driftline.streams.clients.producer import EventProducer, Undelivered
from driftline.streams.errors import NoBroker, NotLetIn, Refused

__all__ = [
    "DriftlineError",
    "EventProducer",
    "NoBroker",
    "NotLetIn",
    "PredictionConsumer",
    "Refused",
    "Undelivered",
]
