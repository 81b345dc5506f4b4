"""How long the client of a request is let wait for Kafka or a store, from the arrival of the request on."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

from driftline.infra.gateway.problems import ANSWERS_IN

TRIED_FOR = 0.25
"""Seconds for which Kafka or a store is waited for at least: the gateway itself may have come late to one of
many requests, and to the lines of a long body."""
ARRIVED = "driftline.arrived"
"""The time of the event loop at which the head of a request came, in the scope of the request."""
_arrived: ContextVar[float] = ContextVar("arrived")


def note_arrival(scope: MutableMapping[str, Any]) -> None:
    """A request is begun with, in this task and those that it starts."""
    _arrived.set(scope.get(ARRIVED) or asyncio.get_running_loop().time())


def while_waited_for() -> asyncio.Timeout:
    """A time-out for what the client of the request at hand waits for."""
    now = asyncio.get_running_loop().time()
    return asyncio.timeout_at(max(_arrived.get(now) + ANSWERS_IN, now + TRIED_FOR))
