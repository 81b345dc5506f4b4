"""Who works with a case, as far as Kafka has to tell them apart."""

from __future__ import annotations

import enum


class Role(enum.StrEnum):
    """One that has rights of its own."""

    WORKER = "worker"
    GATEWAY = "gateway"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    OPERATOR = "operator"
    ARCHIVER = "archiver"
    BRIDGE = "bridge"
