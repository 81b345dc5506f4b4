"""The gateway's HTTP interface: its routes, for each case the same, and what they answer."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware

from driftline.infra.gateway.access import AccessKeys, Scope
from driftline.infra.gateway.case_routes import CaseRoutes
from driftline.infra.gateway.problems import MEDIA_TYPE, Problem
from driftline.infra.settings import Settings
from driftline.logs import about
from driftline.streams.declare.usecase import UseCase

log = logging.getLogger("driftline.gateway")

REQUEST_ID = "X-Request-ID"


class Limits(NamedTuple):
    """What a gateway takes at once: requests that are being answered, and bytes of one body."""

    requests: int = 1_000
    body_bytes: int = 1 << 20


def create_app(
    cases: Sequence[UseCase], bootstrap: str, settings: Settings, keys: AccessKeys, limits: Limits
) -> FastAPI:
    """The application that serves some cases."""
    served = [CaseRoutes(case, bootstrap, settings.namespace, settings.features(case.name)) for case in cases]

    health = _Health()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for one in served for work in one.work()]
        for task in tasks:
            task.add_done_callback(health.ended)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in served:
                await one.close()

    app = FastAPI(title="driftline gateway", version="1", lifespan=lifespan, redoc_url=None)
    gate = _Gate(keys, limits)
    app.add_middleware(BaseHTTPMiddleware, dispatch=gate.pass_through)
    app.add_exception_handler(Problem, _problem_response)
    app.add_exception_handler(HTTPException, _not_routed)
    app.add_exception_handler(Exception, _failed)
    for one in served:
        one.add_to(app, gate.allow)

    @app.get("/livez", tags=["health"], summary="Whether the gateway runs")
    async def alive() -> Response:
        body = {"alive": not health.failure} | ({"reason": health.failure} if health.failure else {})
        return Response(
            msgspec.json.encode(body), 503 if health.failure else 200, media_type="application/json"
        )

    @app.get("/readyz", tags=["health"], summary="Whether it has read what was published before it began")
    async def ready() -> Response:
        cases_ready = {one.case.name: one.is_ready for one in served}
        ready_now = all(cases_ready.values())
        body = msgspec.json.encode({"ready": ready_now, "cases": cases_ready})
        return Response(body, 200 if ready_now else 503, media_type="application/json")

    return app


async def _problem_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return Response(error.body(), error.status, headers=error.headers, media_type=MEDIA_TYPE)


async def _not_routed(request: Request, error: Exception) -> Response:
    """No such path, or not by this method."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}: /docs describes every route"
    return await _problem_response(
        request, Problem(error.status_code, error.detail, where, headers=error.headers)
    )


async def _failed(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return await _problem_response(request, Problem(500, "A fault of the gateway", "its log has the reason"))


class _Health:
    """Whether all that the gateway needs beside its requests still runs."""

    def __init__(self) -> None:
        self.failure = ""

    def ended(self, task: asyncio.Task[None]) -> None:
        """A task is over; that is a failure unless the gateway has ended it."""
        if not task.cancelled():
            error = task.exception()
            self.failure = f"{type(error).__name__}: {error}"
            log.error("the gateway cannot go on", exc_info=error)


class _Gate:
    """What every request passes: the limits, the key, and an id of its own in the answer."""

    def __init__(self, keys: AccessKeys, limits: Limits) -> None:
        self._keys = keys
        self._limits = limits
        self._open = 0

    def allow(self, request: Request, scope: Scope) -> None:
        """Raises Problem unless the request's key has the scope."""
        self._keys.allow(request.headers.get("Authorization"), scope)

    async def pass_through(
        self, request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Answer within the limits; health is answered always."""
        request_id = request.headers.get(REQUEST_ID, "")[:128] or uuid.uuid4().hex
        about(request_id=request_id)
        response = await self._limited(request, answer)
        response.headers[REQUEST_ID] = request_id
        return response

    async def _limited(self, request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path in ("/livez", "/readyz"):
            return await answer(request)
        try:
            if self._open >= self._limits.requests:
                raise Problem(
                    429,
                    "Too many requests",
                    f"{self._limits.requests:,} are being answered: try again",
                    headers={"Retry-After": "1"},
                )
            self._open += 1
            try:
                await self._see_that_body_fits(request)
                return await answer(request)
            finally:
                self._open -= 1
        except Problem as problem:
            return await _problem_response(request, problem)

    async def _see_that_body_fits(self, request: Request) -> None:
        """Raises Problem 413 for a body above the limit, and reads no more of it than the limit."""
        size, most = 0, self._limits.body_bytes
        length = request.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > most:
            raise _too_large(most)
        chunks = []
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise _too_large(most)
            chunks.append(chunk)
        request._body = b"".join(chunks)  # what `request.body()` gives from here on


def _too_large(most: int) -> Problem:
    return Problem(413, "Body too large", f"a body has at most {most:,} bytes")
