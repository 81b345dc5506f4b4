"""The incidents whose events are on the drift topic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

NEWEST_DRIFT = 10_000
"""Newest offsets of each partition of the drift topic in which incidents are looked for."""


def incidents_of(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each incident with its first and newest drift event, the one that changed last first.

    The records are those of the drift topic, oldest first.

    >>> turns = [{"key": "JFK", "id": "d1", "incident": "i1"}, {"key": "LGA", "id": "d2"}]
    >>> [(one["incident"], one["events"]) for one in incidents_of([*turns, turns[0] | {"id": "d3"}])]
    [('i1', 2), ('d2', 1)]
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        place = record["key"], record.get("incident") or record["id"]
        known = found.pop(place, {"incident": place[1], "key": place[0], "events": 0, "first": record})
        found[place] = known | {"events": known["events"] + 1, "newest": record}
    return list(reversed(found.values()))
