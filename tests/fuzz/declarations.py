"""Cases drawn at random: every kind of feature, task and member, with code that fails now and then."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

from driftline import (
    MINUTE,
    Anomaly,
    Binary,
    Combination,
    Event,
    Label,
    Member,
    Multiclass,
    PerKey,
    Promotion,
    Reference,
    Regression,
    UseCase,
    count,
    decayed,
    derive,
    difference,
    distinct,
    field,
    first,
    lag,
    latest,
    lookup,
    max,
    mean,
    min,
    on_demand,
    rate,
    ratio,
    since,
    std,
    sum,
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Asked(Event, tag="asked"):
    shop: str
    order: str
    place: int | None = None
    colour: Colour | None = None
    when: datetime | None = None
    code: UUID | None = None
    thing: Any = None
    amount: float = 1.0
    pieces: int | None = None
    flag: bool = False
    text: str = ""


class Settled(Event, tag="settled"):
    shop: str
    order: str
    place: int | None = None
    thing: Any = None
    colour: Colour | None = None
    bad: float = 0.0
    text: str | None = None
    corrects: str | int | None = None


class Dropped(Event, tag="dropped"):
    shop: str
    order: str
    place: int | None = None
    thing: Any = None
    corrects: str | None = None


class Product(Reference, tag="product"):
    order: str
    thing: Any = None
    weight: float | None = None
    text: str = ""


EVENTS: tuple[type[Event], ...] = (Asked, Settled, Dropped, Product)
JOINED = ("order", "place", "thing")
GROUPED: tuple[tuple[str, ...], ...] = (
    ("shop",), ("shop", "order"), ("shop", "thing"), ("shop", "place"), ("place", "shop"), ("shop", "colour"),
)  # fmt: skip


def odd(value: float) -> Any:
    """What user code gives: mostly a number, at times anything else, or it raises."""
    step = int(value * 10) % 13
    if step == 0:
        return 1 / 0
    given: dict[int, Any] = {1: None, 2: float("nan"), 3: float("inf"), 4: "text", 5: [1], 6: True, 7: 10**20}
    return given.get(step, value)


def odd_amount(event: Asked) -> Any:
    return odd(event.amount)


def odd_bad(event: Settled) -> Any:
    return odd(event.bad)


def odd_thing(event: Any) -> Any:
    return event.thing


def longer(event: Asked) -> str | None:
    return event.text * 40 or None


def plus(one: float, other: float) -> Any:
    return odd(one) if other > 2 else one + other


def is_bad(event: Any) -> bool:
    return bool(event.bad > 0.5)


def kind_of(event: Settled) -> str | None:
    return event.text


class Moody:
    """An estimator that fails, or answers what is no answer, for some requests and labels."""

    def __init__(self) -> None:
        self.seen = 0

    def _mood(self, x: dict[str, Any], good: Any) -> Any:
        self.seen += 1
        mood = (self.seen * 7 + len(x)) % 41
        if mood == 0:
            raise ArithmeticError(f"after {self.seen}")
        return {1: float("nan"), 2: None, 3: "no", 4: -1.0}.get(mood, good)

    def learn_one(self, x: dict[str, Any], y: Any = None, w: float = 1.0) -> None:
        self._mood(x, None)

    def predict_proba_one(self, x: dict[str, Any]) -> Any:
        return {True: self._mood(x, 0.25), "a": 0.5}

    def predict_one(self, x: dict[str, Any]) -> Any:
        return self._mood(x, 3.0)

    def score_one(self, x: dict[str, Any]) -> Any:
        return self._mood(x, 0.5)


def logistic() -> Any:
    from river import linear_model, preprocessing

    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def bayes() -> Any:
    from river import naive_bayes

    return naive_bayes.GaussianNB()


def line() -> Any:
    from river import linear_model, preprocessing

    return preprocessing.StandardScaler() | linear_model.LinearRegression()


def spaces() -> Any:
    from river import anomaly

    return anomaly.HalfSpaceTrees(n_trees=3, height=3, window_size=5, seed=1)


_SOUND: dict[type, Callable[[], Any]] = {
    Binary: logistic, Multiclass: bayes, Regression: line, Anomaly: spaces
}  # fmt: skip


def features_of(random: Random) -> dict[str, Any]:
    """Some of all the kinds there are; those that are computed from others come with them."""

    def by() -> tuple[str, ...]:
        return random.choice(GROUPED)

    def over() -> float:
        return random.choice((1.0, 30.0, 10 * MINUTE))

    valid = random.choice((None, (0, 3), (None, 2), (1, None)))
    outside = random.choice(("missing", "keep", "refuse"))
    ranged = {} if valid is None else {"valid": valid, "outside": outside}
    most = random.choice((None, 1, 2))
    every: dict[str, Any] = {
        "amount": field("amount", **ranged),
        "text": field("text"),
        "pieces": field("pieces"),
        "odd": derive(odd_amount, **ranged),
        "thing": derive(odd_thing),
        "longer": derive(longer),
        "weight": lookup(Product, "weight", by="order", ttl=random.choice((None, 60.0))),
        "described": lookup(Product, "text", by="thing"),
        "mean": mean(Settled, "bad", by=("shop",), over=over(), **ranged),
        "odd_mean": mean(Settled, odd_bad, by=by_of(Settled, by), over=over()),
        "count": count(Asked, by=by(), over=over(), max_keys=most),
        "sum": sum(Asked, "amount", by=by(), over=over()),
        "minutes": max(Asked, "amount", by=by(), over=10 * MINUTE, resolution=MINUTE, max_keys=most),
        "halves": std(Settled, "bad", by=("shop",), over=60.0, resolution=random.choice((30.0, 60.0))),
        "min": min(Asked, "amount", by=by(), over=over()),
        "max": max(Asked, odd_amount, by=by(), over=over(), max_keys=most),
        "std": std(Asked, "amount", by=by(), over=over()),
        "latest": latest(Settled, "bad", by=("shop", "order"), ttl=over()),
        "rate": rate(Dropped, by=("shop", "place"), over=over()),
        "first": first(Asked, "amount", by=("shop",), over=over()),
        "lag": lag(Asked, "amount", random.choice((1, 3)), by=("shop",), over=over()),
        "decayed": decayed(Asked, "amount", by=("shop",), half_life=5.0),
        "texts": distinct(Settled, "text", by=by_of(Settled, by), over=over(), most=2),
        "since": since(Settled, by=("shop",), over=over()),
    }
    names = random.sample(sorted(every), random.randint(1, 8))
    chosen = {name: every[name] for name in names}
    if {"amount", "mean"} <= chosen.keys():
        chosen |= {"ratio": ratio("amount", "mean", **ranged), "plus": on_demand(plus, of=("amount", "mean"))}
    if {"lag", "amount"} <= chosen.keys():
        chosen |= {"change": difference("amount", "lag")}
    return chosen


def by_of(event: type, by: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """A key that the event has."""
    return next(names for names in iter(by, None) if set(names) <= set(event.__struct_fields__))  # type: ignore[attr-defined]


def task_of(random: Random) -> Any:
    """Any task; labels that are none, voids, values at expiry, corrections."""
    kind = random.choice((Binary, Multiclass, Regression, Anomaly))
    if kind is Anomaly and random.random() < 0.3:
        return Anomaly("bad", ask=Asked, wait=random.choice((5.0, 60.0)))
    rules: dict[type, tuple[Callable[[Any], Any], Any]] = {
        Binary: (is_bad, False),
        Multiclass: (kind_of, "a"),
        Regression: (odd_bad, 0.5),
        Anomaly: (is_bad, False),
    }
    sound, at_expiry = rules[kind]
    more: dict[str, Any] = {"void": [Dropped]} if random.random() < 0.5 else {}
    if random.random() < 0.3:
        more["at_expiry"] = at_expiry
    if random.random() < 0.3:
        more["corrections"] = random.choice((0.0, 30.0))
    if random.random() < 0.3:
        more["learn_at"] = "deadline"
    more["answers"] = random.choice(("all", "all", "oldest", "newest"))
    label = Label(
        Settled,
        on=random.choice(JOINED),
        value=random.choice((sound, sound, odd_bad)),
        wait=random.choice((2.0, 30.0, 300.0)),
        **more,
    )
    if kind is Regression:
        return Regression("bad", ask=Asked, label=label, coverage=random.choice((None, 0.8)))
    return kind("bad", ask=Asked, label=label)


def models_of(random: Random, kind: type) -> PerKey:
    """A champion, challengers and a combination, some of which fail."""
    sound = _SOUND[kind]
    champion = Member("champion", random.choice((sound, Moody)))
    others: list[Member | Combination] = [
        Member("other", sound), Member("moody", Moody, rate=0.5), Member("reserve", sound, reserve=True)
    ]  # fmt: skip
    challengers = random.sample(others, random.randint(0, len(others)))
    if kind in (Binary, Regression) and challengers and random.random() < 0.5:
        challengers.append(Combination("together"))
    return PerKey(
        champion=champion,
        challengers=challengers,
        frozen_after=random.choice((3, 1000)),
        baselines=random.random() < 0.7,
        promotion=Promotion(min_labels=5, warm_up=5) if random.random() < 0.5 else None,
        budget=random.choice((None, 1.0)),
    )


def case_of(random: Random) -> UseCase:
    """A case that its declaration accepts."""
    task = task_of(random)
    return UseCase(
        "fuzzed",
        key="shop",
        events=list(EVENTS),
        features=features_of(random),
        task=task,
        models=models_of(random, type(task)),
        slices=random.sample(("place", "thing", "colour", "when", "code"), random.randint(0, 2)),
        clock=random.choice(("event", "wall")),
        clock_skew=random.choice((0.0, 5.0, 60.0)),
        lateness=random.choice((None, 0.0, 5.0, 60.0)),
        max_jump=random.choice((30.0, 600.0)),
        dedup_horizon=random.choice((5.0, 600.0)),
        max_event_bytes=random.choice((400, 65_536, 65_536, 65_536)),
    )
