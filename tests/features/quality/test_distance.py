"""Distances and their yardstick: a shift is found, stationary streams are left alone as promised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from driftline.features.quality.distance import LEAST_WINDOWS, chance_of, distances, thresholds, yardstick
from driftline.features.quality.feature_schema import Bins, FeatureSchema
from driftline.features.quality.statistics import FeatureStatistics, observed

NUMBER = FeatureSchema("number", 1.0, bins=Bins(-3.0, 0.25, 24))
TEXT = FeatureSchema("text", 1.0, domain=("a", "b", "c"))
REQUESTS, WINDOWS = 300, 30


def normal(random: np.random.Generator, n: int) -> list[Any]:
    return random.standard_normal(n).tolist()


def heavy(random: np.random.Generator, n: int) -> list[Any]:
    return random.standard_t(2, n).tolist()


def slow(random: np.random.Generator, n: int) -> list[Any]:
    """AR(1) of .98: a few dozen independent values a window."""
    noise = random.standard_normal(n) * (1 - 0.98**2) ** 0.5
    x = random.standard_normal()
    return [x := 0.98 * x + e for e in noise.tolist()]


def rare(random: np.random.Generator, n: int) -> list[Any]:
    return (random.random(n) < 0.005).astype(float).tolist()


def texts(random: np.random.Generator, n: int) -> list[Any]:
    return random.choice(["a", "b", "c", None], n, p=[0.6, 0.3, 0.05, 0.05]).tolist()


def windows_of(draw: Callable[..., list[Any]], seed: int, count: int) -> list[FeatureStatistics]:
    expected = TEXT if draw is texts else NUMBER
    random = np.random.default_rng(seed)
    values = draw(random, count * REQUESTS)
    return [observed(values[i * REQUESTS : (i + 1) * REQUESTS], expected) for i in range(count)]


def alarms(windows: list[FeatureStatistics], reference: int, chance: float) -> list[bool]:
    """Whether each window after the first `reference` ones is reported as drift."""
    held = windows[:reference]
    whole = FeatureStatistics()
    for window in held:
        whole = whole.merged(window)
    measured = yardstick(held)
    assert measured is not None
    bounds = thresholds(measured, chance)
    found = [distances(whole, window) for window in windows[reference:]]
    return [any(getattr(one, measure) > bound for measure, bound in bounds.items()) for one in found]


def test_distances_are_those_of_the_definitions() -> None:
    one = observed(["a"] * 6 + ["b"] * 4, TEXT)
    other = observed(["a"] * 4 + ["b"] * 6, TEXT)
    found = distances(one, other)
    # half a request more in each bin: three texts, others, other types, missing
    p, q = (np.array([a, b, 0.5, 0.5, 0.5, 0.5]) / 13 for a, b in ((6.5, 4.5), (4.5, 6.5)))
    assert found.psi == pytest.approx(float(((p - q) * np.log(p / q)).sum()))
    assert found.js == pytest.approx((1 - (-(0.4 * np.log2(0.4) + 0.6 * np.log2(0.6)))) ** 0.5, abs=0.05)
    assert found.ks is None
    ramp = [observed(np.linspace(low, low + 1, 1_000).tolist(), NUMBER) for low in (0.0, 0.25)]
    assert distances(*ramp).ks == pytest.approx(0.25, abs=0.002)
    assert distances(ramp[0], ramp[0]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("draw", [normal, heavy, slow, rare, texts])
def test_stationary_streams_alarm_no_more_often_than_promised(draw: Callable[..., list[Any]]) -> None:
    chance, runs = 0.01, 20
    found = [alarms(windows_of(draw, seed, WINDOWS * 2), WINDOWS, chance) for seed in range(runs)]
    total = sum(map(sum, found))
    # 600 windows: 6 are promised; beyond 15 has a chance of 1 in 2,000 where the promise is just kept
    assert total <= 15, f"{total} alarms in {runs * WINDOWS} windows"


@pytest.mark.parametrize(
    ("draw", "shift"),
    [
        (normal, lambda values: [v + 0.6 for v in values]),
        (normal, lambda values: [v * 1.8 for v in values]),
        (normal, lambda values: [None if n % 4 == 0 else v for n, v in enumerate(values)]),
        (slow, lambda values: [v + 3.0 for v in values]),
        (rare, lambda values: [1.0 if n % 10 == 0 else v for n, v in enumerate(values)]),
        (texts, lambda values: ["b" if v == "a" and n % 3 == 0 else v for n, v in enumerate(values)]),
    ],
)
def test_a_shifted_feature_is_reported(
    draw: Callable[..., list[Any]], shift: Callable[..., list[Any]]
) -> None:
    expected = TEXT if draw is texts else NUMBER
    windows = windows_of(draw, 7, WINDOWS)
    random = np.random.default_rng(8)
    moved = [observed(shift(draw(random, REQUESTS)), expected) for _ in range(10)]
    chance = chance_of(REQUESTS, 100_000, 15)
    assert sum(alarms([*windows, *moved], WINDOWS, chance)) >= 9


def test_a_feature_that_never_varied_is_reported_when_it_does() -> None:
    same = [observed([1.0] * REQUESTS, NUMBER) for _ in range(WINDOWS)]
    odd = observed([1.0] * (REQUESTS - 1) + [2.0], NUMBER)
    moved = observed([1.0] * (REQUESTS // 2) + [2.0] * (REQUESTS // 2), NUMBER)
    assert alarms([*same, odd, moved], WINDOWS, 1e-4) == [False, True]


def test_too_few_windows_are_no_yardstick() -> None:
    assert yardstick(windows_of(normal, 1, LEAST_WINDOWS - 1)) is None
    assert yardstick([]) is None


def test_the_budget_is_shared_by_features_and_measures() -> None:
    measured = yardstick(windows_of(normal, 1, WINDOWS))
    assert measured is not None
    few, many = (thresholds(measured, chance_of(REQUESTS, 100_000, n)) for n in (1, 50))
    assert all(many[measure] > few[measure] for measure in few)
