"""What a process has appended itself is read in order, without a gap, and only the rest is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from driftline.streams.transport.appended_records import (
    FETCH_EVERY,
    FETCH_FOR,
    GAP_WITHIN,
    KEPT,
    AppendedRecords,
)

OWN, SHARED = TP("by-merchant", 0), TP("by-merchant", 1)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def appended(clock: Clock) -> AppendedRecords:
    appended = AppendedRecords(clock)
    appended.write_alone({OWN})
    return appended


def records(begin: int, end: int) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in range(begin, end)]


def offsets(taken: Sequence[Any] | None) -> list[int] | None:
    return None if taken is None else [record.offset for record in taken]


def test_records_are_taken_when_they_are_the_next_ones(appended: AppendedRecords) -> None:
    appended.add(OWN, records(7, 9))
    appended.add(OWN, records(4, 7))
    assert appended.take(OWN, 3) is None
    assert offsets(appended.take(OWN, 4)) == [4, 5, 6]
    assert offsets(appended.take(OWN, 7)) == [7, 8]
    assert appended.take(OWN, 9) is None
    assert appended.take(SHARED, 4) is None


def test_records_that_were_fetched_meanwhile_are_not_taken_again(appended: AppendedRecords) -> None:
    appended.add(OWN, records(4, 7))
    appended.add(OWN, records(9, 10))
    assert appended.take(OWN, 5) is None  # a fetch has ended within the first chunk
    assert appended.take(OWN, 4) is None
    assert offsets(appended.take(OWN, 9)) == [9]


def test_only_a_partition_without_other_writers_is_left_out_of_fetches_and_once_its_records_are_known(
    appended: AppendedRecords,
) -> None:
    assert appended.unfetched() == set()
    for tp in (OWN, SHARED):
        appended.add(tp, records(0, 3))
        assert offsets(appended.take(tp, 0)) == [0, 1, 2]
    assert appended.unfetched() == {OWN}
    appended.write_alone({SHARED})
    assert appended.unfetched() == set()  # what came before is not known to be without a gap


def test_a_partition_is_fetched_from_for_a_moment_in_each_second(
    appended: AppendedRecords, clock: Clock
) -> None:
    appended.add(OWN, records(0, 3))
    appended.take(OWN, 0)
    clock.now += FETCH_EVERY - 0.001
    assert appended.unfetched() == {OWN}
    clock.now += 0.002
    appended.add(OWN, records(3, 4))
    appended.take(OWN, 3)
    assert appended.unfetched() == set()
    clock.now += FETCH_FOR + 0.001
    assert appended.unfetched() == set()  # until the next records show that none is missing
    appended.add(OWN, records(4, 5))
    appended.take(OWN, 4)
    assert appended.unfetched() == {OWN}


def test_a_gap_that_no_acknowledgement_closes_is_fetched(appended: AppendedRecords, clock: Clock) -> None:
    appended.add(OWN, records(0, 3))
    appended.take(OWN, 0)
    appended.add(OWN, records(4, 5))  # offset 3 is another one's, such as a worker that was away
    assert appended.take(OWN, 3) is None
    assert appended.unfetched() == {OWN}
    clock.now += GAP_WITHIN + 0.001
    assert appended.unfetched() == set()
    assert offsets(appended.take(OWN, 4)) == [4]  # when the fetch has brought offset 3
    assert appended.unfetched() == {OWN}


def test_a_gap_that_is_closed_in_time_needs_no_fetch(appended: AppendedRecords, clock: Clock) -> None:
    appended.add(OWN, records(0, 1))
    appended.take(OWN, 0)
    for begin in (2, 4):  # each acknowledgement is overtaken by the next one
        appended.add(OWN, records(begin, begin + 1))
        assert appended.take(OWN, begin - 1) is None
        clock.now += GAP_WITHIN * 0.9
        appended.add(OWN, records(begin - 1, begin))
        assert offsets(appended.take(OWN, begin - 1)) == [begin - 1]
        assert offsets(appended.take(OWN, begin)) == [begin]
        assert appended.unfetched() == {OWN}


def test_what_is_kept_is_bounded(appended: AppendedRecords) -> None:
    for begin in range(1, KEPT + 2):
        appended.add(OWN, records(begin, begin + 1))
    assert appended.take(OWN, 1) is None
    assert offsets(appended.take(OWN, KEPT + 1)) == [KEPT + 1]


def test_nothing_is_known_of_a_partition_that_has_left(appended: AppendedRecords) -> None:
    appended.add(OWN, records(0, 3))
    appended.take(OWN, 0)
    appended.add(OWN, records(3, 5))
    appended.forget([OWN])
    assert appended.take(OWN, 3) is None
    assert appended.unfetched() == set()
