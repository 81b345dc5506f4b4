"""New code takes over from other code, wherever that stopped: nothing repeated, nothing rewritten, every
prediction with its outcome."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import shop
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline import HOUR, Regression, UseCase, mean
from driftline.streams.archive.epochs import decode_epoch, is_epoch
from driftline.streams.errors import OtherTask
from driftline.streams.fold import inheritance, intake
from driftline.streams.owner.starting_point import TakeOverRefused
from driftline.streams.owner.takeover import OtherCode, refuse_other_code, take_over
from driftline.streams.owner.upgrade.standby import NothingToInheritFrom, Standby, to_upgrade
from driftline.streams.records.outputs import KINDS
from driftline.streams.records.ports import AppendFailed, Fenced, Place
from tests.streams.owner.memory import Rows
from tests.streams.owner.upgrade.upgrades import (
    BUSY,
    NEW,
    OLD,
    PICKY,
    STEP,
    Entry,
    Shop,
    Upgrade,
    alone,
    check,
    cuts,
    label,
    log_of,
    logs,
    old_serves,
    places_of,
    run,
    small,
    upgraded,
)


@pytest.fixture(scope="module", autouse=True)
def _short_logs() -> Iterator[None]:
    """Logs of a few dozen records have a settled part too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inheritance, "HELD_BACK", 2 * STEP)
        yield


@pytest.mark.parametrize("change", NEW)
@given(log=logs, before=st.integers(0, 45), looked=st.integers(0, 45), cut=cuts)
@settings(max_examples=10)
def test_wherever_the_old_code_stopped_all_is_answered_and_reported_once(
    change: str, log: list[Entry], before: int, looked: int, cut: dict[str, int]
) -> None:
    new = NEW[change]
    plan = Upgrade(log, before, cut, looked)
    world = run(upgraded(plan, OLD, new))
    by_old, by_new = run(alone(OLD, log)), run(alone(new, log))
    for kind in ("predictions", "dead_letters"):
        # what both codes put out is there, and nothing that neither would
        assert places_of(world, kind) >= places_of(by_old, kind) & places_of(by_new, kind)
        assert places_of(world, kind) <= places_of(by_old, kind) | places_of(by_new, kind)


@pytest.mark.parametrize("new", [OLD, NEW["shorter wait"]], ids=["refused nothing", "shorter wait"])
@given(log=logs, before=st.integers(0, 45), cut=cuts)
@settings(max_examples=10)
def test_what_the_old_code_refused_is_reported_by_nobody(
    new: UseCase, log: list[Entry], before: int, cut: dict[str, int]
) -> None:
    run(upgraded(Upgrade(log, before, cut), PICKY, new))


@pytest.mark.parametrize("change", NEW)
@given(log=logs, before=st.integers(4, 45), looked=st.integers(0, 45), cut=cuts, data=st.data())
@settings(max_examples=6)
def test_a_crash_after_the_take_over_changes_no_byte(
    change: str, log: list[Entry], before: int, looked: int, cut: dict[str, int], data: st.DataObject
) -> None:
    new = NEW[change]
    plan = Upgrade(log, before, cut, looked)
    undisturbed = run(upgraded(plan, OLD, new))

    async def disturbed() -> Shop:
        world = Shop(log)
        standby: Standby | None = await old_serves(world, OLD, plan, new)
        published = world.published()
        for _ in range(2):
            # the first append is the code epoch: after it, the log alone is left to recover from
            world.broker.appends_left = data.draw(st.integers(1 if standby else 0, 6), "appends")
            world.broker.cuts = data.draw(cuts, "cut")
            try:
                owned = await world.own(new, standby)
                standby = None
                await world.serve(owned, world.left, data.draw(st.integers(1, 9), "step"))
            except AppendFailed:
                standby = None
        world.broker.appends_left = None
        owned = await world.own(new)
        await world.serve(owned, world.left)
        check(world, published)
        return world

    assert run(disturbed()).published() == undisturbed.published()


@given(log=logs, before=st.integers(0, 45), cut=cuts, looked=st.integers(0, 45), step=st.integers(1, 9))
@settings(max_examples=8)
def test_when_the_new_code_looked_and_how_it_steps_changes_no_byte(
    log: list[Entry], before: int, cut: dict[str, int], looked: int, step: int
) -> None:
    new = NEW["shorter wait"]
    plan = Upgrade(log, before, cut)
    one = run(upgraded(plan, OLD, new))
    other = run(upgraded(plan._replace(looked=looked), OLD, new, step))
    assert one.published() == other.published()


