"""Where the stages of a case read and write."""

from __future__ import annotations

import parcels

from driftline.streams.records.outputs import Target
from driftline.streams.stages.itinerary import itinerary_of
from driftline.streams.stages.places import StagePlaces

PLACES = StagePlaces(parcels.payments_on_4.topics(), "0a1b2c3d4e5f", itinerary_of(parcels.payments_on_4))
EVERY = {target for stage in range(PLACES.count) for target in PLACES.targets_of(stage)}
LATER = {PLACES.input(target) for target in EVERY if target.stage}


def test_one_worker_alone_writes_to_everything_behind_the_log() -> None:
    assert PLACES.written_alone(EVERY) == LATER


def test_a_worker_without_one_partition_writes_with_another_to_all_that_this_one_sends_to() -> None:
    last = Target(PLACES.count - 1, 0)
    assert PLACES.written_alone(EVERY - {last}) == LATER - {PLACES.input(last)}
    assert PLACES.written_alone(EVERY - {Target(0, 3)}) == LATER - {
        PLACES.input(target)
        for target in PLACES.itinerary.targets(0)  # type: ignore[union-attr]
    }


def test_one_that_only_reads_writes_alone_to_nothing_and_a_case_of_one_stage_has_nothing() -> None:
    assert PLACES.written_alone({Target(PLACES.count - 1, 0)}) == set()
    one = StagePlaces(parcels.payments_on_4.topics(), "0a1b2c3d4e5f")
    assert one.written_alone({Target(0, 0)}) == set()
