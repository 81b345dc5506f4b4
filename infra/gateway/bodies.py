"""The bodies of requests: one event as JSON, or several as NDJSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from starlette.datastructures import Headers

from driftline.infra.gateway.prefer_header import Preference
from driftline.infra.gateway.problems import Problem, unsupported

JSON = "application/json"
NDJSON = "application/x-ndjson"
LINES_AT_ONCE = 256
"""How many events of one NDJSON body are processed at once."""


def kind_of(headers: Headers) -> str:
    """The media type of a body: JSON or NDJSON; JSON if there is no header. Raises Problem 415 for others.

    >>> kind_of(Headers({"Content-Type": "application/x-ndjson; charset=UTF-8"}))
    'application/x-ndjson'
    """
    if headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        raise unsupported(
            "send the body as it is, without a Content-Encoding", {"Accept-Encoding": "identity"}
        )
    said, *parameters = headers.get("Content-Type", JSON).lower().replace('"', "").split(";")
    kind = said.strip() or JSON
    if kind not in (JSON, NDJSON):
        raise unsupported(f"send Content-Type: {JSON}, or {NDJSON} for several events, not {kind[:100]!r}")
    charset = next(
        (each.split("=")[1].strip() for each in parameters if each.strip().startswith("charset=")), ""
    )
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise unsupported(f"send the body in UTF-8, not in {charset[:100]!r}")
    return kind


async def each_event(
    request: Request, handle: Callable[[bytes, Preference], Awaitable[Response]]
) -> Response:
    """Handle the event of a JSON body, or each event of an NDJSON body. Answers come in the events' order."""
    preference = Preference.parse(request.headers.get("Prefer"))
    kind = kind_of(request.headers)
    body = await request.body()
    if kind == JSON:
        return await handle(body, preference)
    turns = asyncio.Semaphore(LINES_AT_ONCE)

    async def line(text: bytes) -> bytes:
        async with turns:
            try:
                answer = await handle(text, preference)
            except Problem as problem:
                return problem.body()
            return bytes(answer.body)

    lines = await asyncio.gather(*(line(text) for text in body.split(b"\n") if text.strip()))
    return Response(b"".join(each + b"\n" for each in lines), media_type=NDJSON)
