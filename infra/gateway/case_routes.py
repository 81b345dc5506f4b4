"""The routes of one case: what is sent to it, and its features; those of its records are beside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import FastAPI, Request, Response

from driftline.features.errors import FeaturesError
from driftline.features.online.client import FeatureClient
from driftline.infra.gateway.access import Allow
from driftline.infra.gateway.bodies import JSON, NDJSON, each_event
from driftline.infra.gateway.prefer_header import Preference
from driftline.infra.gateway.problems import Problem, refused_event
from driftline.infra.gateway.progress import FoldedOffsets
from driftline.infra.gateway.published.event_stream import OpenStreams
from driftline.infra.gateway.published.record_routes import RecordRoutes
from driftline.infra.gateway.published.results import PublishedResults
from driftline.infra.gateway.published.topic_reader import TopicReader
from driftline.infra.gateway.submission import Submission
from driftline.infra.settings import Settings
from driftline.streams.clients.schema import topic_schemas
from driftline.streams.declare.events import SYSTEM_EVENTS, Command, Event
from driftline.streams.declare.retirement import EventDecoder
from driftline.streams.declare.usecase import UseCase

REPEATED_IN = 1.5
"""Seconds in which Kafka gives the request that came before, or the client is told to send its own again."""


class CaseRoutes:
    """One case behind the gateway."""

    def __init__(self, case: UseCase, bootstrap: str, settings: Settings, streams: OpenStreams) -> None:
        namespace = settings.namespace
        self.case = case
        self._namespace = namespace
        self._decoder: EventDecoder[Event] = EventDecoder((*case.events, *SYSTEM_EVENTS))
        self._results = PublishedResults(case, bootstrap, namespace)
        self._progress = FoldedOffsets(case, bootstrap, namespace)
        self._reader = TopicReader(bootstrap, REPEATED_IN)
        self._submission = Submission(case, bootstrap, namespace, self._results, self._progress, self._reader)
        self._records = RecordRoutes(case, bootstrap, settings, streams)
        self._features = FeatureClient(case, settings.features(case.name)) if case.views() else None
        self._base = f"/v1/cases/{case.name}"

    @property
    def is_ready(self) -> bool:
        """Whether what was published in the last `dedup_horizon` before the start has been read."""
        return self._results.is_ready

    def work(self) -> Iterable[Coroutine[Any, Any, None]]:
        """What runs as long as the gateway does."""
        return self._results.run(), self._progress.run()

    async def close(self) -> None:
        """End what is on its way."""
        await self._submission.close()
        await self._reader.close()
        await self._records.close()
        if self._features is not None:
            await self._features.close_async()

    def add_to(self, app: FastAPI, allow: Allow) -> None:
        """Add the routes to the application; `allow` is asked first by each."""
        topics, schemas = self.case.topics(self._namespace), topic_schemas(self.case, self._namespace)
        events = _inlined(schemas[topics.log])
        event_body = {
            "requestBody": {
                "required": True,
                "content": {JSON: {"schema": events}, NDJSON: {"schema": {"type": "string"}}},
            }
        }
        answer = {JSON: {"schema": _inlined(schemas[topics.predictions])}}
        self._add_predictions(app, allow, event_body, {200: {"content": answer}})
        self._add_facts(app, allow, event_body)
        self._add_commands(app, allow)
        self._add_features(app, allow)
        self._records.add_to(app, self._base, allow)

    def _add_predictions(
        self,
        app: FastAPI,
        allow: Allow,
        event_body: dict[str, Any],
        prediction: dict[int | str, dict[str, Any]],
    ) -> None:
        name = self.case.name

        @app.post(
            f"{self._base}/predictions",
            tags=[name],
            summary="Ask for a prediction: the request goes into the log, the answer is what is published",
            openapi_extra=event_body,
            responses=prediction,
        )
        async def predict(request: Request) -> Response:
            allow(request, "produce")
            return await each_event(request, self._predicted)

        @app.get(
            f"{self._base}/predictions/{{event_id:path}}",
            tags=[name],
            summary="The prediction of a request that was sent before",
            responses=prediction,
        )
        async def find(request: Request, event_id: str) -> Response:
            allow(request, "read:values")
            return Response(await self._submission.found(event_id), media_type=JSON)

    def _add_facts(self, app: FastAPI, allow: Allow, event_body: dict[str, Any]) -> None:
        name = self.case.name

        @app.post(
            f"{self._base}/events",
            tags=[name],
            summary="Send a label or another fact; answered when it has been folded, or 202",
            openapi_extra=event_body,
        )
        async def report(request: Request) -> Response:
            allow(request, "produce")
            return await each_event(request, self._reported)

    def _add_commands(self, app: FastAPI, allow: Allow) -> None:
        command = _inlined(msgspec.json.schema(Command))

        @app.post(
            f"{self._base}/commands",
            tags=[self.case.name],
            summary="Relay a command that its operator has signed; answered as a fact is",
            openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": command}}}},
        )
        async def relay(request: Request) -> Response:
            allow(request, "operate")
            return await each_event(request, self._commanded)

    def _add_features(self, app: FastAPI, allow: Allow) -> None:
        @app.get(
            f"{self._base}/features/{{view}}",
            tags=[self.case.name],
            summary="The newest features of a key of a view: ?NAME=VALUE for each part of the key",
        )
        async def features(request: Request, view: str) -> Response:
            allow(request, "read:values")
            return await self._read_features(view, dict(request.query_params))

    async def _read_features(self, view: str, key: dict[str, str]) -> Response:
        views = [each.name for each in self.case.views()]
        views += [each.name for each in self.case.on_demand_views()]
        if self._features is None or view not in views:
            known = ", ".join(views) or "none"
            raise Problem(404, "No such view", f"{self.case.name} has no view {view!r}; it has: {known}")
        try:
            row = await self._features.get_async(view, key)
        except FeaturesError as error:
            raise Problem(422, "No such features", str(error)) from None
        return Response(msgspec.json.encode(row), media_type=JSON)

    def _decoded(self, body: bytes) -> Event:
        """The event in a body. Raises Problem."""
        try:
            return self._checked(self._decoder.decode(body))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise refused_event("decode", str(error)) from None

    @staticmethod
    def _checked(event: Event) -> Event:
        if isinstance(event, SYSTEM_EVENTS):
            raise refused_event(
                "decode", f"{type(event).__name__} is an internal event of driftline: clients do not send it"
            )
        return event

    async def _predicted(self, body: bytes, preference: Preference) -> Response:
        event = self._decoded(body)
        if type(event) is not self.case.task.ask:
            raise Problem(
                422,
                "No request",
                f"a {type(event).__name__} asks for nothing: send a {self.case.task.ask.__name__}, "
                f"or this to {self._base}/events",
            )
        asked = asyncio.ensure_future(self._submission.predict(event))
        done, _ = await asyncio.wait((asked,), timeout=preference.wait)
        if done:
            return Response(asked.result(), media_type=JSON)
        asked.add_done_callback(_retrieve_failure)
        where = f"{self._base}/predictions/{quote(event.id, safe='')}"
        return _accepted({"id": event.id, "status": "accepted", "prediction": where}, {"Location": where})

    async def _reported(self, body: bytes, preference: Preference) -> Response:
        event = self._decoded(body)
        if type(event) is self.case.task.ask:
            raise Problem(422, "A request", f"a {type(event).__name__} is sent to {self._base}/predictions")
        return await self._folded(event, preference)

    async def _commanded(self, body: bytes, preference: Preference) -> Response:
        try:
            event = self._decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise refused_event("decode", str(error)) from None
        if not isinstance(event, Command):
            raise Problem(
                422, "No command", f"a {type(event).__name__} is none: `driftline models` makes them"
            )
        return await self._folded(event, preference)

    async def _folded(self, event: Event, preference: Preference) -> Response:
        """The answer once an event in the log has been folded, or was not in time. Raises Problem."""
        positions = await self._submission.append(event)
        try:
            async with asyncio.timeout(preference.wait):
                await self._submission.folded(positions)
        except TimeoutError:
            return _accepted({"id": event.id, "status": "accepted"})
        return Response(msgspec.json.encode({"id": event.id, "status": "folded"}), media_type=JSON)


def _accepted(body: dict[str, str], headers: dict[str, str] | None = None) -> Response:
    """The answer to a client that waits no longer: what comes of its event is not known yet."""
    return Response(msgspec.json.encode(body), 202, headers=headers, media_type=JSON)


def _retrieve_failure(task: asyncio.Future[bytes]) -> None:
    """Retrieve a failure, or asyncio logs it: the client reads the result from the topics."""
    if not task.cancelled():
        task.exception()


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that needs no definitions beside it, for OpenAPI."""
    definitions = schema.get("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, dict):
            name = part.get("$ref", "").rpartition("/")[2]
            if name in definitions:
                return resolved(definitions[name])
            return {
                key: resolved(value)
                for key, value in part.items()
                if key not in ("$defs", "$schema", "discriminator")
            }
        return [resolved(each) for each in part] if isinstance(part, list) else part

    result: dict[str, Any] = resolved(schema)
    return result
