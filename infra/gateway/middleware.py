"""Middleware for every request: limits, reading of the body, and a request id."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from typing import NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driftline.infra.gateway import client_patience
from driftline.infra.gateway.problems import (
    MEDIA_TYPE,
    Problem,
    too_large,
    too_long,
    too_many_requests,
    too_slow,
)
from driftline.logs import about

REQUEST_ID = "X-Request-ID"
HEAD_BYTES = 64 << 10
"""The largest size of a request's headers, in bytes."""
BODY_WITHIN = 30.0
"""Seconds in which a client must send its body."""
STREAMS = "/streams/"
_HEALTH = ("/livez", "/readyz")


class Limits(NamedTuple):
    """Limits of a gateway: requests answered at once, bytes of one body, open event streams."""

    requests: int = 1_000
    body_bytes: int = 1 << 20
    streams: int = 100


class Gate:
    """ASGI middleware that enforces the limits. HEAD is answered like GET, without the body."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES:
            await problem_response(too_long(HEAD_BYTES), close=True)(scope, receive, send)
            return
        client_patience.note_arrival(scope)
        headers = Headers(scope=scope)
        request_id = headers.get(REQUEST_ID, "")[:128] or uuid.uuid4().hex
        about(request_id=request_id)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        if scope["method"] == "HEAD" and STREAMS not in scope["path"]:
            scope = {**scope, "method": "GET"}
        if scope["path"] in _HEALTH or STREAMS in scope["path"]:  # streams have a limit of their own
            await self._app(scope, receive, named)
        else:
            await self._limited(scope, headers, receive, named)

    async def _limited(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        if self._open >= self._limits.requests:
            problem = too_many_requests(self._limits.requests)
            await problem_response(problem)(scope, receive, send)
            return
        self._open += 1
        try:
            try:
                async with asyncio.timeout(BODY_WITHIN):
                    read = await self._body(headers, receive)
            except TimeoutError:
                await problem_response(too_slow(BODY_WITHIN), close=True)(scope, receive, send)
            except Problem as problem:
                await problem_response(problem, close=True)(scope, receive, send)
            else:
                await self._app(scope, _again(read, receive), send)
        finally:
            self._open -= 1

    async def _body(self, headers: Headers, receive: Receive) -> deque[Message]:
        """The messages of a body. Raises Problem 413 as soon as the limit is passed, and reads no further."""
        most = self._limits.body_bytes
        length = headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() and len(length) < 20 else 0
        if size > most:
            raise too_large(most)
        read: deque[Message] = deque()
        size = 0
        while True:
            message = await receive()
            read.append(message)
            size += len(message.get("body", b""))
            if size > most:
                raise too_large(most)
            if not message.get("more_body", False):
                return read


def _again(read: deque[Message], receive: Receive) -> Receive:
    async def received() -> Message:
        return read.popleft() if read else await receive()

    return received


def problem_response(problem: Problem, *, close: bool = False) -> Response:
    """A problem as an answer. `close` closes the connection, since the request's body was not read."""
    headers = problem.headers | ({"Connection": "close"} if close else {})
    return Response(problem.body(), problem.status, headers=headers, media_type=MEDIA_TYPE)
