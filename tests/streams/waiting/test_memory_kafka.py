"""A worker of limited memory has ids and what waits on disk; killed, it loses and repeats nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop import asked, settled

from driftline.streams.checkpoints.segment_files import SEGMENTS
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.positions import source_of
from driftline.streams.waiting.packed import SEGMENT
from driftline.streams.waiting.queue import UNPACKED
from tests.commands.forked_command import Command

SystemOf = Callable[[str], Any]
Eventually = Callable[..., Any]
WAITING = UNPACKED + 2 * SEGMENT
IN_A_MINUTE = WAITING / 60
AGAIN = range(0, WAITING, 50)
"""Requests that come once more, after all; most of their ids are on disk then."""


def start(system: Any) -> Command:
    worker: Command = system.command("worker", system.case_path, DRIFTLINE_MEMORY="0")[0]
    return worker


@pytest.mark.soak
def test_labels_find_predictions_on_disk_through_a_stop_and_a_kill(
    system_of: SystemOf, eventually: Eventually
) -> None:
    system = system_of("shop:orders")
    worker = start(system)
    system.produce(asked(n, n / IN_A_MINUTE) for n in range(WAITING))
    eventually(lambda: system.folded(worker))
    system.stop(worker)  # leaves a checkpoint that names its segments
    assert list(system.home.rglob(f"{SEGMENTS}/*"))

    worker = start(system)
    system.produce(settled(n, 61) for n in range(0, WAITING, 2))
    eventually(lambda: len(system.read(system.topics.outcomes)) > 100)
    worker.kill()
    worker.wait()

    worker = start(system)
    system.produce(settled(n, 62) for n in range(1, WAITING, 2))
    system.produce(asked(n, n / IN_A_MINUTE) for n in AGAIN)
    eventually(lambda: system.folded(worker))
    system.stop(worker)

    log = system.read(system.topics.log)
    for partition in range(system.case.partitions):
        of_partition = [record for record in log if record.partition == partition]
        processor = PartitionProcessor(system.case, partition)
        folded = processor.step(of_partition)
        assert processor.counts()["duplicates"] == (len(AGAIN) if of_partition else 0)
        for kind in ("predictions", "outcomes", "dead_letters"):
            published = [
                (*position, record.value)
                for record in system.read(getattr(system.topics, kind))
                if record.partition == partition and (position := source_of(record.headers)) is not None
            ]
            assert published == [(o.offset, o.ordinal, o.value) for o in getattr(folded, kind)], kind
