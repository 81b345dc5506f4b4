"""Work that is done for one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from driftline.infra.gateway.problems import ANSWERS_IN, Problem

TURN_WITHIN = ANSWERS_IN / 2
"""Seconds in the queue. With those for which Kafka may be silent, a client is answered within 2 s."""


class Turns:
    """A queue of requests in which none waits for long. Of many at once, most are told to retry, and the time
    that a request gets does not depend on how long it has waited."""

    def __init__(self) -> None:
        self._free = asyncio.Lock()

    @asynccontextmanager
    async def taken(self, else_: Problem) -> AsyncIterator[None]:
        """The caller's turn, for this context. Raises `else_` if it does not come within `TURN_WITHIN`."""
        try:
            async with asyncio.timeout(TURN_WITHIN):
                await self._free.acquire()
        except TimeoutError:
            raise else_ from None
        try:
            yield
        finally:
            self._free.release()
