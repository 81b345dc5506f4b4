"""Checks regularly whether the partitions of a worker know the same references."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from driftline.streams.fold.reference_spread import differences
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.records.ports import BrokerSilent

log = logging.getLogger("driftline.worker")


class ReferenceWatch:
    """Reports once each kind of reference on which partitions differ that have read everything. A difference
    must show in two checks: a reference may be on its way to the other partitions.
    """

    def __init__(self) -> None:
        self._suspected: dict[str, str] = {}
        self._reported: set[str] = set()

    async def look(self, serving: Sequence[OwnedPartition]) -> None:
        """Check the partitions that are served."""
        differences = _differences(serving)
        if differences:
            differences = _differences(await _at_the_end(serving))
        self._reported &= differences.keys()
        for kind, text in differences.items():
            if self._suspected.get(kind) == text and kind not in self._reported:
                log.error("%s", text)
                self._reported.add(kind)
        self._suspected = differences


def _differences(owned: Sequence[OwnedPartition]) -> dict[str, str]:
    return differences({one.partition: one.processor.known_references() for one in owned})


async def _at_the_end(serving: Sequence[OwnedPartition]) -> list[OwnedPartition]:
    """Partitions that have answered all records of the log; none while the broker is away, which is reported
    elsewhere."""
    from aiokafka.errors import KafkaError

    try:
        return [one for one in serving if not await one.goes_on()]
    except (BrokerSilent, KafkaError, OSError, TimeoutError):
        return []
