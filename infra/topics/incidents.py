"""The incidents that the drift topic tells of."""

from __future__ import annotations

from typing import Any

from driftline.infra.topics.tail import newest_records

NEWEST_DRIFT = 10_000
"""Newest records of the drift topic in which `newest_incidents` looks."""


def newest_incidents(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """Each incident with its first and newest drift event, the one that changed last first."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for record in newest_records(bootstrap, topic, NEWEST_DRIFT):
        event = record["value"]
        name = event.get("incident") or event["id"]
        begun = found.pop((event["key"], name), None)
        found[event["key"], name] = {
            "incident": name,
            "key": event["key"],
            "events": 1 + (begun["events"] if begun else 0),
            "first": begun["first"] if begun else event,
            "newest": event,
        }
    return list(reversed(found.values()))
