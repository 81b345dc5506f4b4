"""What a request failed with, as a problem document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from driftline.infra.errors import InfraError

MEDIA_TYPE = "application/problem+json"


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
