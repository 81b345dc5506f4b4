"""Labels of one class that come later than before are reported as that, whenever labels are learned."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from shop import START, Asked, Settled, logistic

from driftline import HOUR, Binary, Label, Member, PerKey, UseCase, field
from driftline.online_models.tasks.task import UNLABELLED
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.simulate import simulate
from tests.streams.fold.behind import BEHIND


@pytest.mark.parametrize("at_expiry", [UNLABELLED, False])
def test_a_class_that_falls_behind_is_a_label_delay_and_nothing_else(at_expiry: Any) -> None:
    label = Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=18 * HOUR, at_expiry=at_expiry)
    case = UseCase(
        "orders",
        key="shop",
        events=[Asked, Settled],
        features={"amount": field("amount")},
        task=Binary("bad", ask=Asked, label=label),
        models=PerKey(Member("logistic", logistic)),
        source="tests.streams.fold.behind:events",
    )
    drifts: list[dict[str, Any]] = []

    def take(_: int, out: Outputs) -> None:
        drifts.extend(json.loads(output.value) for output in out.drift)

    simulate(case, on_outputs=take)
    confirmed = [event for event in drifts if event["severity"] == "drift"]
    assert confirmed
    assert {event["kind"] for event in confirmed} == {"label delay"}
    behind = (START + timedelta(minutes=BEHIND)).isoformat()[:16]
    assert all(event["at"] > behind for event in confirmed)
    assert any(s["subject"] == "delay of True: mean" for event in drifts for s in event["suspects"])