def test_an_outcome_published_while_the_new_code_still_waits_is_corrected_by_it() -> None:
    minutes = 90.0
    log = log_of([(0, 1, 0.0), (9, 0, minutes), *[(9, 0, 0.1)] * 20, (4, 1, 1.0)])
    world = run(upgraded(Upgrade(log, 12, {}), OLD, NEW["longer wait"]))
    first, second = world.json("outcomes")
    assert (first["status"], first.get("revision", 0)) == ("unlabelled", 0)
    assert (second["status"], second["revision"], second["corrects"]) == ("labelled", 1, 0)


def test_what_the_new_code_has_forgotten_already_gets_its_outcome() -> None:
    log = log_of([(0, 1, 0.0), *[(9, 0, 1.0)] * 30])
    world = run(upgraded(Upgrade(log, 30, {}), OLD, NEW["no corrections"]))
    (outcome,) = world.json("outcomes")
    assert outcome["status"] == "unlabelled"


def test_a_request_that_the_new_code_refuses_keeps_its_answer_and_gets_its_outcome() -> None:
    log = log_of([(0, 1, 0.0), *[(9, 0, 1.0)] * 20, (4, 1, 1.0)])
    world = run(upgraded(Upgrade(log, 20, {}), OLD, NEW["refuses some"]))
    assert len(world.json("predictions")) == 1
    (outcome,) = world.json("outcomes")
    assert outcome["status"] == "labelled"


def test_idle_after_an_upgrade_the_partition_is_checkpointed_and_can_be_held() -> None:
    async def idle() -> None:
        world = Shop(BUSY)
        standby = await old_serves(
            world, OLD, Upgrade(BUSY, 40, dict.fromkeys(KINDS, 9)), NEW["other models"]
        )
        owned = await world.own(NEW["other models"], standby)
        assert owned.is_whole
        await world.checkpoint(owned)
        again = await world.own(NEW["other models"])
        assert again.progress.begin == len(world.broker.at(world.log))

    run(idle())


def test_a_state_that_has_not_inherited_all_is_not_kept() -> None:
    async def halfway() -> None:
        world = Shop(BUSY)
        new = NEW["other models"]
        standby = await old_serves(world, OLD, Upgrade(BUSY, 40, dict.fromkeys(KINDS, 9)), new)
        owned = await take_over(world.deployed(new), 0, standby=standby)
        async for _ in owned.recover():
            assert not owned.is_whole
            assert owned.snapshot() is None
            return
        pytest.fail("nothing was folded")

    run(halfway())


async def rows_after(new: UseCase, plan: Upgrade, *, by_upgrade: bool) -> dict[Any, Any]:
    """The online rows after the whole log: by an upgrade, or by code that served all of it."""
    world, rows = Shop(plan.log), Rows()
    if not by_upgrade:
        owned = await world.own(new, rows=rows)
    else:
        standby = Standby(world.deployed(new, rows), 0, rows=True)
        old = await world.own(OLD)
        await world.serve(old, plan.before)
        await standby.approach()
        assert standby.processor.next_offset
        standby = world.handed_over(standby, new, rows)
        owned = await take_over(world.deployed(new, rows), 0, standby=standby)
        async for _ in owned.recover():
            pass
    await world.serve(owned, world.left)
    return rows.newest


def test_online_rows_of_keys_that_come_no_more_are_the_new_codes() -> None:
    plan = Upgrade(log_of([(0, n, 1.0) for n in range(40)]), 40, {})
    new = NEW["another rule"]
    assert run(rows_after(new, plan, by_upgrade=True)) == run(rows_after(new, plan, by_upgrade=False))


