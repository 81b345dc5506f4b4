"""The routes for reading published records: pages, streams, models, incidents, schema, lineage."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response
from kafka.errors import KafkaError

from driftline.errors import DeclarationError
from driftline.infra.gateway.access import Allow, Scope
from driftline.infra.gateway.document.answers import problems
from driftline.infra.gateway.document.case_document import CaseDocument
from driftline.infra.gateway.problems import (
    ANSWERS_IN,
    being_traced,
    beyond_end,
    no_lineage,
    not_now,
    too_many_streams,
)
from driftline.infra.gateway.published.event_stream import OpenStreams, RecordStream
from driftline.infra.gateway.published.offset_vector import encoded, parsed
from driftline.infra.gateway.published.topic_reader import RecordPage, TopicReader
from driftline.infra.gateway.published.turns import Turns
from driftline.infra.serving.serve import open_history
from driftline.infra.settings import Settings
from driftline.infra.topics.incidents import NEWEST_DRIFT, incidents_of
from driftline.infra.topics.operator import NEWEST_CHANGES, members, newest_by_pool
from driftline.streams.clients.schema import topic_schemas
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import StreamsError
from driftline.streams.owner.deployment import code_of
from driftline.streams.proof.lineage import lineage

RecordKind = Literal["predictions", "outcomes", "drift", "models", "statistics", "anomalies"]
_SCOPE: dict[RecordKind, Scope] = {
    "predictions": "read:values",
    "outcomes": "read:values",
    "statistics": "read:values",  # they contain the most frequent texts
    "anomalies": "read:values",
    "drift": "read",
    "models": "read",
}
MOST_RECORDS = 1_000
EVENTS_BEHIND = 5
"""How many events the lineage lists behind each feature."""


class RecordRoutes:
    """The reading routes of one case."""

    def __init__(self, case: UseCase, bootstrap: str, settings: Settings, streams: OpenStreams) -> None:
        self._case = case
        self._bootstrap = bootstrap
        self._settings = settings
        self._topics = case.topics(settings.namespace)
        self._reader = TopicReader(bootstrap)
        self._streams = streams
        self._tracing = Turns()

    async def close(self) -> None:
        """Close the connection."""
        await self._reader.close()

    def add_to(self, router: APIRouter, document: CaseDocument, allow: Allow) -> None:
        """Add the routes to those of the case. Each route calls `allow` first."""
        self._add_records(router, document, allow)
        self._add_now(router, document, allow)
        self._add_lineage(router, document, allow)

    def _add_records(self, router: APIRouter, document: CaseDocument, allow: Allow) -> None:
        @router.get(
            "/records/{kind}",
            summary="Published records, one page at a time",
            responses=document.page() | problems(beyond_end(0, 120, 999)),
        )
        async def page(
            request: Request,
            kind: RecordKind,
            since: str | None = None,
            limit: int = Query(100, ge=1, le=MOST_RECORDS),
        ) -> Response:
            allow(request, _SCOPE[kind])
            begin = None if since is None else parsed(since)
            topic = getattr(self._topics, kind)
            return _json(_page(await self._reader.page(topic, begin, limit)))

        @router.get(
            "/streams/{kind}",
            summary="Records as they are published, as server-sent events",
            responses=document.stream() | problems(beyond_end(0, 120, 999), too_many_streams(100)),
        )
        async def stream(request: Request, kind: RecordKind, since: str | None = None) -> Response:
            allow(request, _SCOPE[kind])
            at = request.headers.get("Last-Event-ID") or since
            begin = None if at is None else parsed(at)
            topic = getattr(self._topics, kind)
            return await self._streams.answer(
                lambda endings: RecordStream.open(self._bootstrap, topic, begin, endings)
            )

    def _add_now(self, router: APIRouter, document: CaseDocument, allow: Allow) -> None:
        @router.get(
            "/models",
            summary="The declared members, and the serving member of each pool",
            responses=document.models(),
        )
        async def models(request: Request) -> Response:
            allow(request, "read")
            pools = newest_by_pool(await self._newest(self._topics.models, NEWEST_CHANGES))
            return _json({"members": members(self._case), "serving": pools})

        @router.get(
            "/incidents",
            summary="Drift incidents, the most recently changed first",
            responses=document.incidents(),
        )
        async def list_incidents(
            request: Request, limit: int = Query(100, ge=1, le=MOST_RECORDS)
        ) -> Response:
            allow(request, "read")
            found = incidents_of(await self._newest(self._topics.drift, NEWEST_DRIFT))
            return _json({"incidents": found[:limit], "more": len(found) > limit})

        @router.get(
            "/schema", summary="JSON Schema of the records of each topic", responses=document.schemas()
        )
        async def schema(request: Request) -> Response:
            allow(request, "read")
            return _json(topic_schemas(self._case, self._settings.namespace))

    async def _newest(self, topic: str, count: int) -> list[Any]:
        """The values of a topic's newest records."""
        records = await self._reader.newest(topic, count)
        return [msgspec.json.decode(record.value) for record in records]

    def _add_lineage(self, router: APIRouter, document: CaseDocument, allow: Allow) -> None:
        @router.get(
            "/lineage/{prediction_id:path}",
            summary="The lineage of a prediction: request, features with the events behind them, model, code",
            responses=document.lineage() | problems(no_lineage("no prediction has this id"), being_traced()),
        )
        async def trace(request: Request, prediction_id: str) -> Response:
            allow(request, "read:values")
            # else a thread would wait for Kafka, and the next requests for the thread
            await self._reader.reached(self._topics.log)
            async with self._tracing.taken(else_=being_traced()):  # each one reads the log
                try:
                    found = await asyncio.to_thread(self._lineage, prediction_id)
                except KafkaError:
                    raise not_now() from None
                except (DeclarationError, StreamsError) as error:
                    raise no_lineage(str(error)) from None
            return Response(found, media_type="application/json")

    def _lineage(self, prediction_id: str) -> str:
        with open_history(self._case, self._settings, ANSWERS_IN) as history:
            code = code_of(self._case)
            return lineage(history, self._case, self._topics, code, prediction_id, EVENTS_BEHIND).as_json()


def _page(page: RecordPage) -> dict[str, Any]:
    """The body of a page, with each record verbatim."""
    items = [
        {"partition": record.partition, "offset": record.offset, "record": msgspec.Raw(record.value)}
        for record in page.records
    ]
    gaps = {"gaps": page.gaps} if page.gaps else {}
    return {"items": items, "next": encoded(page.next), "more": page.more} | gaps


def _json(body: Any) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
