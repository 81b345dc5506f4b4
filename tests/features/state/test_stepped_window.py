"""Windows in steps: what the other windows say of rounded times, kept as totals of each step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.features.declare.constructors import count, decayed, max, mean, min, rate, std, sum
from driftline.features.declare.declaration import DAY, Window
from driftline.features.example import Paid, ShopRequest
from driftline.features.state.feature_state import FeatureState
from driftline.features.state.segment_store import IN_MEMORY
from driftline.features.state.value_lineage import EvidenceCollector
from driftline.features.state.windows.aggregate import new_table, reader_of
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
    EventWindow,
    MaxWindow,
    MinWindow,
    SquareWindow,
    SumWindow,
)

RESOLUTION = 5.0
OVERS = (15.0, 5.0)
PAIRS: list[tuple[EventWindow, EventWindow, list[str]]] = [
    (SteppedCountWindow(), CountWindow(), ["count"]),
    (SteppedSumWindow(), SumWindow(), ["sum", "mean"]),
    (SteppedSquareWindow(), SquareWindow(), ["std"]),
    (SteppedDecayedWindow(3.0), DecayedWindow(3.0), ["mean"]),
    (SteppedMaxWindow(), MaxWindow(), ["max"]),
    (SteppedMinWindow(), MinWindow(), ["min"]),
]
ONE_DAY = datetime(2026, 3, 5, tzinfo=UTC)
HOURLY: dict[str, Any] = {"by": "shop", "over": 3 * 3600.0, "resolution": timedelta(hours=1)}
FEATURES = {
    "count": count(Paid, **HOURLY),
    "rate": rate(Paid, **HOURLY),
    "sum": sum(Paid, "amount", **HOURLY),
    "mean": mean(Paid, "amount", **HOURLY),
    "std": std(Paid, "amount", **HOURLY),
    "min": min(Paid, "amount", **HOURLY),
    "max": max(Paid, "amount", **HOURLY),
    "decayed": decayed(Paid, "amount", by="shop", half_life=60.0, over=3 * 3600.0, resolution=3600.0),
    "few": count(Paid, **HOURLY, max_keys=2),
    "payer": count(Paid, by=("shop", "payer"), over=7200.0, resolution=3600.0),
    "plain": count(Paid, by="shop", over=3600.0),
}


def rounded(at: float) -> float:
    return at // RESOLUTION * RESOLUTION


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "read", "retain"]),
            st.integers(0, 60).map(float),
            st.integers(-3, 3) | st.sampled_from([0.1, 1e15, -0.0]),
        ),
        max_size=60,
    )
)
def test_steps_say_what_windows_of_rounded_times_say_and_keep_one_entry_each(
    steps: list[tuple[str, float, float]],
) -> None:
    pairs: list[tuple[Any, Any, list[str]]] = [
        (type(one)(*arguments), type(other)(*arguments), reads)
        for one, other, reads in PAIRS
        for arguments in [(3.0,) if isinstance(one, DecayedWindow) else ()]
    ]
    watermark = -1e18
    for what, at, value in steps:
        if what == "retain":
            watermark = watermark if watermark > at - 10.0 else at - 10.0
            bound = watermark - OVERS[0]
            for stepped, plain, _ in pairs:
                assert stepped.retain(bound, watermark) == plain.retain(bound, watermark)
        for stepped, plain, reads in pairs:
            if what == "add" and at > watermark - OVERS[0]:
                stepped.add(rounded(at), value)
                plain.add(rounded(at), value)
            assert list(stepped.ats) == sorted(set(plain.ats))
            if what == "read" and at >= watermark:
                for over in OVERS:
                    for read in reads:
                        asked = rounded(at), rounded(at) - over
                        assert getattr(stepped, read)(*asked) == getattr(plain, read)(*asked)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 6 * 60), st.sampled_from("st"), st.sampled_from("ab"), st.integers(-9, 9)),
        max_size=30,
    ),
    st.integers(0, 7 * 60),
)
def test_a_request_reads_what_the_events_of_its_steps_give(
    payments: list[tuple[int, str, str, int]], asked: int
) -> None:
    state = FeatureState(FEATURES, Paid)
    request = Paid("r", ONE_DAY + timedelta(minutes=asked), "s", "a", 1.0)
    collector = EvidenceCollector(FEATURES, request, request.at.timestamp())
    for number, (minute, shop, payer, amount) in enumerate(payments):
        paid = Paid(str(number), ONE_DAY + timedelta(minutes=minute), shop, payer, amount / 7)
        state.update(paid, paid.at.timestamp())
        collector.offer(number, paid, paid.at.timestamp())
    found = state.read(request, request.at.timestamp())
    evidence = {name: one.value for name, one in collector.collected({}).items()}
    inside = [p for p in payments if p[1] == "s" and asked // 60 - 3 < p[0] // 60 <= asked // 60]
    assert found["count"] == len(inside)
    for name in FEATURES:
        expected = evidence[name]
        if name == "std" and expected is not None:
            expected = pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert found.get(name) == expected


def test_an_event_counts_once_where_a_total_no_longer_fits_a_machine_word() -> None:
    stepped, plain = SteppedSumWindow(), SumWindow()
    for at, value in ((0.0, 6e18), (0.0, 6e18), (5.0, 6e18), (5.0, 1.0)):
        stepped.add(at, value)
        plain.add(at, value)
    assert stepped.mean(5.0, -1.0) == plain.mean(5.0, -1.0) == (18e18 + 1.0) / 4


def test_a_day_is_today_and_a_month_is_today_and_the_29_days_before() -> None:
    features = {
        name: count(Paid, by="shop", over=days * DAY, resolution=DAY) for name, days in (("1", 1), ("30", 30))
    }
    state = FeatureState(features, ShopRequest)
    for number, ago in enumerate((0, 1, 29, 30)):
        at = ONE_DAY - timedelta(days=ago) + timedelta(hours=23, minutes=59)
        state.update(Paid(str(number), at, "s", "a", 1.0), at.timestamp())
    morning = (ONE_DAY + timedelta(minutes=1)).timestamp()
    assert state.read(ShopRequest("r", ONE_DAY, "s", 1), morning) == {"1": 1, "30": 3}
    assert state.read(ShopRequest("r", ONE_DAY, "s", 1), morning + DAY) == {"1": 0, "30": 2}


def test_a_key_with_many_events_keeps_as_many_entries_as_steps() -> None:
    feature: Window = mean(Paid, "amount", by="shop", over=30 * DAY, resolution=DAY)
    table = new_table(feature, IN_MEMORY)
    table.keep_for(feature.over)
    for minute in range(0, 30 * 24 * 60, 10):
        table["s"].add(feature.step(60.0 * minute), minute)
    assert len(table["s"].ats) == 30
    assert reader_of(feature)(table["s"], 29.5 * DAY, 0.0) == (30 * 24 * 60 - 10) / 2
