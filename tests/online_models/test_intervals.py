"""Intervals: the share of labels that they hold comes to the one promised, also while errors drift."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.errors import ModelsError
from online_models.intervals import FEWEST, STEP, WINDOW, Intervals
from online_models.member import Member, PerKey
from online_models.pool import Pool
from online_models.task import Label, Regression
from streams.canonical import state_hash


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
    held(intervals, [rng.random() for _ in range(5 * WINDOW)])
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
    report = where.report()
    assert report["mean"]["coverage"] == pytest.approx(0.9, abs=0.02)
    assert report["mean"]["width"] == pytest.approx(2 * 1.64 * 2, rel=0.2)
    assert "coverage" not in report["prior"] or report["prior"]["coverage"] is None
    assert "coverage" not in pool(None).report()["mean"]


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
