"""Where a reader of a topic is: for each partition, the offset of the next record."""

from __future__ import annotations

import re
from collections.abc import Mapping

from driftline.infra.gateway.problems import beyond_end, no_position

OffsetVector = dict[int, int]
_WRITTEN = re.compile(r"\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18})*")


def encoded(vector: Mapping[int, int]) -> str:
    """The text of a vector, which is also the id of a server-sent event.

    >>> encoded({1: 7, 0: 12})
    '0:12,1:7'
    """
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(vector.items()))


def parsed(text: str) -> OffsetVector:
    """The vector in a text. Raises Problem.

    >>> parsed("0:12,1:7")
    {0: 12, 1: 7}
    """
    if not _WRITTEN.fullmatch(text):
        raise no_position(f"expected PARTITION:OFFSET,..., as it was given with a record, not {text[:100]!r}")
    named = [part.split(":") for part in text.split(",")]
    given = {int(partition): int(offset) for partition, offset in named}
    if len(given) < len(named):
        raise no_position(f"{text[:100]!r} names a partition twice")
    return given


def within(vector: Mapping[int, int], begins: Mapping[int, int], ends: Mapping[int, int]) -> OffsetVector:
    """The vector of all partitions of a topic, no earlier than what is kept; what it leaves out is read
    from their beginning. Raises Problem for an offset beyond the end, and for a partition that is not there.
    """
    unknown = sorted(set(vector) - set(ends))
    if unknown:
        raise no_position(f"there is no partition {unknown[0]}: the topic has {len(ends)}")
    for partition, offset in sorted(vector.items()):
        if offset > ends[partition]:
            raise beyond_end(partition, ends[partition], offset)
    return {partition: max(vector.get(partition, 0), begin) for partition, begin in begins.items()}


def gaps(asked: Mapping[int, int] | None, kept: Mapping[int, int]) -> list[dict[str, int]]:
    """Where what was asked for is kept no longer: from which offset to which, by partition.

    >>> gaps({1: 7, 0: 12}, {0: 12, 1: 9})
    [{'partition': 1, 'from': 7, 'to': 9}]
    """
    return [
        {"partition": partition, "from": offset, "to": kept[partition]}
        for partition, offset in sorted((asked or {}).items())
        if offset < kept[partition]
    ]
