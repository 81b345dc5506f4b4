"""Which ids a gateway knows: all of the horizon, and little that is older."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from driftline.infra.gateway.published.positions_by_id import AnswerPlace, PositionsById

HORIZON = 10.0
"""Seconds."""
PUTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6_000)), max_size=60)
"""Ids, and how many ms after the one before each is appended."""


@given(PUTS)
def test_what_was_appended_within_the_horizon_is_found_where_it_was_last(puts: list[tuple[str, int]]) -> None:
    known = PositionsById(HORIZON)
    last: dict[str, tuple[AnswerPlace, int]] = {}
    now = 0
    for offset, (event_id, later) in enumerate(puts):
        now += later
        place = AnswerPlace(offset % 3, offset)
        known.put(event_id, place, now)
        last[event_id] = place, now
        for each, (where, appended) in last.items():
            age = now - appended
            if age <= HORIZON * 1_000:
                assert known.find(each) == where
    assert known.find("unknown") is None


def test_what_is_older_is_forgotten() -> None:
    known = PositionsById(HORIZON)
    known.put("old", AnswerPlace(0, 1), 0)
    for second in range(1, 13):
        known.put(f"each-{second}", AnswerPlace(1, second), second * 1_000)
    assert known.find("old") is None
    assert known.find("each-2") == AnswerPlace(1, 2)


def test_partitions_that_are_read_one_after_the_other_are_known_for_the_horizon_too() -> None:
    known = PositionsById(HORIZON)
    for partition in range(2):
        for second in range(10):
            known.put(f"{partition}-{second}", AnswerPlace(partition, second), second * 1_000)
    assert all(known.find(f"{p}-{s}") == AnswerPlace(p, s) for p in range(2) for s in range(10))


def test_an_offset_and_a_partition_may_be_large() -> None:
    known = PositionsById(HORIZON)
    place = AnswerPlace(99_999, 2**62)
    known.put("a", place, 0)
    assert known.find("a") == place


def test_an_id_costs_little() -> None:
    known, count = PositionsById(HORIZON), 50_000
    tracemalloc.start()
    try:
        for number in range(count):
            known.put(f"request-of-2024-05-06-{number:08d}", AnswerPlace(number % 4, number), 0)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken / count < 250, "bytes; it was 340 with a tuple and a place in a line for each"
