"""New code takes over from other code, wherever that stopped: nothing repeated, nothing rewritten, every
prediction with its outcome."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import shop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory import MemoryBroker, MemoryCheckpoints, Rows, Stored

from driftline import HOUR, Binary, Clock, Label, Member, PerKey, Regression, UseCase, derive, field
from driftline.streams.archive.epochs import Code, decode_epoch, is_epoch
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.code.fingerprint import numeric_fingerprint
from driftline.streams.declare.topics import Topics
from driftline.streams.errors import OtherTask
from driftline.streams.fold import inheritance
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.owner.standby import NothingToInheritFrom, Standby, to_upgrade
from driftline.streams.owner.starting_point import TakeOverRefused
from driftline.streams.owner.takeover import OtherCode, take_over
from driftline.streams.records.outputs import KINDS
from driftline.streams.records.ports import AppendFailed, Fenced, Place

STEP = 4
"""Records a step of the code that is taken over from."""
SEAL = Seal(b"k" * KEY_BYTES)


@pytest.fixture(scope="module", autouse=True)
def _short_logs() -> Iterator[None]:
    """Logs of a few dozen records have a settled part too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inheritance, "HELD_BACK", 2 * STEP)
        yield


FINGERPRINT = numeric_fingerprint()
CODES: dict[int, tuple[UseCase, Code]] = {}


def code_of(case: UseCase) -> Code:
    """The code of a case, which takes a while to find out."""
    _, code = CODES.get(id(case)) or (case, Code(case.spec_hash, FINGERPRINT))
    CODES[id(case)] = (case, code)
    return code


class Shop:
    """One partition of a log, and what different code makes of it."""

    def __init__(self, log: Sequence[tuple[bytes | None, bytes]]) -> None:
        self.broker = MemoryBroker()
        self.checkpoints = MemoryCheckpoints()
        self.topics = Topics("orders", 1)
        self.log = Place(self.topics.log, 0)
        self.places = {kind: Place(getattr(self.topics, kind), 0) for kind in KINDS}
        self._coming = list(log)

    @property
    def left(self) -> int:
        return len(self._coming)

    def deployed(self, case: UseCase, rows: Rows | None = None) -> Deployment:
        code = code_of(case)
        return Deployment(case, code, self.topics, self.broker, self.checkpoints, SEAL, rows)

    def produce(self, count: int) -> list[Stored]:
        """So many more records come into the log."""
        begin = len(self.broker.at(self.log))
        for key, value in self._coming[:count]:
            self.broker.add(self.log, key, value)
        del self._coming[:count]
        return [record for record in self.broker.at(self.log)[begin:] if record is not None]

    async def own(self, case: UseCase, standby: Standby | None = None, **how: Any) -> OwnedPartition:
        owned = await take_over(self.deployed(case, **how), 0, standby=standby)
        async for _ in owned.recover():
            pass
        return owned

    async def stand_by(self, case: UseCase) -> Standby:
        standby = Standby(self.deployed(case), 0, rows=False)
        await standby.approach()
        return self.handed_over(standby, case)

    def handed_over(self, standby: Standby, case: UseCase, rows: Rows | None = None) -> Standby:
        """As a process that folds aside gives it to the one that takes over."""
        return Standby.restored(self.deployed(case, rows), 0, standby.snapshot(), rows=rows is not None)

    async def serve(self, owned: OwnedPartition, records: int, step: int = STEP) -> None:
        """Fold so many more records as they come; the fold may fail in any of them."""
        while records > 0 and self.left:
            fresh = self.produce(min(step, records))
            records -= len(fresh)
            await owned.advance(fresh, fresh[0].offset)

    async def checkpoint(self, owned: OwnedPartition) -> None:
        snapshot = owned.snapshot()
        assert snapshot is not None
        await owned.store(snapshot)

    def published(self) -> dict[str, list[tuple[tuple[int, int], Any, Any, Any]]]:
        return {
            kind: [(position, r.key, r.value, r.headers) for position, r in self.broker.data(place)]
            for kind, place in self.places.items()
        }

    def json(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(r.value or b"") for _, r in self.broker.data(self.places[kind])]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def small(label: Label, **changes: Any) -> UseCase:
    declared = UseCase(
        "orders",
        key="shop",
        events=[shop.Asked, shop.Settled],
        features={"amount": field("amount"), "bad_1h": shop.features["bad_1h"]},
        task=Binary("bad", ask=shop.Asked, label=label),
        models=PerKey(champion=Member("logistic", shop.logistic), frozen_after=20),
        max_jump=24 * HOUR,
    )
    return replace(declared, **changes)


