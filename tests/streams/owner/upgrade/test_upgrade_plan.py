"""An upgrade says what it would do before it does it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from fields import orders_asked_by
from shop import START, Constant, logistic

from driftline import Event, Member, PerKey, UseCase
from driftline.streams.archive.epochs import Code
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.code.fingerprint import Fingerprint
from driftline.streams.declare.topics import Topics
from driftline.streams.errors import Refused
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.takeover import take_over
from driftline.streams.owner.upgrade.standby import Standby
from driftline.streams.owner.upgrade.upgrade_plan import REASONS, Planner, UpgradePlan
from driftline.streams.records.outputs import KINDS
from driftline.streams.records.ports import Place
from tests.streams.owner.memory import MemoryBroker, MemoryCheckpoints

FINGERPRINT = Fingerprint("3.11", "b" * 64, "c" * 64)
REQUESTS = 60


class WithColour(Event, tag="asked"):
    order: str
    shop: str
    amount: float
    colour: str


class WithoutColour(Event, tag="asked"):
    order: str
    shop: str
    amount: float


class Retired(Event, tag="asked", retired=("colour",)):
    order: str
    shop: str
    amount: float


def champion(build: Any) -> PerKey:
    """A model alone, which stops to learn."""
    return PerKey(champion=Member("champion", build), frozen_after=20)


LOGISTIC = champion(logistic)
COLOURED, PLAIN, RETIRED = (orders_asked_by(kind, LOGISTIC) for kind in (WithColour, WithoutColour, Retired))


def log() -> list[bytes]:
    """Requests and their labels; three records that no code accepts."""
    lines: list[dict[str, Any]] = []
    for n in range(REQUESTS):
        at = START + timedelta(minutes=n)
        order = {"at": at.isoformat(), "order": f"o{n}", "shop": "s"}
        lines.append({"type": "asked", "id": f"a{n}", "amount": 1.0 + n % 7, "colour": "red"} | order)
        lines.append({"type": "settled", "id": f"s{n}", "bad": float(n % 7 > 3)} | order)
        if n % 20 == 5:
            lines.append({"type": "asked", "id": f"broken{n}"})
    return [json.dumps(line).encode() for line in lines]


def planned(new: UseCase, lines: Sequence[bytes], *, forget_letters: bool = False) -> UpgradePlan:
    """What `new` says of a log that `COLOURED` has answered."""
    topics, broker, checkpoints = Topics("orders", 1), MemoryBroker(), MemoryCheckpoints()

    def deployed(case: UseCase, name: str) -> Deployment:
        code = Code(name, FINGERPRINT)
        return Deployment(case, code, topics, broker, checkpoints, Seal(b"k" * KEY_BYTES), None)

    async def go() -> UpgradePlan:
        for place in (Place(topics.log, 0), *(Place(getattr(topics, kind), 0) for kind in KINDS)):
            broker.at(place)
        for line in lines:
            broker.add(Place(topics.log, 0), b"s", line)
        owned = await take_over(deployed(COLOURED, "old"), 0)
        async for _ in owned.recover():
            pass
        if forget_letters:
            broker.begins[Place(topics.dead_letters, 0)] = 2  # after the fence, and the first one
        standby = Standby(deployed(new, "new"), 0, rows=False)
        await standby.approach()
        handed_over = Standby.restored(deployed(new, "new"), 0, standby.snapshot(), rows=False)
        plan = await handed_over.plan()
        assert await handed_over.plan() == plan, "a plan changes nothing"
        return plan

    return asyncio.run(go())


def test_a_deleted_field_is_seen_before_anything_is_lost() -> None:
    plan = planned(PLAIN, log())
    assert plan.newly_refused == REQUESTS
    (reason,) = plan.refused.values()
    assert (reason.stage, reason.first) == ("decode", 0)
    assert "unknown field `colour`" in reason.reason
    assert plan.refused_before == 3
    assert "refuses 60 that the code which serves accepted (3 are refused by both)" in str(plan)


def test_a_retired_field_loses_nothing_and_changes_no_prediction() -> None:
    plan = planned(RETIRED, log())
    assert (plan.newly_refused, plan.refused_before, plan.records) == (0, 3, len(log()))
    assert (plan.answers, plan.other_answers) == (REQUESTS, 0)


def test_what_was_reported_but_accepted_before_counts_as_lost_when_it_is_refused_now() -> None:
    lines = log()
    for n, place in enumerate((40, 60, 80)):  # one clock is a day ahead: contradicted, then confirmed twice
        at = (START + timedelta(days=1, minutes=n)).isoformat()
        event = {"type": "asked", "id": f"fast{n}", "at": at, "order": f"fast{n}", "shop": "s", "amount": 1.0}
        lines.insert(place, json.dumps(event | {"colour": "red"}).encode())
    deleted, kept = planned(PLAIN, lines), planned(RETIRED, lines)
    assert (deleted.newly_refused, deleted.refused_before) == (REQUESTS + 3, 3)
    assert (kept.newly_refused, kept.refused_before) == (0, 3)


def test_predictions_that_would_be_others_are_counted() -> None:
    plan = planned(orders_asked_by(Retired, champion(Constant)), log())
    assert plan.newly_refused == 0
    assert plan.answers == plan.other_answers == REQUESTS
    assert 0 < plan.other_points < REQUESTS


@pytest.mark.parametrize("held_back", [0, 40])
def test_the_plan_is_the_same_wherever_the_published_settles(
    held_back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = planned(PLAIN, log())
    monkeypatch.setattr("driftline.streams.fold.inheritance.HELD_BACK", held_back)
    assert planned(PLAIN, log()) == expected


def test_what_was_refused_before_its_dead_letter_was_deleted_is_not_held_against_the_new_code() -> None:
    plan = planned(RETIRED, log(), forget_letters=True)
    assert (plan.newly_refused, plan.refused_before, plan.unknown) == (0, 2, 1)
    assert "of 1 it is not known any more" in str(plan)


def test_what_a_warm_up_had_accepted_cannot_be_unreadable_now() -> None:
    planner = Planner(0)
    planner.refused(3, Refused("decode", "unknown field"), published=False)
    planner.refused(4, Refused("late", "before the watermark"), published=False)
    planner.refused(5, Refused("range", "reported, and accepted"), published=True)
    assert (planner.plan.newly_refused, planner.plan.unknown) == (1, 1)


def test_reasons_are_counted_by_what_is_alike_and_are_few() -> None:
    plan, other = UpgradePlan(), UpgradePlan()
    for n in range(100):
        plan.refuse(0, n, Refused("late", f"at 2024-01-{n}T00:00:00Z is before the watermark"))
    assert [(r.records, r.first) for r in plan.refused.values()] == [(100, 0)]
    for n in range(2 * REASONS):
        other.refuse(1, n, Refused("label", "no rule " + "x" * n))
    plan.add(other)
    assert plan.newly_refused == 100 + 2 * REASONS
    assert len(plan.refused) == REASONS + 1
