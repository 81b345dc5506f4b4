"""What a request failed with, as a problem document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from driftline.infra.errors import InfraError

MEDIA_TYPE = "application/problem+json"
ANSWERS_IN = 1.0
"""Seconds of silence, of Kafka or the online store, after which a client is told to come again: it hears that
within 2 s, with what a hundred clients at once take to be told."""


class Problem(InfraError):
    """A request that is not answered as asked; `extra` are further members of the document."""

    def __init__(
        self, status: int, title: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(f"{title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """Its members."""
        return {"title": self.title, "status": self.status, "detail": self.detail} | self.extra

    def body(self) -> bytes:
        """The document as JSON."""
        return msgspec.json.encode(self.document())


def refused_event(stage: str, reason: str) -> Problem:
    """The fold has refused an event, or would refuse it for its form."""
    return Problem(422, "The event was refused", reason, stage=stage)


def other_content(event_id: str) -> Problem:
    """An id that was used for another event."""
    return Problem(
        422,
        "The event was refused",
        f"another event came with the id {event_id!r} before: an id names one event",
        stage="id",
    )


def unknown_outcome(event_id: str) -> Problem:
    """Kafka has not acknowledged an event in time: it may be in the log or not."""
    return Problem(
        503,
        "Outcome unknown",
        f"Kafka did not acknowledge {event_id!r} in time. It may be in the log or not: send the same event "
        "with the same id again, it counts once",
        headers={"Retry-After": "1"},
    )


def not_now() -> Problem:
    """Kafka does not answer in time."""
    return Problem(503, "Kafka does not answer", "ask again", headers={"Retry-After": "1"})


def no_store(reason: str) -> Problem:
    """The online store cannot be read."""
    return Problem(503, "The online store does not answer", reason, headers={"Retry-After": "1"})


def no_key() -> Problem:
    """A request without a key."""
    detail = "send the header Authorization: Bearer KEY"
    return Problem(401, "No key", detail, headers={"WWW-Authenticate": "Bearer"})


def no_scope(key: str, scope: str) -> Problem:
    """A key, reported by its name, that may not do this."""
    return Problem(403, "Not allowed", f"the key {key!r} lacks the scope {scope!r}")


def unsupported(detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """A body that is written in another way than it should be."""
    return Problem(415, "Unsupported body", detail, headers=headers)


def too_large(most: int) -> Problem:
    """A body with more than so many bytes."""
    return Problem(413, "Body too large", f"a body has at most {most:,} bytes")


def too_long(most: int) -> Problem:
    """Headers with more than so many bytes."""
    return Problem(431, "Headers too large", f"the headers of a request have at most {most:,} bytes")


def too_slow(seconds: float) -> Problem:
    """A body that did not come in so many seconds."""
    return Problem(408, "Too slow", f"the body did not come within {seconds:g} s")


def too_many_requests(most: int) -> Problem:
    """As many requests as there may be are being answered."""
    detail = f"{most:,} are being answered: try again"
    return Problem(429, "Too many requests", detail, headers={"Retry-After": "1"})


def no_prediction(event_id: str) -> Problem:
    """Nothing is published for a request, or not yet."""
    return Problem(404, "No prediction", f"none is published for {event_id!r}, or not yet")


def no_view(case: str, view: str, known: str) -> Problem:
    """A view that a case does not have; `known` are those that it has."""
    return Problem(404, "No such view", f"{case} has no view {view!r}; it has: {known}")


def no_lineage(reason: str) -> Problem:
    """What a prediction rests on cannot be shown."""
    return Problem(404, "No lineage", reason)


def no_position(detail: str) -> Problem:
    """A reader asks for a position that no topic has."""
    return Problem(422, "No such position", detail)


def beyond_end(partition: int, end: int, offset: int) -> Problem:
    """An offset that is not there yet."""
    return no_position(f"partition {partition} ends at {end}, before {offset}")


def too_many_streams(most: int) -> Problem:
    """As many streams as there may be are open."""
    detail = f"{most:,} streams are open: try again, or ask another gateway"
    return Problem(429, "Too many streams", detail, headers={"Retry-After": "1"})
