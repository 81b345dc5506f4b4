"""What a case needs on several partitions: the stages, their keys, and the way of events through them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import shop
from typer.testing import CliRunner

from driftline import HOUR, Binary, Event, Label, Member, PerKey, Shared, UseCase, count, lookup
from driftline.examples.flights import flights
from driftline.examples.payments import payments
from driftline.infra.cli.entry import app
from driftline.streams.declare.plan import plan_of
from driftline.streams.errors import DeclarationError


class Ordered(Event, tag="ordered"):
    order: str
    courier: str
    kitchen: str
    town: str


class Delivered(Event, tag="delivered"):
    order: str


class Late(Event, tag="late"):
    order: str
    courier: str


def member() -> Member:
    return Member("logistic", shop.logistic)


def orders(event: type[Any] = Delivered, **changed: Any) -> UseCase:
    declared: dict[str, Any] = {
        "key": "courier",
        "events": [Ordered, event],
        "features": {"of_courier": count(Ordered, by="courier", over=HOUR)},
        "task": Binary("late", ask=Ordered, label=Label(event, on="order", value=lambda _: True, wait=HOUR)),
        "models": PerKey(member()),
    }
    return UseCase("meals", **declared | changed)


BY_KITCHEN = {
    "at_kitchen": count(Ordered, by="kitchen", over=HOUR),
    "with_courier": count(Ordered, by=("kitchen", "courier"), over=HOUR),
    "in_town": count(Ordered, by=("kitchen", "town"), over=HOUR),
}
CASES = {
    "all within the key": orders(Late),
    "labels that lack the key": orders(),
    "windows by another key": orders(Late, features=BY_KITCHEN),
    "one model for all": orders(Late, models=Shared(member())),
    "models by the town": orders(Late, models=PerKey(member(), by="town")),
    "models by the key": orders(Late, models=PerKey(member(), by="courier")),
    "payments": payments,
    "flights": flights,
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_partition_is_one_stage_whatever_the_case(case: UseCase) -> None:
    assert not plan_of(case, 1).is_chain


@pytest.mark.parametrize("name", ["labels that lack the key", "models by the town"])
def test_labels_that_do_not_know_their_models_are_refused_on_several_partitions(name: str) -> None:
    with pytest.raises(DeclarationError, match=r"cannot look it up.*partitions=1"):
        replace(CASES[name], partitions=4)


def keys(case: UseCase, partitions: int = 4) -> list[tuple[str, str | None, int]]:
    return [(stage.topic, stage.key, stage.partitions) for stage in plan_of(case, partitions).stages]


def test_a_case_within_its_key_has_one_stage() -> None:
    assert keys(CASES["all within the key"]) == [("events", "courier", 4)]
    assert keys(flights, flights.partitions) == [("events", "origin", 3)]
    assert plan_of(flights) == plan_of(flights, 3)


def test_stages_of_one_key_are_one_and_each_window_is_in_one_of_them() -> None:
    plan = plan_of(CASES["windows by another key"], 4)
    assert [stage.key for stage in plan.stages] == ["courier", "kitchen", "courier"]
    assert "windows by courier: with_courier" in plan.stages[0].computes
    assert plan.stages[1].computes == ("windows by kitchen: at_kitchen, in_town",)
    assert plan.request_hops == 3


def test_labels_that_do_not_know_their_pool_are_shown_the_way_by_what_they_are_about() -> None:
    plan = plan_of(CASES["labels that lack the key"], 4)
    assert keys(CASES["labels that lack the key"]) == [
        ("events", "courier", 4), ("by-order", "order", 4), ("questions", "courier", 4)
    ]  # fmt: skip
    assert plan.entries == {"ordered": "courier", "delivered": "order"}
    assert (plan.request_hops, plan.label_hops) == (3, 3)


def test_one_model_for_all_has_one_partition_where_every_label_finds_its_request() -> None:
    assert keys(payments, 8) == [
        ("events", "card", 8), ("by-merchant", "merchant", 8), ("by-device", "device", 8),
        ("questions", None, 1),
    ]  # fmt: skip
    plan = plan_of(payments, 8)
    assert plan.entries == {
        "payment": "card", "disputed": "payment", "refunded": "payment", "reported": "merchant"
    }  # fmt: skip
    assert (plan.request_hops, plan.label_hops) == (4, 2)


def test_references_go_to_every_partition() -> None:
    case = replace(
        shop.orders,
        events=[*shop.orders.events, shop.Product],
        features={**shop.orders.features, "weighs": lookup(shop.Product, "weight", by="product")},
    )
    plan = plan_of(case, 2)
    assert plan.entries["product"] is None
    assert any("references: " in what and "weighs" in what for what in plan.stages[0].computes)


def test_the_command_measures_what_state_takes() -> None:
    asked = ["plan", "driftline.examples.payments:payments", "--measure", "1500"]
    sizes = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["sizes"]
    assert sizes["predictions that wait"]["count"] > 500
    assert sizes["ids of events that would be repeats"]["count"] > 500
    there = {name: size for name, size in sizes.items() if size["count"]}
    assert all(size["bytes_each"] > size["disk_bytes_each"] > 20 for size in there.values())
    assert " on disk: predictions that wait (" in CliRunner().invoke(app, asked).stdout


@pytest.mark.parametrize(("partitions", "stages"), [("1", 1), ("8", 4)])
def test_the_command_says_the_stages_and_their_topics(partitions: str, stages: int) -> None:
    asked = ["plan", "driftline.examples.payments:payments", "--partitions", partitions]
    found = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert len(found["stages"]) == stages
    text = CliRunner().invoke(app, asked).stdout
    for stage in found["stages"]:
        assert stage["topic"] in text
