"""A table of windows is written as columns, and comes back as it was."""

from __future__ import annotations

import pickle
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.features.state.windows.stepped_window import (
    SteppedCountWindow,
    SteppedDecayedWindow,
    SteppedMaxWindow,
    SteppedMinWindow,
    SteppedSquareWindow,
    SteppedSumWindow,
)
from driftline.features.state.windows.window import (
    CountWindow,
    DecayedWindow,
    DistinctWindow,
    EventWindow,
    LatestWindow,
    MaxWindow,
    MinWindow,
    SquareWindow,
    SumWindow,
)
from driftline.features.state.windows.window_table import BoundedTable, WindowTable

OVER = 10.0
TABLES: dict[type[EventWindow], tuple[Any, ...]] = {
    CountWindow: (), SumWindow: (), SquareWindow: (), LatestWindow: (), MaxWindow: (), MinWindow: (),
    DecayedWindow: (3.0,), DistinctWindow: (3,), SteppedCountWindow: (), SteppedSumWindow: (),
    SteppedSquareWindow: (), SteppedDecayedWindow: (3.0,), SteppedMaxWindow: (), SteppedMinWindow: (),
}  # fmt: skip
keys = st.sampled_from(["a", "b", ("a", 1), 7])
times = st.integers(0, 30).map(float)
values = st.integers(-3, 3) | st.sampled_from([0.25, 0.1, 1e15, -1e15])


def attributes(table: WindowTable) -> dict[Any, dict[str, Any]]:
    """All that the windows hold, by key, with the type of each part."""
    names = [name for kind in table.kind.__mro__ for name in getattr(kind, "__slots__", ())]  # type: ignore[attr-defined]
    return {key: {name: getattr(window, name) for name in names} for key, window in table.items()}


@pytest.mark.parametrize("kind", TABLES)
@given(st.lists(st.tuples(st.booleans(), keys, times, values), max_size=40))
def test_a_table_comes_back_as_it_was_and_goes_on_like_the_other(
    kind: type[EventWindow], steps: list[tuple[bool, Any, float, float]]
) -> None:
    table = WindowTable(kind, TABLES[kind])
    table.keep_for(OVER)
    newest = 0.0
    for clean, key, at, value in steps:
        newest = max(newest, at)
        if clean:
            table.retain(newest - 5.0)
        if at > newest - 5.0:
            table[key].add(at, value)
        again = pickle.loads(pickle.dumps(table))
        assert attributes(again) == attributes(table)
        assert list(again) == list(table)
        assert (again.due, again.watermark, again.over) == (table.due, table.watermark, table.over)
        assert pickle.dumps(pickle.loads(pickle.dumps(again))) == pickle.dumps(again)
        table = again


def test_sums_of_whole_numbers_beyond_a_machine_word_stay_exact_and_come_back() -> None:
    table = WindowTable(SumWindow)
    table.keep_for(OVER)
    for n in range(20_000):
        table["large"].add(n / 2000, 1e15)
    table["large"].add(5.0, 1e15)
    table["small"].add(1.0, 2)
    again = pickle.loads(pickle.dumps(table))
    assert again["large"].sum(10.0, -1.0) == table["large"].sum(10.0, -1.0) == 20_001e15
    assert again["large"].sum(4.0, -1.0) == 8_001e15
    assert attributes(again) == attributes(table)
    assert isinstance(table["large"].totals, list)


def test_totals_that_fit_again_come_back_as_they_were() -> None:
    table = WindowTable(SumWindow)
    table.keep_for(OVER)
    for at, value in ((1.0, 0.5), (2.0, -0.5), (3.0, 0.0)):
        table["a"].add(at, value)
    table["b"].add(3.0, 7)
    table.retain(12.0)
    assert table["a"].totals == [0, 0]
    again = pickle.loads(pickle.dumps(table))
    assert attributes(again) == attributes(table)
    assert (type(again["a"].totals), type(again["b"].totals)) == (list, array)


def test_a_bounded_table_comes_back_with_what_it_evicts_next() -> None:
    table = BoundedTable(DistinctWindow, (3,), 2)
    table.keep_for(OVER)
    for key, at in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        assert table.put(key, at, "x") is None
    again = pickle.loads(pickle.dumps(table))
    assert again.put("c", 4.0, "x") == table.put("c", 4.0, "x") == "b"
    assert again.evicted == table.evicted == 1
