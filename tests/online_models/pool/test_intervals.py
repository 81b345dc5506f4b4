"""Intervals: the share of labels that they hold comes to the one promised, also while errors drift."""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.online_models.errors import ModelsError
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.intervals import FEWEST, STEP, WIDTH_ERRORS, Intervals
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.report import merged_report
from driftline.online_models.tasks.task import Label, Regression
from driftline.streams.code.state_hash import state_hash


class Ask:
    pass


def held(intervals: Intervals, errors: list[float]) -> list[bool]:
    found = []
    for error in errors:
        reach = intervals.reach()
        if reach is not None:
            found.append(error <= reach)
        intervals.learn(error, reach, "m")
    return found


def steady(n: int) -> float:
    return 1.0


def jumping(n: int) -> float:
    return 5.0 if n // 1_000 % 2 else 1.0


def growing(n: int) -> float:
    return 1.0 + n / 200


@pytest.mark.parametrize("scale", [steady, jumping, growing])
@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_the_share_held_is_the_one_promised(scale: Callable[[int], float], coverage: float) -> None:
    rng = random.Random(2)
    found = held(Intervals(coverage), [scale(n) * abs(rng.gauss(0, 1)) for n in range(6_000)])
    assert abs(sum(found) / len(found) - coverage) <= (1 + STEP) / (STEP * len(found)) + 0.002


class Coverage(NamedTuple):
    """Of intervals whose labels came later: how many held their error as they were published, how many would
    have held it if made when the error came, and how many errors exceeded all recent ones."""

    reaches: list[float]
    held: int
    held_now: int
    records: int
    judged: int


def behind(intervals: Intervals, errors: Sequence[float], delay: int) -> Coverage:
    """The published intervals, where each error is known `delay` answers later."""
    waiting: deque[tuple[float, float | None]] = deque()
    known: deque[float] = deque(maxlen=WIDTH_ERRORS)
    reaches, held_published, held_now, records, judged = [], 0, 0, 0, 0
    for error in errors:
        waiting.append((error, intervals.reach()))
        if len(waiting) > delay:
            came, published = waiting.popleft()
            now = intervals.reach()
            if now is not None:
                judged += 1
                held_now += came <= now
                records += came > max(known)
            intervals.learn(came, published, "m")
            known.append(came)
            held_published += published is not None and came <= published
            if published is not None:
                reaches.append(published)
            reach = intervals.reach()
            assert reach is None or reach <= 2.0 * max(known)
    return Coverage(reaches, held_published, held_now, records, judged)


@given(
    st.lists(st.floats(0, 1e6), min_size=FEWEST + 1, max_size=300),
    st.sampled_from([0.5, 0.9]),
    st.integers(0, 200),
)
def test_however_late_labels_are_the_bounds_on_width_and_coverage_hold(
    errors: list[float], coverage: float, delay: int
) -> None:
    found = behind(Intervals(coverage), errors, delay)
    if found.judged:
        differs = abs(found.held_now / found.judged - coverage)
        assert differs <= ((1 + 2 * STEP) / STEP + found.records) / found.judged


@pytest.mark.parametrize("delay", [0, 100, 300, 1_000])
def test_steady_errors_get_intervals_of_the_right_width_however_late_their_labels_are(delay: int) -> None:
    rng = random.Random(4)
    found = behind(Intervals(0.9), [abs(rng.gauss(0, 1)) for _ in range(8_000)], delay)
    assert sum(found.reaches) / len(found.reaches) == pytest.approx(1.645, rel=0.05)
    assert max(found.reaches) < 2 * 1.645
    assert found.held / len(found.reaches) == pytest.approx(0.9, abs=0.01)


@given(
    st.sampled_from([0, 100, 300, 1_000]),
    st.sampled_from([0.2, 5.0]),
    st.integers(1_500, 4_500),
    st.integers(0, 1_000),
)
@settings(max_examples=20)
def test_a_jump_of_the_scale_costs_coverage_only_while_labels_of_before_are_on_their_way(
    delay: int, factor: float, jump: int, seed: int
) -> None:
    rng = random.Random(seed)
    errors = [abs(rng.gauss(0, factor if n >= jump else 1.0)) for n in range(6_000)]
    found = behind(Intervals(0.9), errors, delay)
    missed = len(found.reaches) - found.held
    assert missed <= 0.1 * len(found.reaches) + delay + 1.05 / STEP
    assert max(found.reaches) <= 2.0 * max(errors)
    # an interval made once all that is known is of the new scale is as wide as that needs
    settled = found.reaches[jump + delay + 2 * WIDTH_ERRORS :]
    assert sum(settled) / max(len(settled), 1) <= 1.645 * factor * 1.25


@given(st.lists(st.floats(0, 1e6), min_size=FEWEST + 1, max_size=400), st.sampled_from([0.5, 0.9]))
def test_whatever_the_errors_an_interval_is_finite_and_not_negative(
    errors: list[float], coverage: float
) -> None:
    intervals = Intervals(coverage)
    found = held(intervals, errors)
    assert len(found) == len(errors) - FEWEST
    reach = intervals.reach()
    assert reach is not None
    assert 0.0 <= reach < 1e12
    assert intervals.held == pytest.approx(sum(found) / len(found))


def test_steady_errors_give_their_quantile() -> None:
    rng = random.Random(3)
    intervals = Intervals(0.9)
    held(intervals, [rng.random() for _ in range(5 * WIDTH_ERRORS)])
    assert intervals.reach() == pytest.approx(0.9, abs=0.1)


class Mean:
    def learn_one(self, x: dict[str, float], y: float) -> None: ...

    def predict_one(self, x: dict[str, float]) -> float:
        return 10.0


def itself(event: object) -> object:
    return event


def pool(coverage: float | None = 0.9) -> Pool:
    task = Regression("r", ask=Ask, label=Label(Ask, on="id", value=itself, wait=1.0), coverage=coverage)
    return Pool(task, PerKey(Member("mean", Mean), monitoring=None), "k", 0)


def run(where: Pool, start: int, stop: int) -> list[float | None]:
    found = []
    for offset in range(start, stop):
        y = 10.0 + random.Random(offset).gauss(0, 2)
        forecast, _ = where.predict({})
        found.append(forecast.reach)
        where.learn({}, y, forecast, float(offset), offset, str(offset))
    return found


def test_a_pool_tells_intervals_and_reports_what_they_held_while_a_member_served() -> None:
    where = pool()
    reaches = run(where, 0, 1_500)
    assert reaches[:FEWEST] == [None] * FEWEST
    assert reaches[-1] == pytest.approx(1.64 * 2, rel=0.25)
    report = merged_report([where])
    assert report["mean"]["coverage"] == pytest.approx(0.9, abs=0.02)
    assert report["mean"]["width"] == pytest.approx(2 * 1.64 * 2, rel=0.2)
    assert "coverage" not in report["prior"] or report["prior"]["coverage"] is None
    assert "coverage" not in merged_report([pool(None)])["mean"]


def test_a_restored_pool_tells_the_same_intervals() -> None:
    where, again = pool(), pool()
    run(where, 0, 300)
    again.restore(pickle.loads(pickle.dumps(where.state(), protocol=5)))
    assert state_hash(again.state()) == state_hash(where.state())
    assert run(again, 300, 600) == run(where, 300, 600)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 1.5])
def test_a_coverage_is_a_share(coverage: float) -> None:
    with pytest.raises(ModelsError, match="coverage"):
        pool(coverage)
