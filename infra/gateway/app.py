"""The gateway's HTTP application: the routes of its cases, health checks, and answers to failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from driftline.infra.gateway.access import AccessKeys, Scope
from driftline.infra.gateway.case_routes import CaseRoutes
from driftline.infra.gateway.document.answers import PROBLEM_SCHEMA
from driftline.infra.gateway.middleware import Gate, Limits, problem_response
from driftline.infra.gateway.problems import Problem
from driftline.infra.gateway.published.event_stream import OpenStreams
from driftline.infra.settings import Settings
from driftline.streams.declare.usecase import UseCase

log = logging.getLogger("driftline.gateway")


def create_app(
    cases: Sequence[UseCase],
    bootstrap: str,
    settings: Settings,
    keys: AccessKeys,
    limits: Limits,
    streams: OpenStreams,
) -> FastAPI:
    """The application that serves the cases."""
    served = [CaseRoutes(case, bootstrap, settings, streams) for case in cases]
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

    app = FastAPI(
        title="driftline gateway", version="1", lifespan=lifespan, redoc_url=None, redirect_slashes=False
    )
    app.add_middleware(Gate, limits=limits)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _not_routed)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(Exception, _failed)

    def allow(request: Request, scope: Scope) -> None:
        keys.allow(request.headers.get("Authorization"), scope)

    _add_health(app, served, health)
    _describe(app, [(one, one.add_to(app, allow)) for one in served])
    app.state.reads = {one.case.name: one.reads for one in served if one.reads is not None}
    return app


def _describe(app: FastAPI, routed: Sequence[tuple[CaseRoutes, APIRouter]]) -> None:
    """Add to the OpenAPI document the bodies and answers that the routes describe, with null in examples,
    which FastAPI leaves out, and the schemas they refer to."""
    document = app.openapi()  # FastAPI makes the document once and keeps it
    schemas = document["components"].setdefault("schemas", {})
    schemas["Problem"] = PROBLEM_SCHEMA
    for one, router in routed:
        schemas |= one.document.components
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for method in route.methods or ():
                operation = document["paths"][route.path_format][method.lower()]
                operation |= route.openapi_extra or {}
                operation["responses"] |= {
                    str(status): described for status, described in route.responses.items()
                }


def _add_health(app: FastAPI, served: Sequence[CaseRoutes], health: _Health) -> None:
    @app.get("/livez", tags=["health"], summary="Whether the gateway runs")
    async def alive() -> Response:
        body = {"alive": not health.failure} | ({"reason": health.failure} if health.failure else {})
        status = 503 if health.failure else 200
        return Response(msgspec.json.encode(body), status, media_type="application/json")

    @app.get(
        "/readyz",
        tags=["health"],
        summary="Whether the gateway has read what was published in the dedup_horizon before its start",
    )
    async def ready() -> Response:
        cases_ready = {one.case.name: one.is_ready for one in served}
        ready_now = all(cases_ready.values())
        body = msgspec.json.encode({"ready": ready_now, "cases": cases_ready})
        return Response(body, 200 if ready_now else 503, media_type="application/json")


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error)


async def _not_routed(request: Request, error: Exception) -> Response:
    """Answer a request for an unknown path, or with a method that the path does not have."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}: /docs describes every route"
    return problem_response(Problem(error.status_code, error.detail, where, headers=error.headers))


async def _wrong_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
    return problem_response(Problem(422, "Wrong parameter", "; ".join(wrong)))


async def _failed(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(Problem(500, "A fault of the gateway", "the gateway's log has the reason"))


class _Health:
    """Whether the gateway's background tasks still run."""

    def __init__(self) -> None:
        self.failure = ""

    def ended(self, task: asyncio.Task[None]) -> None:
        """Note that a task has ended. This is a failure, unless the gateway cancelled it."""
        if not task.cancelled():
            error = task.exception()
            self.failure = f"{type(error).__name__}: {error}"
            log.error("the gateway cannot continue: a background task failed", exc_info=error)
