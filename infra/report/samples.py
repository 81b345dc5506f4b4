"""What was seen of the worker while it ran, and the curves that it gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

INTERVALS = 80
"""Most points a rolling curve has."""


class Sample(msgspec.Struct, frozen=True):
    """The worker at one moment.

    `at` is event time (seconds since the epoch), `wall` seconds since the start, `rss` bytes of
    memory, `models` the cumulative metrics of each member, empty where they are not newer than before,
    `offsets` the next position of the log by partition.
    """

    at: float
    wall: float
    events: int
    rss: int | None
    models: dict[str, dict[str, Any]]
    offsets: dict[int, int] = {}


class Memory(NamedTuple):
    """Resident memory in MB after the first third of a run and at its end."""

    warm: float
    end: float

    @property
    def is_flat(self) -> bool:
        """Whether it grew by 10 % at most."""
        return self.end <= self.warm * 1.1


def rolling(samples: Sequence[Sample], member: str, metric: str) -> list[tuple[float, float]]:
    """(event time, mean of a per-label metric) between samples, from its cumulative means.

    `metric` must be a mean over labels (log loss, Brier, squared error): differences of n x mean are
    then exact. At most about `INTERVALS` points; intervals with few labels are joined.
    """
    states = [
        (s.at, s.models[member]["n"], s.models[member][metric])
        for s in samples
        if member in s.models and s.models[member].get(metric) is not None
    ]
    if not states:
        return []
    least = max(100, states[-1][1] / INTERVALS * 0.8)
    points = []
    last_at, last_n, last_sum = samples[0].at, 0, 0.0
    for at, n, mean in states:
        if n - last_n >= least:
            points.append(((last_at + at) / 2, (n * mean - last_sum) / (n - last_n)))
            last_at, last_n, last_sum = at, n, n * mean
    return points


def over_time(samples: Sequence[Sample], member: str, metric: str) -> list[tuple[float, float]]:
    """(event time, value) of a metric over its fading window, or since the start where there is none."""
    points: list[tuple[float, float]] = []
    least = (samples[-1].at - samples[0].at) / (4 * INTERVALS) if samples else 0.0
    labels = max((s.models.get(member, {}).get("n", 0) for s in samples), default=0)
    for sample in samples:
        state = sample.models.get(member, {})
        value = state.get("fading", state).get(metric)
        if value is None or state.get("n", 0) < max(200, labels / 100):
            continue
        if points and sample.at - points[-1][0] < least:
            points.pop()
        points.append((sample.at, value))
    return points


def thinned(samples: Sequence[Sample]) -> Sequence[Sample]:
    """About as many samples as a curve has points at most."""
    step = math.ceil(len(samples) / (2 * INTERVALS)) or 1
    return samples[::step]


def memory(samples: Sequence[Sample]) -> Memory | None:
    """Memory after the first third and at the end; None for few samples."""
    known = [s for s in samples if s.rss]
    if len(known) < 6:
        return None
    part = max(1, len(known) // 10)
    third = known[len(known) // 3 : len(known) // 3 + part]
    warm, end = (sum(s.rss or 0 for s in seen) / len(seen) / 1e6 for seen in (third, known[-part:]))
    return Memory(warm, end)


def throughput(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """(event time, events a second of wall time) between samples."""
    return [
        ((a.at + b.at) / 2, (b.events - a.events) / (b.wall - a.wall))
        for a, b in pairwise(thinned(samples))
        if b.wall > a.wall
    ]
