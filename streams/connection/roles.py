"""The kinds of programs that work with a case, each with rights of its own on Kafka."""

from __future__ import annotations

import enum


class Role(enum.StrEnum):
    """The name of one of them."""

    WORKER = "worker"
    GATEWAY = "gateway"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    OPERATOR = "operator"
    ARCHIVER = "archiver"
    BRIDGE = "bridge"
