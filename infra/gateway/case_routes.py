"""The routes of one case for sending events and reading features. `published.record_routes` has those for
reading records."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.security import HTTPBearer

from driftline.features.errors import FeaturesError, StoreUnreadable
from driftline.features.online.client import FeatureClient
from driftline.infra.gateway.access import Allow
from driftline.infra.gateway.bodies import JSON, each_event
from driftline.infra.gateway.client_patience import is_there_in_time, while_waited_for
from driftline.infra.gateway.document.answers import of_any_route, of_sending, problems
from driftline.infra.gateway.document.case_document import CaseDocument
from driftline.infra.gateway.prefer_header import Preference
from driftline.infra.gateway.problems import (
    ANSWERS_IN,
    Problem,
    no_prediction,
    no_store,
    no_view,
    refused_event,
)
from driftline.infra.gateway.progress import FoldedOffsets
from driftline.infra.gateway.published.event_stream import OpenStreams
from driftline.infra.gateway.published.record_lookup import RecordLookup
from driftline.infra.gateway.published.record_routes import RecordRoutes
from driftline.infra.gateway.published.results import PublishedResults
from driftline.infra.gateway.submission import Submission
from driftline.infra.settings import Settings
from driftline.streams.declare.event_codec import advice
from driftline.streams.declare.events import SYSTEM_EVENTS, Command, Event
from driftline.streams.declare.retirement import EventDecoder
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import Refused

KEY = HTTPBearer(
    scheme_name="key",
    description="A key of `driftline gateway key NAME --scope SCOPE`",
    auto_error=False,  # `Allow` checks the key
)
LATE = refused_event("late", "2024-05-06T08:00:00Z is before the watermark, 2024-05-06T09:00:00Z")


class CaseRoutes:
    """One case behind the gateway."""

    def __init__(self, case: UseCase, bootstrap: str, settings: Settings, streams: OpenStreams) -> None:
        namespace = settings.namespace
        self.case = case
        self.document = CaseDocument(case, namespace)
        self._codec = case.codec()
        self._decoder: EventDecoder[Event] = EventDecoder((*case.events, *SYSTEM_EVENTS))
        self._results = PublishedResults(case, bootstrap, namespace)
        self._progress = FoldedOffsets(case, bootstrap, namespace)
        self._lookup = RecordLookup(bootstrap)
        self._submission = Submission(case, bootstrap, namespace, self._results, self._progress, self._lookup)
        self._records = RecordRoutes(case, bootstrap, settings, streams)
        self._features = FeatureClient(case, settings.features(case.name)) if case.views() else None
        self.reads = None if self._features is None else self._features.reads
        """Counts of reads of online features; None for a case without any."""
        self._base = f"/v1/cases/{case.name}"

    @property
    def is_ready(self) -> bool:
        """Whether everything published in the `dedup_horizon` before the start has been read."""
        return self._results.is_ready

    def work(self) -> Iterable[Coroutine[Any, Any, None]]:
        """The background tasks, which run as long as the gateway."""
        return self._results.run(), self._progress.run()

    async def close(self) -> None:
        """Cancel what is in progress and close the connections."""
        await self._submission.close()
        await self._progress.close()
        await self._lookup.close()
        await self._records.close()
        if self._features is not None:
            await self._features.close_async()

    def add_to(self, app: FastAPI, allow: Allow) -> APIRouter:
        """Add the routes to the application and return them. Each route calls `allow` first."""
        router = APIRouter(
            prefix=self._base,
            tags=[self.case.name],
            dependencies=[Depends(KEY)],
            responses=of_any_route(),
            default_response_class=Response,  # else the document says that every answer is JSON
        )
        self._add_predictions(router, allow)
        if facts := [kind for kind in self.case.events if kind is not self.case.task.ask]:
            self._add_facts(router, facts, allow)
        self._add_commands(router, allow)
        self._add_features(router, allow)
        self._records.add_to(router, self.document, allow)
        app.include_router(router)
        return router

    def _add_predictions(self, router: APIRouter, allow: Allow) -> None:
        document = self.document

        @router.post(
            "/predictions",
            summary="Ask for a prediction: the request goes into the log, its prediction is the answer",
            openapi_extra=document.body([self.case.task.ask]),
            responses=document.predicted() | document.accepted_request() | of_sending(document.request_id),
        )
        async def predict(request: Request) -> Response:
            allow(request, "produce")
            return await each_event(request, self._predicted)

        @router.get(
            "/predictions/{event_id:path}",
            summary="The prediction of an earlier request",
            responses=document.predicted() | problems(no_prediction(document.request_id), LATE),
        )
        async def find(request: Request, event_id: str) -> Response:
            allow(request, "read:values")
            return Response(await self._submission.found(event_id), media_type=JSON)

    def _add_facts(self, router: APIRouter, facts: Sequence[type[Event]], allow: Allow) -> None:
        @router.post(
            "/events",
            summary="Send a label or another fact: 200 once it is folded, 202 if that takes longer",
            openapi_extra=self.document.body(facts),
            responses=self.document.folded() | of_sending("event-1"),
        )
        async def report(request: Request) -> Response:
            allow(request, "produce")
            return await each_event(request, self._reported)

    def _add_commands(self, router: APIRouter, allow: Allow) -> None:
        @router.post(
            "/commands",
            summary="Relay a command that an operator has signed: answered like a fact",
            openapi_extra=self.document.command_body(),
            responses=self.document.folded() | of_sending("promote-1"),
        )
        async def relay(request: Request) -> Response:
            allow(request, "operate")
            return await each_event(request, self._commanded)

    def _add_features(self, router: APIRouter, allow: Allow) -> None:
        @router.get(
            "/features/{view}",
            summary="The newest features of a key of a view: give ?NAME=VALUE for each field of the key",
            responses=self.document.features() | problems(no_view(self.case.name, "other", "none")),
        )
        async def features(request: Request, view: str) -> Response:
            allow(request, "read:values")
            return await self._read_features(view, dict(request.query_params))

    async def _read_features(self, view: str, key: dict[str, str]) -> Response:
        views = [each.name for each in self.case.views()]
        views += [each.name for each in self.case.on_demand_views()]
        if self._features is None or view not in views:
            known = ", ".join(views) or "none"
            raise no_view(self.case.name, view, known)
        try:
            async with while_waited_for():
                row = await self._features.get_async(view, key)
        except TimeoutError:
            raise no_store(f"no answer within {ANSWERS_IN:g} s: ask again") from None
        except StoreUnreadable as error:
            raise no_store(str(error)) from None
        except FeaturesError as error:
            raise Problem(422, "No such features", str(error)) from None
        return Response(msgspec.json.encode(row), media_type=JSON)

    def _decoded(self, body: bytes) -> Event:
        """The event in a body, decoded by the rules of the fold. Raises Problem 422."""
        try:
            event = self._decoder.decode(body)
            if isinstance(event, SYSTEM_EVENTS):
                raise Refused(
                    "decode",
                    f"{type(event).__name__} is an internal event of driftline: clients do not send it",
                )
            return self._codec.decode(body, self._codec.key(event))
        except Refused as error:
            raise refused_event(error.stage, error.reason) from None
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise refused_event("decode", f"{error}{advice(str(error), self.case.events)}") from None

    async def _predicted(self, body: bytes, preference: Preference) -> Response:
        event = self._decoded(body)
        if type(event) is not self.case.task.ask:
            raise Problem(
                422,
                "No request",
                f"a {type(event).__name__} is not a request: send a {self.case.task.ask.__name__} here, "
                f"and a {type(event).__name__} to {self._base}/events",
            )
        asked = asyncio.ensure_future(self._submission.predict(event))
        if await is_there_in_time(asked, preference.wait):
            return Response(asked.result(), media_type=JSON)
        asked.add_done_callback(_retrieve_failure)
        where = f"{self._base}/predictions/{quote(event.id, safe='')}"
        return _accepted({"id": event.id, "status": "accepted", "prediction": where}, {"Location": where})

    async def _reported(self, body: bytes, preference: Preference) -> Response:
        event = self._decoded(body)
        if type(event) is self.case.task.ask:
            raise Problem(422, "A request", f"send a {type(event).__name__} to {self._base}/predictions")
        return await self._folded(event, preference)

    async def _commanded(self, body: bytes, preference: Preference) -> Response:
        try:
            event = self._decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise refused_event("decode", f"{error}{advice(str(error), self.case.events)}") from None
        if not isinstance(event, Command):
            raise Problem(
                422, "No command", f"a {type(event).__name__} is not a command: `driftline models` makes them"
            )
        return await self._folded(event, preference)

    async def _folded(self, event: Event, preference: Preference) -> Response:
        """Append an event, and answer when it has been folded, or with 202 when that takes longer than the
        client waits. Raises Problem."""
        positions = await self._submission.append(event)
        folding = asyncio.ensure_future(self._submission.folded(positions))
        try:
            if not await is_there_in_time(folding, preference.wait):
                return _accepted({"id": event.id, "status": "accepted"})
            folding.result()
        finally:
            folding.cancel()
        return Response(msgspec.json.encode({"id": event.id, "status": "folded"}), media_type=JSON)


def _accepted(body: dict[str, str], headers: dict[str, str] | None = None) -> Response:
    """The answer 202 to a client that waits no longer: the result for its event is not known yet."""
    return Response(msgspec.json.encode(body), 202, headers=headers, media_type=JSON)


def _retrieve_failure(task: asyncio.Future[bytes]) -> None:
    """Retrieve a failure, so that asyncio does not log it. The client reads the result later."""
    if not task.cancelled():
        task.exception()
