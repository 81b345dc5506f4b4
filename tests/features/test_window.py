"""Event-time windows against a naive oracle, in any order of arrival."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

from hypothesis import given
from hypothesis import strategies as st

from features.window import EventWindow, mean_of, std_of

OVER = 10.0
times = st.integers(0, 60).map(lambda n: n / 2)
numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: round(v, 6))


def exact_mean(values: list[float]) -> float:
    return float(sum(map(Fraction, values)) / len(values))


def exact_variance(values: list[float]) -> Fraction:
    mean = sum(map(Fraction, values)) / len(values)
    return sum((Fraction(v) - mean) ** 2 for v in values) / len(values)


@given(st.lists(st.tuples(st.sampled_from(["add", "read", "retain"]), times, numbers), max_size=60))
def test_every_aggregate_equals_the_naive_oracle_whatever_the_order(
    steps: list[tuple[str, float, float]],
) -> None:
    window = EventWindow(OVER, squares=True)
    everything: list[tuple[float, float]] = []
    watermark = -1e18
    for what, at, value in steps:
        if what == "add" and at > watermark - OVER:
            window.add(at, value)
            everything.append((at, value))
        elif what == "retain":
            watermark = max(watermark, at - 5.0)
            window.retain(watermark - OVER)
        elif what == "read" and at >= watermark:
            inside = [v for t, v in everything if at - OVER < t <= at]
            count, total, squares = window.sums(at)
            assert count == len(inside)
            if not inside:
                assert window.latest(at) is None
                assert window.extremes(at) is None
                continue
            assert mean_of(count, total) == exact_mean(inside)
            assert abs(std_of(count, total, squares) - sqrt(exact_variance(inside))) <= 1e-9 * (
                1 + sqrt(exact_variance(inside))
            )
            assert window.extremes(at) == (min(inside), max(inside))
            newest = max(t for t, _ in everything if at - OVER < t <= at)
            assert window.latest(at) == [v for t, v in everything if t == newest][-1]


def test_a_large_value_leaves_no_trace_when_it_expires() -> None:
    window = EventWindow(OVER, squares=True)
    window.add(0.0, 1e15)
    window.add(5.0, 0.1)
    window.sums(6.0)
    count, total, squares = window.sums(12.0)
    assert (count, mean_of(count, total), std_of(count, total, squares)) == (1, 0.1, 0.0)
