"""Statistics that merge exactly, and quantiles as good as the bins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.features.quality.feature_schema import Bins, FeatureSchema
from driftline.features.quality.statistics import TEXTS_SAMPLED, FeatureStatistics, observed

NUMBER = FeatureSchema("number", 0.5, -10.0, 10.0, Bins(-5.0, 0.5, 20))
TEXT = FeatureSchema("text", 0.5, domain=("a", "b"))
numbers = st.one_of(
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-8, 8),
    st.integers(-(10**6), 10**6),
    st.text(max_size=2),
    st.booleans(),
)


def merged(parts: list[list[Any]], expected: FeatureSchema) -> FeatureStatistics:
    whole = FeatureStatistics()
    for part in parts:
        whole = whole.merged(observed(part, expected))
    return whole


@given(st.lists(st.lists(numbers, max_size=30), min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_of_any_split_in_any_order_the_parts_are_the_whole(parts: list[list[Any]], random: Any) -> None:
    for expected in (NUMBER, TEXT):
        whole = observed([value for part in parts for value in part], expected)
        shuffled = random.sample(parts, len(parts))
        again = merged(shuffled, expected)
        for name in ("types", "values", "sample"):
            assert {k: n for k, n in getattr(again, name).items() if n} == {
                k: n for k, n in getattr(whole, name).items() if n
            }
        for name in ("count", "missing", "total", "squares", "minimum", "maximum", "outside", "other"):
            assert getattr(again, name) == getattr(whole, name), name
        assert again.histogram == whole.histogram


def test_texts_beyond_the_sample_are_the_same_of_any_split() -> None:
    names = [f"name-{n % 3_000}" for n in range(5_000)]
    whole = observed(names, TEXT)
    again = merged([names[:17], names[17:2_000], names[2_000:]], TEXT)
    assert again == whole
    assert len(whole.sample) == TEXTS_SAMPLED
    assert all(names.count(name) == count for name, count in list(whole.sample.items())[:20])
    assert whole.distinct == pytest.approx(3_000, rel=0.2)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5),
)
@settings(max_examples=200)
def test_a_quantile_is_off_by_no_more_than_the_width_of_its_bin(values: list[float], at: list[float]) -> None:
    bins = NUMBER.bins
    assert bins is not None
    found = observed(values, NUMBER).quantiles(NUMBER, at)
    assert found is not None
    for q, estimate in zip(at, found, strict=True):
        exact = float(np.quantile(values, q, method="inverted_cdf"))
        width = bins.step
        if exact < bins.low:
            width = bins.low - min(values)
        elif exact >= bins.low + bins.step * bins.count:
            width = max(values) - (bins.low + bins.step * bins.count)
        assert abs(estimate - exact) <= width * (1 + 1e-9) + 1e-9


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50))
@settings(max_examples=100)
def test_mean_and_deviation_are_those_of_numpy(values: list[float]) -> None:
    found = observed(values, NUMBER)
    scale = max(map(abs, values)) + 1.0
    assert found.mean == pytest.approx(float(np.mean(values)), abs=1e-9 * scale)
    assert found.std == pytest.approx(float(np.std(values)), abs=1e-6 * scale)


def test_sums_are_exact_over_the_whole_range_of_doubles() -> None:
    found = observed([1e300, 3.0, -1e300, 5e-324, 1.5e16, 1.0, -1.5e16], NUMBER)
    assert found.mean == 4.0 / 7.0


def test_values_of_other_types_are_counted_as_what_they_are() -> None:
    found = observed([1, 2.5, "x", True, None], NUMBER)
    assert (found.count, found.missing) == (4, 1)
    assert found.types == {"whole": 1, "number": 1, "text": 1, "boolean": 1}
    assert found.numbers == 2


def test_quantiles_of_whole_numbers_are_whole_and_exact_in_bins_of_one() -> None:
    whole = FeatureSchema("whole", 0.0, bins=Bins(0.0, 1.0, 5))
    found = observed([0, 0, 0, 1, 1, 4], whole)
    assert found.quantiles(whole, [0.0, 0.5, 0.51, 0.84, 1.0]) == [0, 0, 1, 4, 4]
