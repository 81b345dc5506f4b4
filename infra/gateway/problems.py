"""Failures of requests as problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from driftline.infra.errors import InfraError

MEDIA_TYPE = "application/problem+json"
ANSWERS_IN = 1.0
"""Seconds without an answer of Kafka or the online store after which a client gets 503. With the time that a
hundred such answers take, a client gets it within 2 s."""


class Problem(InfraError):
    """The failure of a request: an HTTP status, a title and a detail. `extra` are further members of the
    document."""

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
        """The members of the problem document."""
        return {"title": self.title, "status": self.status, "detail": self.detail} | self.extra

    def body(self) -> bytes:
        """The document as JSON."""
        return msgspec.json.encode(self.document())


def refused_event(stage: str, reason: str) -> Problem:
    """The fold refused the event, or would refuse it because it is malformed."""
    return Problem(422, "The event was refused", reason, stage=stage)


def other_content(event_id: str) -> Problem:
    """The event's id was used for an event with other content."""
    return Problem(
        422,
        "The event was refused",
        f"the id {event_id!r} was used for an event with other content: give each event an id of its own",
        stage="id",
    )


def never_answered(event_id: str) -> Problem:
    """The fold has dropped the request as a repeat of one that was not answered."""
    return refused_event(
        "id",
        f"a request with the id {event_id!r} was taken in, and is not answered (any more): it was part of a "
        "warm-up, or of what other code had refused long before an upgrade, or is older than what is kept. "
        "Send it under an id of its own",
    )


def unknown_outcome(event_id: str) -> Problem:
    """Kafka did not acknowledge an event in time, so it may or may not be in the log."""
    return Problem(
        503,
        "Outcome unknown",
        f"Kafka did not acknowledge {event_id!r} in time, so it may or may not be in the log: send the same "
        "event with the same id again, it counts once",
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
    """The key with this name lacks the scope."""
    return Problem(403, "Not allowed", f"the key {key!r} lacks the scope {scope!r}")


def unsupported(detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """The body's media type, charset or encoding is not supported."""
    return Problem(415, "Unsupported body", detail, headers=headers)


def too_large(most: int) -> Problem:
    """The body has more than `most` bytes."""
    return Problem(413, "Body too large", f"a body has at most {most:,} bytes")


def too_long(most: int) -> Problem:
    """The headers have more than `most` bytes."""
    return Problem(431, "Headers too large", f"the headers of a request have at most {most:,} bytes")


def too_slow(seconds: float) -> Problem:
    """The body did not come within `seconds`."""
    return Problem(408, "Too slow", f"the body did not come within {seconds:g} s")


def too_many_requests(most: int) -> Problem:
    """The gateway answers as many requests as its limit allows."""
    detail = f"{most:,} requests are being answered: try again"
    return Problem(429, "Too many requests", detail, headers={"Retry-After": "1"})


def no_prediction(event_id: str) -> Problem:
    """No prediction is published for a request, or not yet."""
    return Problem(404, "No prediction", f"no prediction is published for {event_id!r}, or not yet")


def no_view(case: str, view: str, known: str) -> Problem:
    """The case has no such view. `known` lists those that it has."""
    return Problem(404, "No such view", f"{case} has no view {view!r}; it has: {known}")


def no_lineage(reason: str) -> Problem:
    """The lineage of a prediction is not available."""
    return Problem(404, "No lineage", reason)


def no_position(detail: str) -> Problem:
    """A reader asks for a position that the topic does not have."""
    return Problem(422, "No such position", detail)


def beyond_end(partition: int, end: int, offset: int) -> Problem:
    """A reader asks for an offset beyond the end of a partition."""
    return no_position(f"partition {partition} ends at {end}, before {offset}")


def being_traced() -> Problem:
    """Another lineage is being computed from the log."""
    detail = "another lineage is being traced: try again, or ask another gateway"
    return Problem(429, "Too many requests", detail, headers={"Retry-After": "1"})


def too_many_streams(most: int) -> Problem:
    """As many event streams are open as the limit allows."""
    detail = f"{most:,} streams are open: try again, or ask another gateway"
    return Problem(429, "Too many streams", detail, headers={"Retry-After": "1"})
