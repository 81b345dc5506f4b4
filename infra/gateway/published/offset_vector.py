"""Offset vectors: the position of a reader in a topic, as the offset of the next record of each partition."""

from __future__ import annotations

import re
from collections.abc import Mapping

from driftline.infra.gateway.problems import beyond_end, no_position

OffsetVector = dict[int, int]
_WRITTEN = re.compile(r"\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18})*")


def encoded(vector: Mapping[int, int]) -> str:
    """The text of a vector. It is also the id of a server-sent event.

    >>> encoded({1: 7, 0: 12})
    '0:12,1:7'
    """
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(vector.items()))


def parsed(text: str) -> OffsetVector:
    """The vector in a text. Raises Problem 422.

    >>> parsed("0:12,1:7")
    {0: 12, 1: 7}
    """
    if not _WRITTEN.fullmatch(text):
        raise no_position(f"expected PARTITION:OFFSET,..., as given with a record, not {text[:100]!r}")
    named = [part.split(":") for part in text.split(",")]
    given = {int(partition): int(offset) for partition, offset in named}
    if len(given) < len(named):
        raise no_position(f"{text[:100]!r} names a partition twice")
    return given


def within(vector: Mapping[int, int], begins: Mapping[int, int], ends: Mapping[int, int]) -> OffsetVector:
    """The vector for all partitions of a topic. Offsets before a partition's first record are raised to it,
    and partitions that `vector` leaves out start there. Raises Problem 422 for an offset beyond the end or an
    unknown partition.
    """
    unknown = sorted(set(vector) - set(ends))
    if unknown:
        raise no_position(f"there is no partition {unknown[0]}: the topic has {len(ends)}")
    for partition, offset in sorted(vector.items()):
        if offset > ends[partition]:
            raise beyond_end(partition, ends[partition], offset)
    return {partition: max(vector.get(partition, 0), begin) for partition, begin in begins.items()}


def gaps(asked: Mapping[int, int] | None, kept: Mapping[int, int]) -> list[dict[str, int]]:
    """The requested offsets that retention has deleted: a range for each partition.

    >>> gaps({1: 7, 0: 12}, {0: 12, 1: 9})
    [{'partition': 1, 'from': 7, 'to': 9}]
    """
    return [
        {"partition": partition, "from": offset, "to": kept[partition]}
        for partition, offset in sorted((asked or {}).items())
        if offset < kept[partition]
    ]
