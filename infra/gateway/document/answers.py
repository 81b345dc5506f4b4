"""Descriptions of answers for OpenAPI, and of the problems that a route may answer with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftline.infra.gateway.bodies import JSON
from driftline.infra.gateway.problems import (
    MEDIA_TYPE,
    Problem,
    no_key,
    no_scope,
    not_now,
    other_content,
    refused_event,
    too_large,
    too_many_requests,
    too_slow,
    unknown_outcome,
    unsupported,
)

Responses = dict[int | str, dict[str, Any]]
"""Descriptions by status, in the form that FastAPI takes."""
OBJECT: Mapping[str, Any] = {"type": "object"}
PROBLEM_SCHEMA: Mapping[str, Any] = {
    "title": "Problem",
    "description": "RFC 9457. `stage` is that of the dead letter where the fold refused an event.",
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "stage": {"type": "string"},
    },
    "required": ["title", "status", "detail"],
}
PROBLEM = "#/components/schemas/Problem"


def answer(description: str, schema: Mapping[str, Any], example: Any, kind: str = JSON) -> dict[str, Any]:
    """The description of one answer, with the schema and an example of its body."""
    return {"description": description, "content": {kind: {"schema": schema, "example": example}}}


def problems(*those: Problem) -> Responses:
    """The descriptions of problems: each is an example under its status."""
    found: Responses = {}
    for problem in those:
        described = found.setdefault(
            problem.status,
            {
                "description": problem.title,
                "content": {MEDIA_TYPE: {"schema": {"$ref": PROBLEM}, "examples": {}}},
            },
        )
        examples = described["content"][MEDIA_TYPE]["examples"]
        examples[f"{problem.title} {len(examples) + 1}"] = {"value": problem.document()}
        if problem.headers:
            described["headers"] = {
                name: {"schema": {"type": "string"}, "example": value}
                for name, value in problem.headers.items()
            }
    return found


def of_any_route() -> Responses:
    """The problems that every route with a key may answer."""
    return problems(
        no_key(),
        no_scope("dashboard", "produce"),
        Problem(422, "Wrong parameter", "limit: Input should be less than or equal to 1000"),
        too_many_requests(1_000),
        not_now(),
    )


def of_sending(event_id: str) -> Responses:
    """The problems that a route for events may answer."""
    return problems(
        too_slow(30.0),
        too_large(1 << 20),
        unsupported("send Content-Type: application/json, not 'text/plain'"),
        refused_event("late", "2024-05-06T08:00:00Z is before the watermark, 2024-05-06T09:00:00Z"),
        refused_event("decode", "Object missing required field `id`"),
        other_content(event_id),
        unknown_outcome(event_id),
    )
