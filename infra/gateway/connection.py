"""A client's connection with time-outs. uvicorn itself waits without limit for the rest of a request's head,
and for a client that does not read its response."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from driftline.infra.gateway.client_patience import ARRIVED, GONE

log = logging.getLogger("driftline.gateway")

HEAD_WITHIN = 30.0
"""Seconds in which a client must send the request line and headers, or its connection is closed."""
TAKEN_WITHIN = 30.0
"""Seconds in which a client must read some of the data that waits for it, or its connection is closed."""


class _Alarm:
    """A call that is made later, unless it is cancelled."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def set(self, loop: asyncio.AbstractEventLoop, seconds: float, what: Callable[[], None]) -> None:
        """Make the call in `seconds`. If one is set already, its time stays."""
        if self._timer is None:
            self._timer = loop.call_later(seconds, what)

    def cancel(self) -> None:
        """Do not make the call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connection(H11Protocol):
    """Limits how long a client is waited for, and tells when it has gone. `middleware` limits the time for a
    request's body."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head = _Alarm()
        self._taking = _Alarm()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        now, before = self.loop.time(), self.scope
        super().data_received(data)
        if self.scope is not before:  # a request has begun; its task may come late
            cast(dict[str, Any], self.scope).update({ARRIVED: now, GONE: self.loop.create_future()})
        self._wait_for_head()

    def _wait_for_head(self) -> None:
        """Close the connection after a while, unless the head of a request has come."""
        if self.conn.their_state is not h11.IDLE:
            self._head.cancel()
        else:
            self._head.set(self.loop, HEAD_WITHIN, self.transport.close)

    def pause_writing(self) -> None:
        """See asyncio: the buffer of data for the client is full."""
        super().pause_writing()
        self._taking.set(self.loop, TAKEN_WITHIN, self._let_go)

    def resume_writing(self) -> None:
        """See asyncio."""
        super().resume_writing()
        self._taking.cancel()

    def _let_go(self) -> None:
        log.warning("%s: closed, as its client read nothing for %g s", self.scope["path"], TAKEN_WITHIN)
        self.transport.abort()  # `close` would wait until all data is read

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        super().connection_lost(exc)
        self._head.cancel()
        self._taking.cancel()
        gone = (cast(dict[str, Any] | None, self.scope) or {}).get(GONE)
        if gone is not None and not gone.done():
            gone.set_result(None)
