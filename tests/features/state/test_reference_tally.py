"""Tallies of references: equal exactly where the newest reference of every key is of the same time."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from driftline.features.state.reference_tally import Tally

Known = dict[str, float]
known = st.dictionaries(st.sampled_from("abcdef"), st.integers(-20, 20).map(float), max_size=6)
ttls = st.sampled_from([inf, 8.0, 3.0])


def counted(ttl: float, found: Known) -> Tally:
    tally = Tally(ttl)
    tally.count(found.items())
    return tally


@given(ttls, st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(-9, 9).map(float))))
def test_a_tally_of_moves_is_that_of_what_is_left(ttl: float, moves: list[tuple[str, float | None]]) -> None:
    moved, left = Tally(ttl), Known()
    for key, after in moves:
        moved.move(key, left.pop(key, None), after)
        if after is not None:
            left[key] = after
    assert moved.cells == counted(ttl, left).cells


@given(ttls, known, known)
def test_tallies_are_equal_where_what_is_known_is_and_nowhere_else(
    ttl: float, one: Known, other: Known
) -> None:
    assert (counted(ttl, one).cells == counted(ttl, other).cells) == (one == other)


@given(known, st.integers(-20, 30).map(float))
def test_what_is_let_go_at_its_ttl_changes_no_stretch_that_is_whole(found: Known, watermark: float) -> None:
    ttl = 5.0
    everything = counted(ttl, found)
    alive = counted(ttl, {key: at for key, at in found.items() if at + ttl >= watermark})
    first = alive.whole_from(watermark)

    def since(tally: Tally) -> dict[int, tuple[int, int]]:
        return {number: cell for number, cell in tally.cells.items() if number >= first}

    assert since(everything) == since(alive)


def test_every_stretch_is_whole_before_time_has_begun_and_where_references_hold_for_good() -> None:
    assert counted(8.0, {"a": -5.0}).whole_from(-inf) < -5
    assert counted(inf, {"a": 5.0}).whole_from(100.0) < 0


def test_the_newest_is_the_latest_of_its_time() -> None:
    assert Tally(inf).newest is None
    assert counted(inf, {"a": 5.0, "b": 7.0, "c": 6.0}).newest == (7.0, "b")
