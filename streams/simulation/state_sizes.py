"""What the windows and open predictions of a case take, in memory and on disk, measured on events of its
source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from driftline.object_size import StateSize
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.simulation.sources import layout, open_source

CHUNK = 500


def measured_sizes(case: UseCase, events: int) -> Mapping[str, StateSize]:
    """How much there is of each kind of state in the first `events` of the case's source, on one partition,
    which can hold any case; the most of each kind on the way, as a wait may be over before the end. On disk
    is what one takes in a file where the worker's `memory` is limited."""
    alone = replace(case, partitions=1)
    processor = PartitionProcessor(alone, 0)
    records = (record for _, record in layout(alone, open_source(alone, None, events), 1))
    most: dict[str, StateSize] = {}
    while chunk := list(islice(records, CHUNK)):
        processor.step(chunk)
        packed = processor.packed_sizes()
        for name, size in processor.sizes().items():
            whole = size._replace(disk_bytes_each=packed.get(name, size.disk_bytes_each))
            most[name] = max(whole, most.get(name, whole))
    return most
