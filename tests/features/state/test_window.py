"""Event-time windows against a naive oracle, in any order of arrival."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from math import fsum, sqrt
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.features.state.windows.window import (
    CountWindow,
    DecayedWindow,
    DistinctWindow,
    LatestWindow,
    MaxWindow,
    MinWindow,
    SquareWindow,
    SumWindow,
)

OVER = 10.0
OVERS = (OVER, 4.0)
"""Lengths that are read from one window, the longest first."""
HALF_LIFE = 3.0
MOST = 3
KINDS = (
    CountWindow, SumWindow, SquareWindow, LatestWindow, MaxWindow, MinWindow,
    partial(DecayedWindow, half_life=HALF_LIFE), partial(DistinctWindow, most=MOST),
)  # fmt: skip
times = st.integers(0, 25).map(float)
"""So few that equal times, and times just at an edge, come up in most examples."""
fractions = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: round(v, 6) + 0.0)
numbers = st.integers(-3, 3).map(float) | fractions
"""Windows of whole numbers alone are summed in other units than those with fractions."""


def exact_mean(values: list[float]) -> float:
    return float(sum(map(Fraction, values)) / len(values))


def exact_variance(values: list[float]) -> Fraction:
    mean = sum(map(Fraction, values)) / len(values)
    return sum((Fraction(v) - mean) ** 2 for v in values) / len(values)


def decayed_mean(inside: Sequence[tuple[float, float]]) -> float:
    """The decayed mean of (time, value), computed from its definition in floats."""
    newest = max(t for t, _ in inside)
    weights = [2.0 ** ((t - newest) / HALF_LIFE) for t, _ in inside]
    return fsum(w * v for w, (_, v) in zip(weights, inside, strict=True)) / fsum(weights)


def check_decayed(window: Any, inside: list[tuple[float, float]], at: float, since: float) -> None:
    """Near the definition, and to the last bit what another order of arrival gives."""
    found = window.mean(at, since)
    scale = max(abs(v) for _, v in inside)
    assert abs(found - decayed_mean(inside)) <= 1e-12 * (1 + scale)
    other = DecayedWindow(HALF_LIFE)
    for t, v in random.Random(len(inside)).sample(inside, len(inside)):
        other.add(t, v)
    assert found == other.mean(at, since)


def check(windows: list[Any], everything: list[tuple[float, float]], at: float) -> None:
    """Every window answers at `at`, over each length, as the list of all (time, value) says, in order of
    arrival."""
    for over in OVERS:
        check_over(over, windows, everything, at)


def check_over(over: float, windows: list[Any], everything: list[tuple[float, float]], at: float) -> None:
    """Every window answers over one length as the list says."""
    count, sums, squares, latest, largest, smallest, decayed, distinct = windows
    since = at - over
    inside = [v for t, v in everything if since < t <= at]
    assert count.count(at, since) == len(inside)
    assert distinct.distinct(at, since) == min(len(set(inside)), MOST)
    in_time = sorted(((t, v) for t, v in everything if since < t <= at), key=lambda entry: entry[0])
    for n in (1, 2, 5):
        assert latest.lag(at, since, n) == (in_time[-n][1] if len(in_time) >= n else None)
    if not inside:
        assert sums.sum(at, since) == 0.0
        for nothing in (
            sums.mean, squares.std, latest.latest, latest.first, largest.max, smallest.min, decayed.mean,
            count.newest, count.elapsed,
        ):  # fmt: skip
            assert nothing(at, since) is None
        return
    assert latest.first(at, since) == in_time[0][1]
    assert (count.newest(at, since), count.elapsed(at, since)) == (in_time[-1][0], at - in_time[-1][0])
    check_decayed(decayed, in_time, at, since)
    assert sums.mean(at, since) == exact_mean(inside)
    assert sums.sum(at, since) == float(sum(map(Fraction, inside)))
    deviation = sqrt(exact_variance(inside))
    assert abs(squares.std(at, since) - deviation) <= 1e-9 * (1 + deviation)
    newest = max(t for t, _ in everything if since < t <= at)
    assert latest.latest(at, since) == [v for t, v in everything if t == newest][-1]
    assert (smallest.min(at, since), largest.max(at, since)) == (min(inside), max(inside))


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(["add", "read", "retain"]), times, numbers), max_size=60))
def test_every_aggregate_equals_the_naive_oracle_whatever_the_order(
    steps: list[tuple[str, float, float]],
) -> None:
    windows: list[Any] = [kind() for kind in KINDS]
    everything: list[tuple[float, float]] = []
    watermark = -1e18
    for what, at, value in steps:
        if what == "add" and at > watermark - OVER:
            for window in windows:
                window.add(at, value)
            everything.append((at, value))
        elif what == "retain":
            watermark = max(watermark, at - 5.0)
            left = any(t > watermark - OVER for t, _ in everything)
            assert [window.retain(watermark - OVER, watermark) for window in windows] == [left] * len(windows)
        elif what == "read" and at >= watermark:
            check(windows, everything, at)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2), numbers), min_size=1, max_size=80))
def test_windows_equal_the_oracle_after_every_event_of_a_stream_disordered_within_its_lateness(
    events: list[tuple[float, float, float]],
) -> None:
    windows: list[Any] = [kind() for kind in KINDS]
    everything: list[tuple[float, float]] = []
    newest = 0.0
    for step, delay, value in events:
        newest += step
        everything.append((newest - delay, value))
        for window in windows:
            window.add(newest - delay, value)
        for at in (newest - 2.0, newest - delay, newest):
            check(windows, everything, at)
        for window in windows:
            window.retain(newest - 2.0 - OVER, newest - 2.0)


def test_a_large_value_leaves_no_trace_when_it_expires() -> None:
    sums, squares = SumWindow(), SquareWindow()
    for window in (sums, squares):
        window.add(0.0, 1e15)
        window.add(5.0, 0.1)
    assert sums.mean(6.0, 6.0 - OVER) == 5e14 + 0.05
    assert sums.mean(12.0, 2.0) == sums.sum(12.0, 2.0) == 0.1
    assert squares.std(12.0, 2.0) == 0.0


def test_a_sum_of_whole_numbers_stays_exact_when_a_fraction_joins_and_when_it_has_expired() -> None:
    window = SumWindow()
    for at, value in ((0.0, 1e15), (1.0, True), (2.0, 3)):
        window.add(at, value)
    assert list(window.totals) == [0, 10**15, 10**15 + 1, 10**15 + 4]
    window.add(3.0, 0.1)
    assert window.sum(3.0, 3.0 - OVER) == float(10**15 + 4 + Fraction(0.1))
    assert window.mean(10.5, 0.5) == float((4 + Fraction(0.1)) / 3)
    assert window.sum(12.5, 2.5) == 0.1
    window.retain(3.0, 13.0)
    window.add(13.0, 5.0)
    assert window.sum(13.5, 3.5) == 5.0


def test_a_decayed_mean_does_not_change_between_events_nor_with_what_was_forgotten() -> None:
    now = 1.4e9
    window, fresh = DecayedWindow(7.0), DecayedWindow(7.0)
    for n in range(200):
        window.add(now + n, n / 7)
        if n > 99:
            fresh.add(now + n, n / 7)
    window.retain(now + 99.0, now + 199.0)
    assert window.mean(now + 199.0, now + 99.0) == fresh.mean(now + 199.9, now + 99.0)
    assert max(total.bit_length() for total in window.totals) < 350


def test_what_distinct_values_keep_is_bounded_however_many_there_are() -> None:
    window = DistinctWindow(10)
    for n in range(5_000):
        window.add(float(n), f"v{n % 100}")
        if n % 50 == 49:
            assert window.distinct(float(n), n - 1e6) == 10
            window.retain(n - 1e6, float(n))
            assert len(window.ats) <= 10 + 1
    few = DistinctWindow(10)
    for n in range(5_000):
        few.add(float(n), f"v{n % 7}")
        if n % 50 == 49:
            few.retain(n - 1e6, float(n))
    assert few.distinct(5_000.0, 0.0) == 7


def test_the_largest_value_is_found_among_few_when_values_mostly_rise() -> None:
    window = MaxWindow()
    for at in range(1_000):
        window.add(float(at), float(at % 500))
    assert window.max(999.0, 0.0) == 499.0
    assert len(window.peaks) == 1
    window.add(1_000.0, 7.0)
    assert (list(window.peaks), list(window.peak_ats)) == ([499.0, 7.0], [999.0, 1_000.0])