def label(wait: float = HOUR, threshold: float = 0.5, **more: Any) -> Label:
    def value(event: Any, threshold: float = threshold) -> bool:
        return bool(event.bad > threshold)

    return Label(shop.Settled, on="order", value=value, wait=wait, **more)


def refuses_some(event: Any) -> float:
    return 1 / 0 if int(event.order[1:]) % 3 == 1 else 1.0


class Constant:
    def learn_one(self, x: dict[str, Any], y: bool) -> None: ...

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: 0.125}


constant = PerKey(champion=Member("constant", Constant), frozen_after=20)
OLD = small(label())
PICKY = small(label(), features=OLD.features | {"picky": derive(refuses_some)})
NEW = {
    "other models": small(label(), models=constant),
    "shorter wait": small(label(wait=60.0), models=constant),
    "longer wait": small(label(wait=5 * HOUR), models=constant),
    "no corrections": small(label(wait=60.0, corrections=0.0), models=constant),
    "another rule": small(label(threshold=0.2), models=constant),
    "refuses some": replace(PICKY, models=constant),
    "another name": small(label(), task=Binary("rotten", ask=shop.Asked, label=label()), models=constant),
    "lateness": small(label(), lateness=300.0, models=constant),
}

Entry = tuple[bytes | None, bytes]


def log_of(steps: Sequence[tuple[int, int, float]]) -> list[Entry]:
    """A log from drawn numbers: requests (several of one order), labels, corrections, clocks, bad input."""
    entries: list[Entry] = []
    minute = 0.0
    codec = OLD.codec()
    for n, (what, order, minutes) in enumerate(steps):
        minute += minutes
        if what < 4:
            event = shop.asked(order, minute, id=f"asked-{n}")
        elif what < 7:
            event = shop.settled(order, minute, id=f"settled-{n}", bad=(order % 4) / 3)
        elif what == 7:
            event = shop.settled(order, minute, id=f"settled-{n}", bad=1 - (order % 4) / 3)
        elif what == 8:
            entries.append((b"s", b"no json %d" % n))
            continue
        else:
            event = Clock(id=f"clock-{n}", at=shop.START + timedelta(minutes=minute))
        entries.append((codec.key(event), codec.encode(event)))
    for hours in (5, 10, 15):
        end = Clock(id=f"end-{hours}", at=shop.START + timedelta(minutes=minute, hours=hours))
        entries.append((None, codec.encode(end)))
    return entries


BUSY = log_of([((n * 7) % 10, n % 6, (n % 5) * 1.5) for n in range(60)])

logs = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 7), st.sampled_from([0.0, 0.5, 2.0, 40.0])),
    min_size=8,
    max_size=45,
).map(log_of)
cuts = st.fixed_dictionaries({kind: st.integers(0, 6) for kind in KINDS})


class Upgrade(NamedTuple):
    """When what happens: `before` records are served by the old code, whose last step is published in
    part; after `looked` of them the new code approaches."""

    log: Sequence[Entry]
    before: int
    cuts: Mapping[str, int]
    looked: int = 0


