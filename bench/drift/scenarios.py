"""The scenarios by name: stationary streams, and streams with a change."""

from __future__ import annotations

from functools import partial
from math import cos, pi, sin
from typing import Any

import numpy as np

from driftline.bench.drift.streams import (
    DAY,
    PARTS,
    WEEK,
    Asked,
    Change,
    Scenario,
    after,
    both,
    calendar,
    hour,
    missing,
    rhythm,
    scaled,
    weekday,
    with_features,
)  # fmt: skip


def _only(*names: str) -> Change:
    return with_features(lambda at: {name: calendar(at)[name] for name in names})


def _smooth(at: float) -> dict[str, Any]:
    """Features that are smooth functions of the time."""
    turn = 2.0 * pi * hour(at) / 24.0
    return {"hour": hour(at), "hour sine": sin(turn), "hour cosine": cos(turn)}


def _dates(at: float) -> dict[str, Any]:
    """Features of the calendar that repeat after a long time."""
    days = int(at / DAY)
    return {"day of the month": days % 30 + 1, "month": str(days // 30 % 12 + 1), "week": days // 7 % 52}


def _zones(_: int, asked: Asked, random: np.random.Generator) -> Asked:
    """Weekday and part of the day where the customer is: in one of three places."""
    local = asked.at + 3600.0 * float((-5, 1, 2)[int(3 * random.random())])
    return asked._replace(
        x=asked.x | {"weekday": weekday(local), "part of the day": PARTS[int(hour(local) / 6)]}
    )


def _trend(number: int, asked: Asked, random: np.random.Generator) -> Asked:
    return asked._replace(x=asked.x | {"trend": number / 20_000.0 + random.normal()})


def _slower_labels(number: int, asked: Asked, _: np.random.Generator) -> Asked:
    """Delays that change by a factor of three, for all classes alike, every 20,000 requests."""
    return asked._replace(delay=asked.delay * (1.0, 3.0)[number // 20_000 % 2])


def _turned(width: int, number: int, asked: Asked, random: np.random.Generator) -> Asked:
    """The label's logit changes gradually to its opposite, over `width` labels."""
    assert asked.p is not None
    share = min(number / width, 1.0)
    p = asked.p + share * 0.6 * (0.4 - asked.p)
    return asked._replace(y=bool(random.random() < p))


def _rotated(begins: int, width: int, number: int, asked: Asked, random: np.random.Generator) -> Asked:
    """The label depends on balances instead of amounts, gradually from `begins` on."""
    turn = min(max((number - begins) / width, 0.0), 1.0) * pi / 2.0
    z = 1.2 * cos(turn) * (np.log(asked.x["amount"]) - 3.0) + 1.2 * sin(turn) * asked.x["balance"] / 60.0
    return asked._replace(y=bool(random.random() < 1.0 / (1.0 + np.exp(-z))))


def _rare(p: float, _: int, asked: Asked, random: np.random.Generator) -> Asked:
    return asked._replace(p=p, y=bool(random.random() < p))


def _rare_doubled(p: float, _: int, asked: Asked, random: np.random.Generator) -> Asked:
    return asked._replace(p=p, y=bool(random.random() < 2.0 * p))


def _newcomer(share: float, _: int, asked: Asked, random: np.random.Generator) -> Asked:
    return asked._replace(x=asked.x | {"shop": "newcomer"}) if random.random() < share else asked


def _long_tail(_: int, asked: Asked, random: np.random.Generator) -> Asked:
    return asked._replace(x=asked.x | {"shop": f"shop {int(2_000 * random.random() ** 4)}"})


def _behind(factor: float, truth: bool, _: int, asked: Asked, __: np.random.Generator) -> Asked:
    return asked._replace(delay=asked.delay * factor) if asked.y is truth else asked


def _delays(true: float, _: int, asked: Asked, __: np.random.Generator) -> Asked:
    return asked._replace(delay=asked.delay * true) if asked.y else asked


def _flipped(feature: str, _: int, asked: Asked, __: np.random.Generator) -> Asked:
    return asked._replace(x=asked.x | {feature: -asked.x[feature]})


def _stuck(feature: str, value: Any, _: int, asked: Asked, __: np.random.Generator) -> Asked:
    return asked._replace(x=asked.x | {feature: value})


def _partly(
    share: float, feature: str, value: Any, _: int, asked: Asked, random: np.random.Generator
) -> Asked:
    return asked._replace(x=asked.x | {feature: value}) if random.random() < share else asked


def _recoded(_: int, asked: Asked, __: np.random.Generator) -> Asked:
    return asked._replace(x=asked.x | {"weekday": asked.x["weekday"] + 1})


def _seldom(late: int, _: int, asked: Asked, random: np.random.Generator) -> Asked:
    """One label in ten is positive. Each comes `late` requests later, at a million requests a day."""
    z = 1.5 * (np.log(asked.x["amount"]) - 3.0) - 2.6
    y = bool(random.random() < 1.0 / (1.0 + np.exp(-z)))
    return asked._replace(y=y, delay=late * DAY / 1_000_000)


_DAYS = both(_only("weekday", "weekend", "day"))
_LATE = Scenario("high rate, late labels", 20_000, 1_000_000, partial(_seldom, 1_000), learns=True)

STATIONARY = (
    Scenario("plain", 200_000, 30_000),
    Scenario("weekday, 2,000 a day", 200_000, 2_000, _only("weekday")),
    Scenario("weekday as text, and weekend, 2,000 a day", 200_000, 2_000, _only("day", "weekend")),
    Scenario("weekday, 200 a day", 60_000, 200, _only("weekday", "weekend", "day")),
    Scenario("part of the day, 30,000 a day", 100_000, 30_000, _only("part of the day")),
    Scenario("whole calendar, 30,000 a day", 200_000, 30_000, with_features(calendar)),
    Scenario("whole calendar, 5,000 a day", 200_000, 5_000, with_features(calendar)),
    Scenario("hour and its sine, 30,000 a day", 200_000, 30_000, with_features(_smooth)),
    Scenario("hour and its sine, 2,000 a day", 200_000, 2_000, with_features(_smooth)),
    Scenario("day of the month, month, week, 5,000 a day", 200_000, 5_000, with_features(_dates)),
    Scenario("calendars of three zones, 5,000 a day", 200_000, 5_000, _zones),
    Scenario("calendars of three zones, 30,000 a day", 200_000, 30_000, _zones),
    Scenario("daily rhythm, 30,000 a day", 200_000, 30_000, rhythm(DAY, 0.1)),
    Scenario("weekly rhythm, 5,000 a day", 200_000, 5_000, rhythm(WEEK, 0.1)),
    Scenario("calendars of three zones, 30,000 a day, season WEEK", 400_000, 30_000, _zones, season=WEEK),
    Scenario("calendars of three zones, 5,000 a day, season WEEK", 200_000, 5_000, _zones, season=WEEK),
    Scenario("calendars of three zones, 30,000 a day, season DAY", 200_000, 30_000, _zones, season=DAY),
    Scenario("daily rhythm, 30,000 a day, season DAY", 200_000, 30_000, rhythm(DAY, 0.1), season=DAY),
    Scenario("weekly rhythm, 5,000 a day, season WEEK", 200_000, 5_000, rhythm(WEEK, 0.1), season=WEEK),
    Scenario("trend", 200_000, 30_000, _trend),
    Scenario("changing delays of labels", 200_000, 30_000, _slower_labels),
    Scenario("labels of one class always later", 200_000, 30_000, partial(_delays, 5.0)),
    Scenario("rare label", 200_000, 30_000, partial(_rare, 0.005)),
    Scenario("a model that learns", 100_000, 30_000, delay=50, learns=True),
    _LATE,
    Scenario("high rate, later labels", 20_000, 1_000_000, partial(_seldom, 4_000), learns=True),
)
CHANGING = (
    Scenario(
        "weekday, and amounts in cents",
        130_000,
        2_000,
        both(_only("weekday"), after(100_033, scaled("amount", 100.0))),
        100_033,
        ("data break",),
        "feature amount",
    ),
    Scenario(
        "weekday, and missing 5 -> 15 %",
        130_000,
        2_000,
        both(_only("weekday"), after(100_033, missing("age", 0.105))),
        100_033,
        ("data break",),
        "feature age: missing rate",
    ),
    Scenario(
        "weekday stuck",
        130_000,
        2_000,
        both(_only("weekday"), after(100_033, partial(_stuck, "weekday", 3))),
        100_033,
        ("data break",),
        "feature weekday",
    ),
    Scenario(
        "weekday from 1 instead of 0",
        130_000,
        2_000,
        both(_only("weekday"), after(100_033, _recoded)),
        100_033,
        ("data break",),
        "feature weekday",
    ),
    Scenario(
        "part of the day, amounts in cents",
        100_000,
        30_000,
        both(_only("part of the day"), after(60_033, scaled("amount", 100.0))),
        60_033,
        ("data break",),
        "feature amount",
    ),
    Scenario(
        "part of the day stuck",
        100_000,
        30_000,
        both(_only("part of the day"), after(60_033, partial(_stuck, "part of the day", "night"))),
        60_033,
        ("data break",),
        "feature part of the day",
    ),
    Scenario(
        "calendars of three zones, weekday stuck, season DAY",
        130_000,
        30_000,
        both(_zones, after(100_033, partial(_stuck, "weekday", 3))),
        100_033,
        ("data break",),
        "feature weekday",
        season=DAY,
    ),
    Scenario(
        "zones, season WEEK, amounts in cents",
        100_000,
        5_000,
        both(_zones, after(60_033, scaled("amount", 100.0))),
        60_033,
        ("data break",),
        "feature amount",
        season=WEEK,
    ),
    Scenario(
        "zones, season WEEK, missing 5 -> 15 %",
        100_000,
        5_000,
        both(_zones, after(60_033, missing("age", 0.105))),
        60_033,
        ("data break",),
        "feature age: missing rate",
        season=WEEK,
    ),
    Scenario(
        "zones, season WEEK, a tenth more of evening",
        100_000,
        5_000,
        both(_zones, after(60_033, partial(_partly, 0.1, "part of the day", "evening"))),
        60_033,
        ("covariate drift",),
        "feature part of the day",
        season=WEEK,
    ),
    Scenario(
        "daily rhythm, season DAY, load times 1.5",
        110_000,
        30_000,
        both(rhythm(DAY, 0.1), after(70_033, scaled("load", 1.5))),
        70_033,
        ("data break", "covariate drift"),
        "feature load",
        season=DAY,
    ),
    Scenario(
        "daily rhythm, season DAY, load missing 10 %",
        110_000,
        30_000,
        both(rhythm(DAY, 0.1), after(70_033, missing("load", 0.1))),
        70_033,
        ("data break",),
        "feature load: missing rate",
        season=DAY,
    ),
    Scenario(
        "daily rhythm, season DAY, concept turns over 20,000 labels",
        110_000,
        30_000,
        both(rhythm(DAY, 0.1), after(70_033, partial(_turned, 20_000))),
        70_033,
        ("concept drift",),
        ("loss: mean", "calibration: mean"),
        season=DAY,
    ),
    Scenario(
        "concept turns over 20,000 labels",
        60_000,
        30_000,
        after(20_000, partial(_turned, 20_000)),
        20_000,
        ("concept drift",),
        ("loss: mean", "calibration: mean"),
    ),
    Scenario(
        "concept turns over 20,000 labels, model learns",
        80_000,
        30_000,
        partial(_rotated, 30_000, 20_000),
        30_000,
        ("concept drift",),
        "loss",
        learns=True,
    ),
    Scenario(
        "rare label doubles",
        100_000,
        30_000,
        both(partial(_rare, 0.005), after(50_000, partial(_rare_doubled, 0.005))),
        50_000,
        ("label shift", "concept drift"),
        "label: mean",
    ),
    Scenario(
        "a newcomer takes 5 % of a long tail",
        60_000,
        30_000,
        both(_long_tail, after(30_000, partial(_newcomer, 0.05))),
        30_000,
        ("covariate drift",),
        "feature shop: share of newcomer",
    ),
    Scenario(
        "a newcomer takes 20 % of a long tail",
        60_000,
        30_000,
        both(_long_tail, after(30_000, partial(_newcomer, 0.2))),
        30_000,
        ("covariate drift",),
        "feature shop: share of newcomer",
    ),
    Scenario(
        "labels of one class fall behind",
        60_000,
        30_000,
        after(30_000, partial(_behind, 10.0, True)),
        30_000,
        ("label delay",),
        "labels: delay",
    ),
    Scenario(
        "balance times 1.6",
        40_000,
        30_000,
        after(20_000, scaled("balance", 1.6)),
        20_000,
        ("data break",),
        "feature balance: spread",
    ),
    Scenario(
        "amount with its sign flipped",
        40_000,
        30_000,
        after(20_000, partial(_flipped, "amount")),
        20_000,
        ("data break",),
        "feature amount",
    ),
)
SCENARIOS = (*STATIONARY, *CHANGING)
