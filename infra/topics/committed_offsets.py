"""How far the workers of a case have come in its log, as the broker knows it."""

from __future__ import annotations

from typing import Any

from driftline.streams.declare.topics import is_worker_group

SERVING = ("stable", "preparing-rebalance", "completing-rebalance")
"""States of a group that has members."""


def worker_groups(admin: Any, readers: str, *, serving_only: bool = True) -> list[str]:
    """The groups of workers of a case (`Topics.readers`), of whichever code; by default those that have
    members."""
    listed = admin.list_groups(states_filter=list(SERVING)) if serving_only else admin.list_groups()
    return [group["group_id"] for group in listed if is_worker_group(group["group_id"], readers)]


def folded_offsets(admin: Any, log: str, groups: list[str]) -> dict[int, int]:
    """By partition, the offset before which all is folded and what it causes is published: workers commit
    that."""
    folded: dict[int, int] = {}
    for committed in admin.list_group_offsets(groups).values() if groups else ():
        for place, offset in committed.items():
            if place.topic == log:  # the furthest group counts
                folded[place.partition] = max(folded.get(place.partition, 0), offset.offset)
    return folded
