"""A declaration that is wrong says so when it is made: which field, what was expected, what may be meant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest
from declared import LONG, Asked, Other, Product, Settled, label, logistic, orders, task

import driftline as dl


class Pair(dl.Event, tag="pair"):
    order: str
    shop: str
    part: str
    order_part: str


def window(**changed: Any) -> dl.UseCase:
    said: dict[str, Any] = {"event": Settled, "value": "bad", "by": "shop", "over": dl.HOUR}
    said |= changed
    return orders(features={"a": dl.mean(said.pop("event"), said.pop("value"), **said)})


def pool(**changed: Any) -> dl.UseCase:
    return orders(models=dl.PerKey(**{"champion": dl.Member("logistic", logistic)} | changed))


def member(**changed: Any) -> dl.UseCase:
    return pool(champion=dl.Member("logistic", changed.pop("build", logistic), **changed))


def of_two(event: Any, other: Any) -> bool:
    """A label's value that takes two arguments."""
    return bool(event.bad and other)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a label's value of two": (
        lambda: orders(task=task(label=label(value=of_two))),
        "expected a function of one argument, but the function of_two: missing a required argument: 'other'",
    ),
    "a feature of two": (lambda: dl.derive(of_two), "expected a function of one argument"),
    "a window's value of two": (lambda: window(value=of_two), "value: expected a function of one argument"),
    "an estimator of one": (lambda: member(build=lambda seed: seed), "build: expected a function of no arg"),
    "a label that is void": (lambda: label(void=[Settled]), "void: Settled brings the label"),
    "a log of too many partitions": (
        lambda: orders(partitions=10**9), "partitions: it must be at least 1 and at most 10,000",
    ),
    "too many replicas": (
        lambda: dl.Shared(dl.Member("m", logistic), replicas=1_001), "replicas: it must be at least 0 and",
    ),
    "an event longer than a record": (
        lambda: orders(max_event_bytes=2**21), "max_event_bytes: it must be at least 1 and at most 1,048,588",
    ),
    "a wait without an end": (
        lambda: label(wait=timedelta.max), "wait: it must be at most a thousand years",
    ),
    "a lateness without an end": (lambda: orders(lateness=1e18), "at most a thousand years, not 1e+18"),
    "a window of nothing": (lambda: window(over=1e-9), "over: it must be a microsecond or more, not 1e-09"),
    "a wait of nothing": (lambda: label(wait=1e-300), "wait: it must be a microsecond or more"),
    "a duration beyond the floats": (lambda: orders(lateness=10**400), "a finite number of seconds"),
    "a number beyond the floats": (
        lambda: dl.Decision(false_positive=10**400, false_negative=1), "a finite number",
    ),
    "at expiry beyond the floats": (
        lambda: dl.Regression("r", ask=Asked, label=label(at_expiry=10**400)), "is no finite number",
    ),
    "name": (lambda: orders(name="my case/1"), "write 'my-case-1'"),
    "name empty": (lambda: orders(name=""), "letters, digits"),
    "name long": (lambda: orders(name="a" * 245), "Kafka takes 249"),
    "name with its namespace": (
        lambda: orders(name="a" * 150).topics("b" * 50), "201 characters together; at most 200",
    ),
    "namespace": (lambda: orders().topics("a b"), "namespace: expected letters"),
    "name of no project": (lambda: orders(name="_x"), "a letter or digit first, not '_x': write 'x'"),
    "a view's name": (
        lambda: orders(
            name="a" * 190, features={"n": dl.count(Settled, by=("shop", LONG), over=1)}
        ),
        "Feast's registry takes 255",
    ),
    "name with a dot": (
        lambda: orders(name="shop.orders"), "expected no '.', which separates namespace and case",
    ),
    "views of one name": (
        lambda: orders(
            events=[Pair, Settled], task=task(ask=Pair),
            features={
                "a": dl.count(Pair, by=("shop", "order", "part"), over=1),
                "b": dl.count(Pair, by=("shop", "order_part"), over=1),
            },
        ),
        "2 views would have the name 'orders_by_shop_order_part'",
    ),
    "columns of one name": (
        lambda: orders(
            features={
                "a": dl.since(Settled, by="shop", over=1), "a_at": dl.count(Settled, by="shop", over=1),
            }
        ),
        "feature 'a_at': the store uses that name for the time of 'a'",
    ),
    "name no text": (lambda: orders(name=7), "expected text, not 7"),
    "task's name": (lambda: orders(task=task(name="is it/bad")), "write 'is-it-bad'"),
    "key": (lambda: orders(key="shp"), "Did you mean 'shop'?"),
    "key with several texts": (lambda: orders(key="weight", events=[Asked]), "the task uses Settled"),
    "key that may be None": (
        lambda: orders(key="region", events=[Asked, Settled], features={}), "may be None, which is no key",
    ),
    "key of any kind": (lambda: orders(key="part", features={}), "declare what it is, such as str"),
    "labels of another kind": (
        lambda: orders(task=task(on="number")), "Asked.number is int and Settled.number is str",
    ),
    "a window by another kind": (lambda: window(by=("shop", "number")), "never equal: declare both alike"),
    "a lookup by another kind": (
        lambda: orders(
            features={"a": dl.lookup(Product, "weight", by="number")}, events=[Asked, Settled, Product]
        ),
        "Product.number is str and Asked.number is int",
    ),
    "a window by an enumeration and a text": (
        lambda: window(by=("shop", "kind")), "Settled.kind is str and Asked.kind is Kind",
    ),
    "events": (lambda: orders(events=Asked), "expected a list, not the class Asked: write [Asked]"),
    "an event that is none": (lambda: orders(events=[Asked, Settled, int]), "a subclass of Event"),
    "an event twice": (lambda: orders(events=[Asked, Settled, Asked]), "Asked is listed twice"),
    "clock": (lambda: orders(clock="walll"), "Did you mean 'wall'?"),
    "lateness": (lambda: orders(lateness=-5), "lateness: it must be at least 0"),
    "lateness nan": (lambda: orders(lateness=nan), "a finite number of seconds"),
    "max_jump": (lambda: orders(max_jump=0), "max_jump: it must be above 0"),
    "max_jump inf": (lambda: orders(max_jump=inf), "a finite number of seconds"),
    "dedup_horizon": (lambda: orders(dedup_horizon="1d"), "not '1d': write 1 * DAY"),
    "partitions": (lambda: orders(partitions=1.5), "expected a whole number, not 1.5"),
    "partitions true": (lambda: orders(partitions=True), "expected a whole number, not True"),
    "max_event_bytes": (lambda: orders(max_event_bytes=0), "max_event_bytes: it must be at least 1"),
    "slices": (lambda: orders(slices="shop"), "write ['shop']"),
    "slice": (lambda: orders(slices=["sho"]), "Did you mean 'shop'?"),
    "slices as a set": (lambda: orders(slices={"shop"}), "expected a list"),
    "source": (lambda: orders(source="nope"), "expected module:function"),
    "source undefined": (lambda: orders(source="nowhere.at_all:events"), "no module 'nowhere.at_all'"),
    "operators": (lambda: orders(operators=["ann"]), "expected a mapping"),
    "operator's key": (lambda: orders(operators={"ann": 5}), "'ann': expected text, not 5"),
    "refusals": (lambda: orders(refusals="schema.json"), "expected a RefusingFeatures"),
    "description": (lambda: orders(description=None), "description: expected text, not None"),
    "retention": (lambda: orders(retention=-1), "retention: it must be above 0"),
    "task as a class": (lambda: orders(task=dl.Binary), "not the class Binary"),
    "models": (lambda: orders(models=logistic()), "models: expected a PerKey or a Shared"),
    "features as a list": (lambda: orders(features=[dl.field("amount")]), "expected a mapping"),
    "a feature as text": (lambda: orders(features={"amount": "amount"}), "not 'amount'"),
    "a feature's name": (lambda: orders(features={"a b.c": dl.field("amount")}), "feature 'a b.c'"),
    "a reserved name": (lambda: orders(features={"label": dl.field("amount")}), "a column of that name"),
    "a key's name": (
        lambda: orders(features={"shop": dl.count(Settled, by="shop", over=1)}), "the name of a key",
    ),
    "a field": (lambda: orders(features={"a": dl.field("amuont")}), "Did you mean 'amount'?"),
    "a field of money": (lambda: orders(features={"a": dl.field("price")}), "float(event.price)"),
    "a field of a day": (lambda: orders(features={"a": dl.field("day")}), "Asked.day is a date"),
    "a field of lists": (lambda: orders(features={"a": dl.field("tags")}), "len(event.tags)"),
    "a lookup of no reference": (
        lambda: orders(features={"a": dl.lookup(Settled, "bad", by="order")}), "is no Reference",
    ),
    "a lookup of what is undeclared": (
        lambda: orders(features={"a": dl.lookup(Product, "weight", by="order")}), "add Product to them",
    ),
    "a lookup's ttl": (lambda: dl.lookup(Product, "weight", by="order", ttl=0), "ttl: it must be above 0"),
    "a window's event": (lambda: window(event=Other, value="x"), "uses Other, which is not among events"),
    "a window of an object": (lambda: dl.mean("Settled", "bad", by="shop", over=1), "an event class"),
    "a window's field": (lambda: window(value="bda"), "Did you mean 'bad'?"),
    "a window's value": (lambda: window(value=5), "value: expected text or a function or None, not 5"),
    "a window's key": (lambda: window(by=5), "by: expected the name of a field"),
    "a window without a key": (lambda: window(by=()), "at least one name"),
    "over": (lambda: window(over="1h"), "not '1h': write 1 * HOUR"),
    "over 0": (lambda: window(over=0), "over: it must be above 0"),
    "over inf": (lambda: window(over=inf), "a finite number of seconds"),
    "ttl": (lambda: window(ttl=-1), "ttl: it must be above 0"),
    "max_keys": (lambda: window(max_keys=0), "max_keys: it must be at least 1"),
    "resolution": (lambda: window(resolution=0), "resolution: it must be above 0"),
    "a resolution of parts of seconds": (lambda: window(over=3, resolution=1.5), "expected whole seconds"),
    "a resolution that does not divide": (
        lambda: window(over=90, resolution=60), "of which `over` (90 s) is a multiple, not 60 s",
    ),
    "a resolution of a newest value": (
        lambda: dl.latest(Settled, "bad", by="shop", ttl=60, resolution=60),  # type: ignore[call-arg]
        "latest of Settled: resolution: it cannot be computed from totals of steps",
    ),
    "a resolution of different values": (
        lambda: dl.distinct(Settled, "bad", by="shop", over=60, resolution=60),  # type: ignore[call-arg]
        "distinct of Settled: resolution: it cannot",
    ),
    "a resolution of the time since": (
        lambda: dl.since(Settled, by="shop", over=60, resolution=60),  # type: ignore[call-arg]
        "newest of Settled: resolution: it cannot",
    ),
    "a note": (lambda: window(descripton="x"), "Did you mean 'description'?"),
    "a note's type": (lambda: window(monitor="yes"), "monitor: expected True or False, not 'yes'"),
    "outside": (lambda: window(outside="keeep"), "Did you mean 'keep'?"),
    "valid": (lambda: window(valid=(1, 2, 3)), "expected 2 values"),
    "a lag": (lambda: dl.lag(Settled, "bad", 1.5, by="shop", over=1), "a whole number"),
    "half_life": (lambda: dl.decayed(Settled, "bad", by="shop", half_life="6h"), "6 * HOUR"),
    "derive": (lambda: orders(features={"a": dl.derive("amount")}), "expected a function, not 'amount'"),
    "label on": (lambda: orders(task=task(on="ordr")), "Did you mean 'order'?"),
    "label value": (lambda: task(value="bad"), "write value=lambda event: event.bad"),
    "wait": (lambda: task(wait=-1), "wait: it must be above 0"),
    "wait as text": (lambda: task(wait="25 days"), "write 25 * DAY"),
    "void": (lambda: task(void=Settled), "write [Settled]"),
    "void by the request": (lambda: orders(task=task(void=[Asked])), "each request would void itself"),
    "void undeclared": (lambda: orders(task=task(void=[Other])), "add Other to them"),
    "at_expiry": (lambda: task(at_expiry="maybe"), "is not true or false"),
    "answers": (lambda: task(answers="olest"), "Did you mean 'oldest'?"),
    "ask": (lambda: task(ask=5), "ask: expected a class, not 5"),
    "decision": (lambda: dl.Decision(false_positive="1", false_negative=2), "expected a number, not '1'"),
    "coverage": (lambda: dl.Regression("n", ask=Asked, label=label(), coverage=90), "coverage"),
    "build": (lambda: member(build=logistic()), "Write a function that returns it"),
    "build as text": (lambda: member(build="logistic"), "expected a function, not 'logistic'"),
    "rate": (lambda: member(rate="all"), "rate: expected a number"),
    "class_weight": (lambda: member(class_weight=[1, 2]), "class_weight: expected a mapping"),
    "champion": (lambda: pool(champion=logistic), 'write Member("name", logistic)'),
    "challengers": (lambda: pool(challengers=dl.Member("b", logistic)), "challengers: expected a list"),
    "promotion": (lambda: pool(promotion=True), "expected a Promotion"),
    "margin": (lambda: dl.Promotion(margin="0"), "margin: expected a number, not '0'"),
    "monitoring": (lambda: dl.Monitoring(cooldown=1.5), "cooldown: expected a whole number"),
    "tolerance": (lambda: dl.Tolerance(pause=0), "pause: it must be at least 1"),
    "combination": (lambda: dl.Combination("both", kind="stak"), "Did you mean 'stack'?"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_refused_with_what_was_expected(what: str) -> None:
    declared, expected = WRONG[what]
    with pytest.raises(dl.DeclarationError) as caught:
        declared()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_right_one_is_taken() -> None:
    assert orders(slices=("shop",), source="json:loads").slices == ("shop",)


def test_durations_may_be_given_as_timedeltas_wherever_they_are_meant() -> None:
    hour, day = timedelta(hours=1), timedelta(days=1)
    case = orders(
        lateness=hour, max_jump=day, dedup_horizon=day, retention=timedelta(days=400),
        task=task(wait=day, corrections=hour),
        features={
            "a": dl.mean(Settled, "bad", by="shop", over=hour, ttl=day),
            "b": dl.latest(Settled, "bad", by="shop", ttl=day),
            "c": dl.decayed(Settled, "bad", by="shop", half_life=hour),
            "d": dl.since(Settled, by="shop", over=day),
            "e": dl.lookup(Product, "weight", by="order", ttl=hour),
        },
        events=[Asked, Settled, Product],
    )  # fmt: skip
    assert (case.lateness, case.max_jump, case.dedup_horizon) == (dl.HOUR, dl.DAY, dl.DAY)
    assert (case.task.label.wait, case.task.label.corrections) == (dl.DAY, dl.HOUR)
    said = orders(
        lateness=3600, max_jump=86400, dedup_horizon=86400, retention=400 * 86400.0,
        task=task(wait=86400, corrections=3600),
        features={
            "a": dl.mean(Settled, "bad", by="shop", over=3600, ttl=86400),
            "b": dl.latest(Settled, "bad", by="shop", ttl=86400),
            "c": dl.decayed(Settled, "bad", by="shop", half_life=3600),
            "d": dl.since(Settled, by="shop", over=86400),
            "e": dl.lookup(Product, "weight", by="order", ttl=3600),
        },
        events=[Asked, Settled, Product],
    )  # fmt: skip
    assert said.features == case.features
    assert dl.Anomaly("odd", ask=Asked, wait=hour).label.wait == dl.HOUR


def test_every_error_has_one_root() -> None:
    errors = [
        value for name in dl.__all__
        if isinstance(value := getattr(dl, name), type) and issubclass(value, Exception)
        and not issubclass(value, Warning)
    ]  # fmt: skip
    assert dl.Refused in errors
    assert all(issubclass(error, dl.DriftlineError) for error in errors)
    assert issubclass(dl.FeatureDeclarationError, dl.DeclarationError)
    assert issubclass(dl.ModelDeclarationError, dl.DeclarationError)
