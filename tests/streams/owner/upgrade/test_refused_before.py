"""A request that other code has refused, and the code that took over from it would answer, is answered when
it is sent again, under the same id too; until then it changes nothing, as any refused record."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import shop
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline import HOUR, Binary, Clock, Event, Label, count, derive
from driftline.streams.archive.epochs import CodeEpoch, stretches_asked
from driftline.streams.fold import inheritance
from driftline.streams.owner.upgrade.standby import Standby
from driftline.streams.records.outputs import KINDS
from driftline.streams.records.ports import AppendFailed
from tests.streams.owner.upgrade.upgrades import (
    OLD,
    STEP,
    Entry,
    Shop,
    Upgrade,
    code_of,
    constant,
    cuts,
    label,
    old_serves,
    places_of,
    run,
    small,
    upgraded,
)


def refuses_large(event: Any) -> float:
    return 1 / 0 if event.amount > 100 else 1.0


WINDOWS = OLD.features | {"asked_1h": count(shop.Asked, by="shop", over=HOUR)}
STRICT = small(label(), features=WINDOWS | {"strict": derive(refuses_large)}, lateness=HOUR)
LENIENT = small(label(), features=WINDOWS, models=constant, lateness=HOUR)


@pytest.fixture(scope="module", autouse=True)
def _short_logs() -> Iterator[None]:
    """Logs of a few dozen records have a settled part too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inheritance, "HELD_BACK", 2 * STEP)
        yield


def entry(event: Event) -> Entry:
    codec = LENIENT.codec()
    return codec.key(event), codec.encode(event)


def large(n: int, minute: float) -> Event:
    """A request that strict code refuses."""
    return shop.asked(n, minute, amount=1_000.0)


def log_with(refused: Entry, following: int, again: list[Entry]) -> list[Entry]:
    """Twelve requests, one that is refused, so many records after it, and what comes later still."""
    before = [entry(shop.asked(100 + n, n)) for n in range(12)]
    after = [entry(shop.asked(200 + n, 13.0 + n / 10)) for n in range(following)]
    labels = [entry(shop.settled(100 + n, 20.0)) for n in range(12)]
    late = [entry(shop.asked(300 + n, 31.0 + n)) for n in range(3)]
    end = entry(Clock(id="end", at=shop.START + timedelta(hours=9)))
    return [*before, refused, *after, *labels, *again, *late, end]


def answers(world: Shop) -> dict[str, int]:
    """How often each request was answered."""
    return dict(Counter(prediction["event_id"] for prediction in world.json("predictions")))


@pytest.mark.parametrize("minute", [12.5, 30.0], ids=["the same", "at another time"])
@pytest.mark.parametrize("following", [0, 3, 8, 14])
def test_a_request_that_was_refused_is_answered_when_it_is_sent_again(following: int, minute: float) -> None:
    log = log_with(entry(large(1, 12.5)), following, [entry(large(1, minute))])
    world = run(upgraded(Upgrade(log, 13 + following, {}), STRICT, LENIENT))
    requests = {json.loads(value)["id"] for _, value in log if b'"asked"' in value}
    assert answers(world) == dict.fromkeys(requests, 1)


def test_a_request_that_stays_refused_changes_nothing() -> None:
    """The same as if something that no code can read had been in its place."""

    def published(at_its_place: Entry) -> dict[str, list[Any]]:
        log = log_with(at_its_place, 14, [])
        world = run(upgraded(Upgrade(log, 27, {}), STRICT, LENIENT))
        return {kind: world.published()[kind] for kind in KINDS if kind not in ("models", "dead_letters")}

    with_garbage = published((b"s", b"no json"))
    assert published(entry(large(1, 12.5))) == with_garbage
    late = [json.loads(value) for _, _, value, _ in with_garbage["predictions"]][-3:]
    assert [one["features"]["asked_1h"] for one in late] == [26, 27, 28]


@given(following=st.integers(0, 16), cut=cuts, looked=st.integers(0, 30))
@settings(max_examples=20)
def test_every_request_has_an_answer_or_a_dead_letter_wherever_the_old_code_stopped(
    following: int, cut: dict[str, int], looked: int
) -> None:
    log = log_with(entry(large(1, 12.5)), following, [])
    world = run(upgraded(Upgrade(log, 13 + following, cut, looked), STRICT, LENIENT))
    told = {offset for kind in ("predictions", "dead_letters") for offset, _ in places_of(world, kind)}
    assert told == {offset for offset, (_, value) in enumerate(log) if b'"asked"' in value}


@given(
    following=st.integers(0, 16), cut=cuts, looked=st.integers(0, 30), appends=st.integers(1, 6), more=cuts
)
@settings(max_examples=20)
def test_a_crash_after_the_take_over_changes_no_byte(
    following: int, cut: dict[str, int], looked: int, appends: int, more: dict[str, int]
) -> None:
    log = log_with(entry(large(1, 12.5)), following, [entry(large(1, 30.0))])
    plan = Upgrade(log, 13 + following, cut, looked)

    async def disturbed() -> Shop:
        world = Shop(log)
        standby: Standby | None = await old_serves(world, STRICT, plan, LENIENT)
        world.broker.appends_left, world.broker.cuts = appends, more
        try:
            await world.serve(await world.own(LENIENT, standby), world.left)
        except AppendFailed:
            world.broker.appends_left = None
            await world.serve(await world.own(LENIENT), world.left)
        return world

    assert run(disturbed()).published() == run(upgraded(plan, STRICT, LENIENT)).published()


def test_the_plan_counts_what_stays_refused() -> None:
    async def planned() -> Any:
        world = Shop(log_with(entry(large(1, 12.5)), 14, []))
        await world.serve(await world.own(STRICT), 27)
        return await (await world.stand_by(LENIENT)).plan()

    plan = run(planned())
    assert (plan.kept_refused, plan.newly_refused, plan.refused_before) == (1, 0, 0)
    assert "1 requests of the past that the code which serves did not answer" in str(plan)


def test_what_the_old_code_took_for_a_fact_is_no_refused_request() -> None:
    """The new code answers other events: those of before are in its windows."""
    asks_otherwise = replace(
        LENIENT,
        features={"settled_9h": count(shop.Settled, by="shop", over=9 * HOUR)},
        task=Binary("bad", ask=shop.Settled, label=Label(shop.Asked, on="order", value=bool, wait=HOUR)),
    )
    log = [entry(shop.settled(n, n)) for n in range(12)] + [entry(shop.asked(n, 12.0 + n)) for n in range(9)]
    log += [entry(shop.settled(100 + n, 30.0 + n)) for n in range(3)]

    async def served() -> Shop:
        world = Shop(log)
        standby = await old_serves(world, LENIENT, Upgrade(log, 21, {}), asks_otherwise)
        await world.serve(await world.own(asks_otherwise, standby), world.left)
        return world

    late = run(served()).json("predictions")[-3:]
    assert [one["features"]["settled_9h"] for one in late] == [12, 13, 14]


def test_the_stretches_of_code_that_answered_the_same_events() -> None:
    code = code_of(LENIENT)
    old, new = (CodeEpoch(0, begin, code, {}, asks=asks) for begin, asks in ((0, "asked"), (50, "settled")))
    unknown = CodeEpoch(0, 80, code, {})
    assert stretches_asked([], "settled") == stretches_asked([old], "settled") == ()
    assert stretches_asked([old, new, unknown], "settled") == (range(50, 80), range(80, sys.maxsize))
