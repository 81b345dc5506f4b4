"""How far the values of a feature have moved: distances between two of its statistics, and their yardstick.

The yardstick is how much the windows of the reference differ from the rest of it: seasons of a day, slow
features and few requests are all in it. Neither bound of the literature (PSI above 0.2) nor a test's p-value
for independent values holds for features that are windows over a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log, sqrt
from typing import Literal, NamedTuple

import numpy as np
from scipy import special, stats
from scipy.spatial.distance import jensenshannon

from driftline.features.quality.statistics import FeatureStatistics, Floats

DistanceMeasure = Literal["psi", "js", "ks"]
ROOTS: dict[DistanceMeasure, float] = {"psi": 1 / 3, "js": 2 / 3, "ks": 2 / 3}
"""Powers that make the distances of alike windows about normal: PSI, and the squares of JS and KS, are about
chi-squared, whose cube root is (Wilson and Hilferty 1931)."""
_SCALES: dict[DistanceMeasure, float] = {"psi": 1.0, "js": 1.0 / (8.0 * log(2.0)), "ks": 0.25}
"""Times chi-squared of one degree of freedom, by requests: what PSI, JS squared and KS squared about are."""
_ONE_DEGREE = (7.0 / 9.0, sqrt(2.0 / 9.0))
"""Mean and standard deviation of its cube root."""
LEAST_WINDOWS = 12
"""Windows of the reference before anything is judged."""
LEAST_SHARE = 0.5
"""A window with a smaller share of the requests that those of the reference have is not judged."""


class Distances(NamedTuple):
    """From 0 (alike) on: population stability index in nats, Jensen-Shannon distance (base 2, at most 1),
    Kolmogorov-Smirnov statistic over the bins (None for texts). Missing is a bin of its own, and so are
    values of other types, but for KS, which is among the numbers alone."""

    psi: float
    js: float
    ks: float | None


class Yardstick(NamedTuple):
    """What a window of the reference differs by from the rest: mean and standard deviation of the roots of
    each distance, over `windows` windows of `requests` requests in the median."""

    windows: int
    requests: float
    roots: dict[DistanceMeasure, tuple[float, float]]


def distances(reference: FeatureStatistics, current: FeatureStatistics) -> Distances:
    """Distances between statistics counted under one schema, both with requests."""
    p, q = (_frequencies(side) for side in (reference, current))
    ks = None
    if reference.histogram:
        a, b = (np.array(side.histogram, float) for side in (reference, current))
        ks = 0.0
        if a.sum() and b.sum():
            ks = float(np.abs(a.cumsum() / a.sum() - b.cumsum() / b.sum()).max())
    js = jensenshannon(p, q, base=2)
    # half a request of the smaller side more in each bin of both: an empty one is no infinite surprise
    least = 0.5 / min(p.sum(), q.sum())
    p, q = (side / side.sum() + least for side in (p, q))
    p, q = p / p.sum(), q / q.sum()
    psi = float(special.rel_entr(p, q).sum() + special.rel_entr(q, p).sum())
    return Distances(psi, 0.0 if np.isnan(js) else float(js), ks)


def yardstick(windows: Sequence[FeatureStatistics]) -> Yardstick | None:
    """How far each of the reference's windows is from the others together; None for too few of them."""
    if not windows:
        return None
    median = float(np.median([window.requests for window in windows]))
    full = [window for window in windows if window.requests >= LEAST_SHARE * median]
    if len(full) < LEAST_WINDOWS or not median:
        return None
    measured = [distances(others, window) for others, window in zip(_all_but_one(full), full, strict=True)]
    roots: dict[DistanceMeasure, tuple[float, float]] = {}
    for measure, power in ROOTS.items():
        values = [getattr(one, measure) for one in measured]
        if None not in values:
            rooted = np.array(values) ** power
            roots[measure] = (float(rooted.mean()), float(rooted.std(ddof=1)))
    return Yardstick(len(full), median, roots)


def thresholds(measured: Yardstick, chance: float) -> dict[DistanceMeasure, float]:
    """Distances that a window as those of the reference exceeds with at most this `chance`, all measures
    together: bounds for one more value of a normal sample (Student's t)."""
    n = measured.windows
    reach = float(stats.t.isf(chance / len(measured.roots), n - 1)) * sqrt(1.0 + 1.0 / n)
    bounds: dict[DistanceMeasure, float] = {}
    for measure, (mean, deviation) in measured.roots.items():
        # a feature that never varied: no less than what chance does to a rare value of independent requests
        least = (_ONE_DEGREE[0] + reach * _ONE_DEGREE[1]) * (_SCALES[measure] / measured.requests) ** (1 / 3)
        bounds[measure] = max(mean + reach * deviation, least) ** (1.0 / ROOTS[measure])
    return bounds


def chance_of(requests: float, false_alarm_every: float, monitored: int) -> float:
    """The chance that each of the `monitored` features has in a window of so many requests, so that there
    is one false alarm in `false_alarm_every` requests."""
    return min(0.5, requests / false_alarm_every / max(monitored, 1))


def is_full(window: FeatureStatistics, measured: Yardstick) -> bool:
    """Whether a window has the requests to be judged by."""
    return window.requests >= ceil(LEAST_SHARE * measured.requests)


def _frequencies(side: FeatureStatistics) -> Floats:
    counts = side.histogram or (*side.values.values(), side.other)
    of_other_types = side.count - sum(counts)
    return np.array([*counts, of_other_types, side.missing], float)


def _all_but_one(windows: Sequence[FeatureStatistics]) -> list[FeatureStatistics]:
    """For each window all others, merged: of those before it and those after it."""
    before, after = [FeatureStatistics()], [FeatureStatistics()]
    for first, last in zip(windows, reversed(windows), strict=True):
        before.append(before[-1].merged(first))
        after.append(after[-1].merged(last))
    n = len(windows)
    return [before[i].merged(after[n - 1 - i]) for i in range(n)]
