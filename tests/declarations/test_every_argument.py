"""Every argument of every public constructor is looked at when it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from math import nan
from typing import Any

import pytest
import till
from declared import Asked, Product, Settled, label, logistic, orders

import driftline as dl

WINDOW: dict[str, Any] = {"event": Settled, "value": "bad", "by": "shop"}
TASK: dict[str, Any] = {"name": "bad", "ask": Asked, "label": label()}
POOL = {"champion": dl.Member("logistic", logistic)}
RIGHT: dict[str, dict[str, Any]] = {
    "Anomaly": TASK, "Binary": TASK, "Multiclass": TASK, "Regression": TASK,
    "Background": {"model": logistic()}, "Boosted": {"model": logistic()},
    "Recurring": {"model": logistic()}, "Reset": {"model": logistic()},
    "Bridge": {"name": "till", "case": till.till.case, "topic": "pos", "map": till.till.map},
    "Combination": {"name": "both"},
    "Decision": {"false_positive": 1, "false_negative": 2},
    "Enrichment": {
        "case": till.enrichment.case, "view": till.enrichment.view, "key": till.enrichment.key,
        "fields": till.enrichment.fields,
    },
    "Label": {"event": Settled, "on": "order", "value": lambda event: event.bad > 0.5, "wait": 1},
    "Member": {"name": "logistic", "build": logistic},
    "Monitoring": {}, "Promotion": {}, "Tolerance": {},
    "PerKey": POOL, "Shared": POOL,
    "count": {"event": Settled, "by": "shop", "over": 1},
    "decayed": WINDOW | {"half_life": 1}, "derive": {"function": len},
    "difference": {"minuend": "a", "subtrahend": "b"},
    "distinct": WINDOW | {"over": 1}, "field": {"name": "amount"}, "first": WINDOW | {"over": 1},
    "lag": WINDOW | {"n": 1, "over": 1}, "last": WINDOW | {"ttl": 1}, "latest": WINDOW | {"ttl": 1},
    "lookup": {"event": Product, "field": "weight", "by": "order"},
    "max": WINDOW | {"over": 1}, "mean": WINDOW | {"over": 1}, "min": WINDOW | {"over": 1},
    "on_demand": {"function": len, "of": "a"}, "rate": {"event": Settled, "by": "shop", "over": 1},
    "ratio": {"numerator": "a", "denominator": "b"}, "since": {"event": Settled, "by": "shop", "over": 1},
    "std": WINDOW | {"over": 1}, "sum": WINDOW | {"over": 1},
    "UseCase": {},
}  # fmt: skip
ELSEWHERE = {
    "DAY", "HOUR", "MINUTE", "SECOND", "WEEK",
    "Clock", "Command", "Event", "Reference", "ForeignRecord", "FeatureRow", "FeatureValue", "Schema",
    "new_command", "load_case", "EventProducer", "PredictionConsumer", "FeatureClient", "LabelWarning",
}  # fmt: skip
"""Public names that are no declarations: constants, records that are checked as they are read, and those of
`test_client_arguments`."""
BY_ITS_TASK = {("Label", "at_expiry")}
"""What only the task can judge, which does (`test_wrong_declarations`)."""


def make(name: str) -> Callable[..., Any]:
    return orders if name == "UseCase" else getattr(dl, name)


def arguments() -> Iterator[tuple[str, str]]:
    for name in RIGHT:
        for argument, parameter in signature(getattr(dl, name)).parameters.items():
            named = parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
            if named and (name, argument) not in BY_ITS_TASK:
                yield name, argument


def test_every_public_declaration_is_tried() -> None:
    errors = {name for name in dl.__all__ if name.endswith(("Error",)) or is_error(name)}
    assert set(dl.__all__) - errors - ELSEWHERE == set(RIGHT)


def is_error(name: str) -> bool:
    value = getattr(dl, name)
    return isinstance(value, type) and issubclass(value, dl.DriftlineError)


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_tried_is_right_but_for_one_argument(name: str) -> None:
    make(name)(**RIGHT[name])


@pytest.mark.parametrize(("name", "argument"), list(arguments()))
def test_an_argument_of_another_kind_is_refused(name: str, argument: str) -> None:
    for wrong in (object(), nan, -2, [object()], lambda: None):
        if wrong.__class__ is not object and callable(wrong) and takes_a_function(name, argument):
            continue
        with pytest.raises(dl.DeclarationError) as caught:
            make(name)(**RIGHT[name] | {argument: wrong})
        assert " at 0x" not in str(caught.value)


def takes_a_function(name: str, argument: str) -> bool:
    return argument in ("build", "function", "map", "value")