async def old_serves(world: Shop, old: UseCase, plan: Upgrade, new: UseCase) -> Standby:
    """The old code publishes up to the cut; the new one stands by."""
    standby = Standby(world.deployed(new), 0, rows=False)
    owned = await world.own(old)
    whole = max(plan.before - STEP, 0)
    early = min(plan.looked, whole) // STEP * STEP
    await world.serve(owned, early)
    await standby.approach()
    await world.serve(owned, whole - early)
    world.broker.cuts, world.broker.appends_left = dict(plan.cuts), 0
    try:
        await world.serve(owned, STEP)
    except AppendFailed:
        await owned.close()
    world.broker.cuts = world.broker.appends_left = None
    return standby


async def upgraded(plan: Upgrade, old: UseCase, new: UseCase, step: int = 5) -> Shop:
    """The whole log, folded by the old code and from the cut on by the new one."""
    world = Shop(plan.log)
    standby = await old_serves(world, old, plan, new)
    before = world.published()
    owned = await world.own(new, standby)
    await world.serve(owned, world.left, step)
    check(world, before)
    return world


def check(world: Shop, before: Mapping[str, list[Any]]) -> None:
    """What must be so at the end of the log, whoever published what of it."""
    after = world.published()
    for kind in KINDS:
        assert after[kind][: len(before[kind])] == before[kind]
        positions = [position for position, *_ in after[kind]]
        assert all(a < b for a, b in pairwise(positions))
    predictions = {p["id"]: p for p in world.json("predictions")}
    assert len(predictions) == len(after["predictions"])
    told_of_before = {json.loads(value)["id"] for _, _, value, _ in before["predictions"]}
    revisions: dict[str, list[dict[str, Any]]] = {}
    for outcome in world.json("outcomes"):
        revisions.setdefault(outcome["prediction_id"], []).append(outcome)
    # of an outcome and its prediction, the old code may have published the outcome alone
    alone = {json.loads(value)["prediction_id"] for _, _, value, _ in before["outcomes"]} - told_of_before
    assert set(revisions) - alone <= set(predictions) <= set(revisions)
    for name in predictions:
        told = revisions[name]
        assert [o.get("revision", 0) for o in told] == list(range(len(told)))
        assert [o.get("corrects") for o in told] == [None, *range(len(told) - 1)]
        answer = predictions[name]
        for outcome in told if name in told_of_before else told[-1:]:
            assert outcome["prediction"] == answer["prediction"]
            assert outcome["model"] == answer["model"]["version"]
            assert outcome["keys"] == answer["keys"]
            if outcome["status"] == "labelled":
                p = answer["probabilities"]["true"]
                assert outcome["loss"] == OLD.task.loss(outcome["label"], p)


async def alone(case: UseCase, log: Sequence[Entry]) -> Shop:
    """The whole log under one code."""
    world = Shop(log)
    await world.serve(await world.own(case), len(log))
    return world


def places_of(world: Shop, kind: str) -> set[tuple[int, int]]:
    return {position for position, *_ in world.published()[kind]}


@pytest.mark.parametrize("change", NEW)
@given(log=logs, before=st.integers(0, 45), looked=st.integers(0, 45), cut=cuts)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_wherever_the_old_code_stopped_all_is_answered_and_told_of_once(
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
@settings(max_examples=10, deadline=None)
def test_what_the_old_code_refused_is_told_of_by_nobody(
    new: UseCase, log: list[Entry], before: int, cut: dict[str, int]
) -> None:
    run(upgraded(Upgrade(log, before, cut), PICKY, new))


@pytest.mark.parametrize("change", NEW)
@given(log=logs, before=st.integers(4, 45), looked=st.integers(0, 45), cut=cuts, data=st.data())
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
@settings(max_examples=8, deadline=None)
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


def test_online_rows_of_keys_that_come_no_more_are_the_new_codes() -> None:
    log = [*log_of([(0, n, 1.0) for n in range(40)])]

    async def rows_after(plan: Upgrade | None) -> dict[Any, Any]:
        world, rows = Shop(log), Rows()
        new = NEW["another rule"]
        if plan is None:
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

    assert run(rows_after(Upgrade(log, 40, {}))) == run(rows_after(None))


def test_old_code_that_comes_back_is_told_so_and_touches_nothing() -> None:
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
