"""How long the client of a request waits: for Kafka or a store from the arrival of the request on, and for
its result as long as it has said, unless it goes before."""

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
GONE = "driftline.gone"
"""A future in the scope of the request, which is done when its connection is lost."""
_arrived: ContextVar[float] = ContextVar("arrived")
_gone: ContextVar[asyncio.Future[None] | None] = ContextVar("gone", default=None)


def note_arrival(scope: MutableMapping[str, Any]) -> None:
    """A request is begun with, in this task and those that it starts."""
    _arrived.set(scope.get(ARRIVED) or asyncio.get_running_loop().time())
    _gone.set(scope.get(GONE))


def while_waited_for() -> asyncio.Timeout:
    """A time-out for what the client of the request at hand waits for."""
    now = asyncio.get_running_loop().time()
    return asyncio.timeout_at(max(_arrived.get(now) + ANSWERS_IN, now + TRIED_FOR))


async def is_there_in_time(result: asyncio.Future[Any], seconds: float) -> bool:
    """Whether a result, or a failure, is there before the client has waited for so many seconds, or has gone:
    nobody waits for a client that is gone. The result itself may come later."""
    gone = _gone.get()
    ends = (result,) if gone is None else (result, gone)
    await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    return result.done()
