"""Statistics of a feature's values that merge exactly: of any split, the parts together are the whole.

Sums are exact fractions, bins and the texts counted apart are fixed by the schema, and of other texts those
with the smallest hashes are kept: all of it is counts, minima and unions, so neither order nor grouping
matters."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from math import sqrt
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from driftline.features.quality.feature_schema import Bins, FeatureSchema, Type, types_of

TEXTS_SAMPLED = 256
"""So many texts beyond those counted apart are kept, with exact counts; the number of more is estimated."""
_HASHES = 2.0**64
_SPAN = 900
"""Binary digits from the smallest to the largest of a batch, up to which doubles scale without overflow."""
_Name = TypeVar("_Name", bound=str)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """Of one feature: how many values there were (`count`) and were missing, and `types` of those there.

    Of numbers: exact `total` and sum of `squares`, `minimum`, `maximum`, how many lie `outside` the expected
    range, and the `histogram`: below the bins, in each, above them. Of texts: the counts of those counted
    apart in `values`, how many `other` ones came, and of those the `sample` with the smallest hashes.
    """

    count: int = 0
    missing: int = 0
    types: Mapping[Type, int] = field(default_factory=dict)
    total: Fraction = Fraction()
    squares: Fraction = Fraction()
    minimum: float | None = None
    maximum: float | None = None
    outside: int = 0
    histogram: tuple[int, ...] = ()
    values: Mapping[str, int] = field(default_factory=dict)
    other: int = 0
    sample: Mapping[str, int] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """Values that were there or missing."""
        return self.count + self.missing

    @property
    def missing_share(self) -> float:
        """Share of the requests that lack the feature; 0 without requests."""
        return self.missing / self.requests if self.requests else 0.0

    @property
    def numbers(self) -> int:
        """How many values are numbers."""
        return self.types.get("number", 0) + self.types.get("whole", 0)

    @property
    def mean(self) -> float | None:
        """Mean of the numbers, correctly rounded."""
        return float(self.total / self.numbers) if self.numbers else None

    @property
    def std(self) -> float | None:
        """Population standard deviation of the numbers."""
        n = self.numbers
        return sqrt(self.squares / n - (self.total / n) ** 2) if n else None

    @property
    def distinct(self) -> int:
        """How many different texts there were: exact up to `TEXTS_SAMPLED` beyond those counted apart, else
        an estimate (Bar-Yossef et al. 2002, from the k-th smallest hash; its standard error is 6 %)."""
        counted = sum(1 for count in self.values.values() if count)
        if len(self.sample) < TEXTS_SAMPLED:
            return counted + len(self.sample)
        return counted + round((TEXTS_SAMPLED - 1) * _HASHES / max(map(_hash, self.sample)))

    def top(self, k: int) -> list[tuple[str, int]]:
        """The `k` most frequent texts with their counts, of those counted apart and those in the sample."""
        counted = chain(self.values.items(), self.sample.items())
        return sorted((pair for pair in counted if pair[1]), key=lambda pair: (-pair[1], pair[0]))[:k]

    def merged(self, later: FeatureStatistics) -> FeatureStatistics:
        """Statistics of the values of both; both were counted under one schema."""
        longest = max(self.histogram, later.histogram, key=len)
        histogram = longest
        if self.histogram and later.histogram:
            histogram = tuple(a + b for a, b in zip(self.histogram, later.histogram, strict=True))
        return FeatureStatistics(
            self.count + later.count,
            self.missing + later.missing,
            _summed(self.types, later.types),
            self.total + later.total,
            self.squares + later.squares,
            min((x for x in (self.minimum, later.minimum) if x is not None), default=None),
            max((x for x in (self.maximum, later.maximum) if x is not None), default=None),
            self.outside + later.outside,
            histogram,
            _summed(self.values, later.values),
            self.other + later.other,
            _sampled(_summed(self.sample, later.sample)),
        )

    def quantiles(self, expected: FeatureSchema, at: Sequence[float]) -> list[float] | None:
        """Quantiles of the numbers, from the histogram; None without numbers.

        Each is in the bin of the value of rank ceil(q n), so it is off by less than that bin's width. The
        bins at the ends reach to the smallest and the largest value.
        """
        bins = expected.bins
        if bins is None or not self.numbers:
            return None
        assert self.minimum is not None
        assert self.maximum is not None
        borders = np.concatenate([[-np.inf], edges_of(bins), [np.inf]])
        edges = borders.clip(self.minimum, self.maximum)
        counts = np.array(self.histogram)
        reached = counts.cumsum()
        ranks = np.array(at) * reached[-1]
        place = np.searchsorted(reached, np.maximum(ranks, 0.5), side="left")
        share = (ranks - (reached - counts)[place]) / counts[place]
        interpolated = edges[place] + share * (edges[place + 1] - edges[place])
        if expected.type == "whole":
            # whole numbers of the bin alone: its upper edge belongs to the next one
            interpolated = np.minimum(np.floor(interpolated), np.ceil(borders[place + 1]) - 1.0)
            interpolated = np.maximum(interpolated, np.ceil(edges[place]))
        values: list[float] = interpolated.tolist()
        return values


def observed(values: Sequence[Any], expected: FeatureSchema | None) -> FeatureStatistics:
    """Statistics of some values (None: missing) under a schema; None for a feature that is not expected."""
    there = [value for value in values if value is not None]
    types = types_of(there)
    count, missing = len(there), len(values) - len(there)
    if expected is None:
        return FeatureStatistics(count, missing, types)
    if expected.is_number:
        numbers = np.array(
            there if types.keys() <= {"number", "whole"} else [v for v in there if type(v) in (int, float)],
            float,
        )
        return _of_numbers(numbers, count, missing, types, expected)
    texts = Counter(
        value if type(value) is str else str(value).lower() for value in there if type(value) in (str, bool)
    )
    counted = {name: texts.pop(name, 0) for name in expected.counted_apart}
    return FeatureStatistics(
        count, missing, types, values=counted, other=texts.total(), sample=_sampled(texts)
    )


def edges_of(bins: Bins) -> Floats:
    """The edges of bins, ascending: one more than there are bins."""
    edges: Floats = bins.low + bins.step * np.arange(bins.count + 1, dtype=np.float64)
    return edges


def _of_numbers(
    numbers: Floats, count: int, missing: int, types: Mapping[Type, int], expected: FeatureSchema
) -> FeatureStatistics:
    bins = expected.bins
    assert bins is not None
    if not len(numbers):
        return FeatureStatistics(count, missing, types, histogram=(0,) * (bins.count + 2))
    outside = np.zeros(len(numbers), bool)
    if expected.low is not None:
        outside |= numbers < expected.low
    if expected.high is not None:
        outside |= numbers > expected.high
    places = np.searchsorted(edges_of(bins), numbers, side="right")
    total, squares = _exact_sums(numbers)
    return FeatureStatistics(
        count,
        missing,
        types,
        total,
        squares,
        float(numbers.min()),
        float(numbers.max()),
        int(outside.sum()),
        tuple(np.bincount(places, minlength=bins.count + 2).tolist()),
    )


def _exact_sums(numbers: Floats) -> tuple[Fraction, Fraction]:
    """Sum and sum of squares, exact. Doubles are whole numbers of some 2**low, which sum without error."""
    _, exponents = np.frexp(numbers[numbers != 0.0])
    if not len(exponents):
        return Fraction(), Fraction()
    low = int(exponents.min()) - 53
    if int(exponents.max()) - low > _SPAN:
        exact = [Fraction(x) for x in numbers.tolist()]
        return sum(exact, Fraction()), sum((x * x for x in exact), Fraction())
    whole = [int(x) for x in np.ldexp(np.ldexp(numbers, -low // 2), -low - -low // 2).tolist()]
    unit = Fraction(2) ** low
    return sum(whole) * unit, sum(x * x for x in whole) * unit * unit


def _summed(first: Mapping[_Name, int], second: Mapping[_Name, int]) -> dict[_Name, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}


def _sampled(texts: Mapping[str, int]) -> dict[str, int]:
    """Those with the smallest hashes. What is among them in the whole is among them in every part that has
    it, so its count is complete."""
    if len(texts) <= TEXTS_SAMPLED:
        return dict(texts)
    return {text: texts[text] for text in sorted(texts, key=lambda text: (_hash(text), text))[:TEXTS_SAMPLED]}


@lru_cache(1 << 16)
def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