def test_online_rows_are_as_of_their_own_time_after_an_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order 0 is settled once; what its short window held has been let go of when the code changes."""
    monkeypatch.setattr(intake, "RETAIN_EVERY", STEP)
    by_order = {
        f"bad_{name}": mean(shop.Settled, "bad", by="order", over=over)
        for name, over in {"1h": HOUR, "1d": 24 * HOUR}.items()
    }
    new = small(label(), features={**OLD.features, **by_order})
    plan = Upgrade(log_of([(4, 0, 1.0), *((n % 4, n + 1, 10.0) for n in range(59))]), 40, {})
    rows = run(rows_after(new, plan, by_upgrade=True))
    assert {frozenset(values) for (_, key), (_, values) in rows.items() if key == ("o0",)} == {
        frozenset(by_order)
    }
    assert rows == run(rows_after(new, plan, by_upgrade=False))


def test_what_waited_behind_a_batch_that_failed_is_answered_by_the_new_code() -> None:
    """Of the failed batch the outcomes have arrived, far ahead of the predictions."""
    events = list(shop.trade(120))
    codec = OLD.codec()

    async def answered() -> tuple[int, int]:
        world = Shop([(codec.key(event), codec.encode(event)) for event in events])
        old = await world.own(OLD)
        await world.serve(old, 20)
        world.broker.appends_left, world.broker.cuts = 0, {"outcomes": 10**6}
        for _ in range(10):
            fresh = world.produce(STEP)
            await old.advance(fresh, fresh[0].offset)
        with pytest.raises(AppendFailed):
            await old.settled()
        await old.close()
        world.broker.appends_left = world.broker.cuts = None
        new = NEW["another rule"]
        await world.own(new, await world.stand_by(new))
        log = events[: len(world.broker.at(world.log))]
        ids = [prediction["id"] for prediction in world.json("predictions")]
        assert len(set(ids)) == len(ids)
        return sum(isinstance(event, shop.Asked) for event in log), len(ids)

    requests, predictions = run(answered())
    assert predictions == requests > 25


def test_old_code_that_comes_back_is_reported_and_touches_nothing() -> None:
    async def comes_back() -> None:
        world = Shop(BUSY)
        new = NEW["other models"]
        old = await world.own(OLD)
        await world.serve(old, 30)
        await world.own(new, await world.stand_by(new))
        with pytest.raises(Fenced):
            await world.serve(old, 10)
        before = {place: list(entries) for place, entries in world.broker.places.items()}
        with pytest.raises(OtherCode, match="driftline upgrade"):
            await world.own(OLD)
        with pytest.raises(OtherCode, match="driftline upgrade"):
            await refuse_other_code(world.deployed(OLD))
        await refuse_other_code(world.deployed(new))
        assert world.broker.places == before

    run(comes_back())


def test_code_that_comes_back_by_upgrade_does_not_trust_what_it_knew_before() -> None:
    async def there_and_back() -> None:
        world = Shop(BUSY)
        new = NEW["another rule"]
        old = await world.own(OLD)
        await world.serve(old, 20)
        await world.checkpoint(old)
        before = world.published()
        owned = await world.own(new, await world.stand_by(new))
        await world.serve(owned, 16)
        back = await world.own(OLD, await world.stand_by(OLD))
        await world.serve(back, 8)
        recovered = await world.own(OLD)
        assert recovered.progress.begin == 0, "the checkpoint of before was used"
        await world.serve(recovered, world.left)
        check(world, before)
        codes = [decode_epoch(r).code for r in world.broker.at(world.places["models"]) if r and is_epoch(r)]
        assert [code.spec_hash for code in codes] == [c.spec_hash for c in (OLD, new, OLD)]

    run(there_and_back())


def test_after_half_an_upgrade_only_what_is_other_codes_is_upgraded() -> None:
    async def half() -> None:
        world = Shop(BUSY)
        await world.serve(await world.own(OLD), 20)
        assert await to_upgrade(world.deployed(NEW["other models"])) == [0]
        assert await to_upgrade(world.deployed(OLD)) == []

    run(half())


@pytest.mark.parametrize("kind", ["log", "predictions", "outcomes"])
def test_what_is_deleted_and_in_no_archive_is_named(kind: str) -> None:
    async def trimmed() -> None:
        world = Shop(BUSY)
        new = NEW["other models"]
        await world.serve(await world.own(OLD), 40)
        standby = Standby(world.deployed(new), 0, rows=False)
        await standby.approach()
        place = Place(getattr(world.topics, kind), 0)
        world.broker.begins[place] = 3
        with pytest.raises(NothingToInheritFrom, match=f"{place} begins at 3: offsets 0 to 3"):
            await Standby(world.deployed(new), 0, rows=False).approach()
        with pytest.raises(TakeOverRefused, match="offsets 0 to 3"):
            await world.own(new, standby)
        # nothing but a fence has happened: the old code goes on once it is there again
        world.broker.begins.clear()
        await world.serve(await world.own(OLD), 4)

    run(trimmed())


def test_code_of_another_task_does_not_take_over() -> None:
    async def other_task() -> None:
        world = Shop(BUSY)
        await world.serve(await world.own(OLD), 40)
        other = small(label(), task=Regression("bad", ask=shop.Asked, label=label()))
        with pytest.raises(OtherTask, match="no answer to this task"):
            await Standby(world.deployed(other), 0, rows=False).approach()

    run(other_task())


@pytest.mark.parametrize("before", [0, 1])
def test_where_nothing_is_published_there_is_nothing_to_inherit(before: int) -> None:
    world = run(upgraded(Upgrade(BUSY, before, {}), OLD, NEW["other models"]))
    assert world.published() == run(alone(NEW["other models"], BUSY)).published()
