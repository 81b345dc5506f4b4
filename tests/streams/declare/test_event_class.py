"""A class of which no record could be read, or whose default no producer could send, is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from numbers import Number
from typing import Any

import numpy as np
import pytest

from driftline import DAY, Binary, Event, Label, PerKey, UseCase, count, mean
from driftline.errors import DeclarationError
from driftline.online_models.members.member import Member


class Called(Event, tag="called"):
    lift: str
    ticket: str
    waited: timedelta


class Repaired(Event, tag="repaired"):
    lift: str
    ticket: str
    is_broken: bool


def _logistic() -> Any:
    from river import linear_model

    return linear_model.LogisticRegression()


def _is_broken(event: Repaired) -> bool:
    return event.is_broken


LIFTS = UseCase(
    "lifts",
    key="lift",
    events=[Called, Repaired],
    features={"calls": count(Called, by="lift", over=DAY)},
    task=Binary("broken", ask=Called, label=Label(Repaired, on="ticket", value=_is_broken, wait=DAY)),
    models=PerKey(champion=Member("logistic", _logistic)),
)


def declared(**fields: Any) -> Callable[[], UseCase]:
    """The case with one more event class, of these fields: a type, or a type and a default."""
    types = {name: given[0] if isinstance(given, tuple) else given for name, given in fields.items()}
    defaults = {name: given[1] for name, given in fields.items() if isinstance(given, tuple)}

    def made() -> UseCase:
        body = {"__annotations__": {"lift": str, **types}, "__module__": __name__, **defaults}
        return replace(LIFTS, events=[*LIFTS.events, type(Event)("Ridden", (Event,), body, tag="ridden")])

    return made


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"at": float}, r"lifts: Ridden\.at: every event has this field: leave it out"),
        ({"at": datetime}, r"Ridden\.at: every event has this field"),
        ({"id": int}, r"Ridden\.id: every event has this field"),
        (
            {"load": np.float64},
            r"Ridden\.load has the class float64, .* cannot be read from JSON: declare float",
        ),
        ({"loads": dict[str, list[complex]]}, r"Ridden\.loads has the class complex"),
        ({"load": list[int] | tuple[int, ...]}, r"Ridden\.load: .*more than one array-like"),
        ({"load": "Load"}, r"Ridden: name 'Load' is not defined"),
        ({"load": (float, None)}, r"Ridden\.load: its default is None: .*: write load: \.\.\. \| None"),
        ({"load": (float, "none")}, r"Ridden\.load: its default is 'none': Expected `float`"),
        ({"load": (float, float("nan"))}, r"Ridden\.load: its default is nan"),
        ({"type": str}, r"Ridden: .*'type' conflicts with an existing field"),
        ({"floor": (int, 0), "load": float}, r"Ridden: Required field 'load' cannot follow optional fields"),
    ],
)
def test_a_field_that_no_record_can_hold_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(DeclarationError, match=reason):
        declared(**fields)()


def test_what_json_holds_is_accepted_with_defaults_of_its_type() -> None:
    case = declared(
        load=(float, 0),
        empty=(float | None, None),
        parts=(list[str], []),
        anything=(object, None),
        number=(Number, 1),
        closed=(timedelta, timedelta(0)),
        inner=(dict[str, Any], {}),
    )()
    assert case.events[-1].__name__ == "Ridden"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"retird": ("load",)}, r"class Ridden\(Event, ...\) takes no 'retird'. Did you mean 'retired'\?"),
        ({"rename": "camel"}, r"takes no 'rename': it takes tag, "),
        ({"frozen": False}, r"takes no 'frozen'"),
        ({"tag": 7}, r"Ridden: tag: expected a text, not 7"),
    ],
)
def test_options_that_change_the_form_of_an_event_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DeclarationError, match=reason):
        type(Event)("Ridden", (Event,), {"__annotations__": {"lift": str}}, **options)


def test_fields_without_a_default_may_follow_others_by_name() -> None:
    body = {"__annotations__": {"floor": int, "load": float}, "floor": 0}
    ridden: Any = type(Event)("Ridden", (Event,), body, kw_only=True)
    assert ridden.__struct_fields__[-2:] == ("floor", "load")


def test_a_window_over_a_duration_says_how_to_take_its_seconds() -> None:
    reason = r"Called\.waited is no int, .*: write value=lambda event: event\.waited\.total_seconds\(\)"
    with pytest.raises(DeclarationError, match=reason):
        replace(LIFTS, features={"waited": mean(Called, "waited", by="lift", over=DAY)})
