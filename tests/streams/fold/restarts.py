"""A fold that is restored again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import Outputs


def folded_with_restarts(case: UseCase, log: Sequence[Any], every: int = 1) -> Outputs:
    """What a partition puts out when it is restored from its snapshot after every so many records."""
    processor = PartitionProcessor(case, 0)
    out = Outputs()
    for start in range(0, len(log), every):
        out.extend(processor.step(log[start : start + every]))
        processor = PartitionProcessor.restored(case, 0, processor.snapshot())
    return out
