"""Streams of requests and labels for the drift monitors, stationary or with a known change.

Each stream depends only on its seed. Times are event time in seconds; requests are evenly spaced, with noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, pi, sin
from typing import Any, NamedTuple

import numpy as np

HOUR, DAY, WEEK = 3_600.0, 86_400.0, 604_800.0
START = 1_700_000_000.0
"""Tuesday, 14 November 2023, 22:13:20 UTC."""
PARTS = ("night", "morning", "afternoon", "evening")
CHUNK = 4_096


class Asked(NamedTuple):
    """One request: its time, its features, the answer (None: a learning model answers), its label, and the
    delay of the label (seconds)."""

    at: float
    x: dict[str, Any]
    p: float | None
    y: bool
    delay: float


Change = Callable[[int, Asked, np.random.Generator], Asked]
"""Changes a request, given its number and a random generator."""


@dataclass(frozen=True)
class Scenario:
    """A stream of `count` requests, `a_day` each day. `change` begins at request `begins` (None: never), and
    should be reported as one of `kinds` with a first suspect that begins like `first`, or one of them.
    `delay` is the mean delay of labels, in requests, exponentially distributed. If it `learns`, a logistic
    regression answers. `season` is the declared season of the monitors, in seconds."""

    name: str
    count: int
    a_day: float
    change: Change | None = None
    begins: int | None = None
    kinds: tuple[str, ...] = ()
    first: str | tuple[str, ...] = ""
    delay: float = 200.0
    learns: bool = False
    season: float | None = None

    def requests(self, seed: int) -> Iterator[Asked]:
        """The stream of one seed."""
        random = np.random.default_rng([seed, *self.name.encode()])
        wait = self.delay * DAY / self.a_day
        for number, asked in enumerate(_plain(random, self.count, self.a_day, wait)):
            if self.learns:
                asked = asked._replace(p=None)
            yield asked if self.change is None else self.change(number, asked, random)


def _plain(random: np.random.Generator, count: int, a_day: float, wait: float) -> Iterator[Asked]:
    """Numbers that are autocorrelated, heavy-tailed, rare or partly missing, and a long tail of shops."""
    slow, at = 0.0, START
    for start in range(0, count, CHUNK):
        z = random.standard_normal((CHUNK, 4)).tolist()
        u = random.random((CHUNK, 6)).tolist()
        heavy = random.standard_t(3, CHUNK).tolist()
        delays = random.exponential(wait, CHUNK).tolist()
        gaps = random.exponential(DAY / a_day, CHUNK).tolist()
        for row in range(min(CHUNK, count - start)):
            at += gaps[row]
            slow = 0.99 * slow + (1 - 0.99**2) ** 0.5 * z[row][0]
            x: dict[str, Any] = {
                "amount": exp(3.0 + 0.8 * z[row][1]),
                "queue": slow,
                "balance": 40.0 * heavy[row],
                "rare": float(u[row][0] < 0.01),
                "shop": f"shop {int(40 * u[row][1] ** 3)}",
                "new customer": u[row][2] < 0.3,
            }
            if u[row][3] >= 0.05:
                x["age"] = 40.0 + 12.0 * z[row][2]
            p = 1.0 / (1.0 + exp(-(0.9 * z[row][1] + 0.5 * slow - 0.8)))
            yield Asked(at, x, p, u[row][4] < p, delays[row])


def with_features(more: Callable[[float], dict[str, Any]]) -> Change:
    """Add features that depend only on the request's time."""

    def change(_: int, asked: Asked, __: np.random.Generator) -> Asked:
        return asked._replace(x=asked.x | more(asked.at))

    return change


def weekday(at: float) -> int:
    """0 (Monday) .. 6, UTC."""
    return int((at / DAY + 3) % 7)


def hour(at: float) -> float:
    """0 .. 24, with fractions, UTC."""
    return at % DAY / HOUR


def calendar(at: float) -> dict[str, Any]:
    """Features of the calendar: hour, weekday and the like."""
    day = weekday(at)
    return {
        "weekday": day,
        "day": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[day],
        "weekend": day >= 5,
        "hour": float(int(hour(at))),
        "part of the day": PARTS[int(hour(at) / 6)],
    }


def after(begins: int, change: Change) -> Change:
    """The change, applied from request number `begins` on."""

    def changed(number: int, asked: Asked, random: np.random.Generator) -> Asked:
        return change(number - begins, asked, random) if number >= begins else asked

    return changed


def both(*changes: Change) -> Change:
    """The changes, applied one after the other."""

    def changed(number: int, asked: Asked, random: np.random.Generator) -> Asked:
        for change in changes:
            asked = change(number, asked, random)
        return asked

    return changed


def scaled(feature: str, factor: float) -> Change:
    """Multiply the feature by a factor."""

    def change(_: int, asked: Asked, __: np.random.Generator) -> Asked:
        return asked._replace(x=asked.x | {feature: asked.x[feature] * factor})

    return change


def missing(feature: str, rate: float) -> Change:
    """Remove the feature from the share `rate` of the requests."""

    def change(_: int, asked: Asked, random: np.random.Generator) -> Asked:
        if random.random() >= rate:
            return asked
        return asked._replace(x={name: value for name, value in asked.x.items() if name != feature})

    return change


def rhythm(period: float, share: float) -> Change:
    """Vary a feature and the share of positive labels periodically."""

    def change(_: int, asked: Asked, random: np.random.Generator) -> Asked:
        wave = sin(2.0 * pi * asked.at / period)
        p = min(max((asked.p or 0.0) + share * wave, 0.01), 0.99)
        return Asked(
            asked.at,
            asked.x | {"load": 10.0 + 4.0 * wave + random.normal()},
            p,
            random.random() < p,
            asked.delay,
        )

    return change
