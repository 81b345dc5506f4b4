"""A partition that one code serves and another takes over, and what must be so afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import shop
from hypothesis import strategies as st

from driftline import HOUR, Binary, Clock, Label, Member, PerKey, UseCase, derive, field
from driftline.streams.archive.epochs import Code
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.code.fingerprint import numeric_fingerprint
from driftline.streams.declare.topics import Topics
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.owner.takeover import take_over
from driftline.streams.owner.upgrade.standby import Standby
from driftline.streams.records.outputs import KINDS
from driftline.streams.records.ports import AppendFailed, Place
from tests.streams.owner.memory import MemoryBroker, MemoryCheckpoints, Rows, Stored

STEP = 4
"""Records a step of the code that is taken over from."""
SEAL = Seal(b"k" * KEY_BYTES)


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
        await owned.settled()

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
    predicted_before = {json.loads(value)["id"] for _, _, value, _ in before["predictions"]}
    revisions: dict[str, list[dict[str, Any]]] = {}
    for outcome in world.json("outcomes"):
        revisions.setdefault(outcome["prediction_id"], []).append(outcome)
    # of an outcome and its prediction, the old code may have published the outcome alone
    alone = {json.loads(value)["prediction_id"] for _, _, value, _ in before["outcomes"]} - predicted_before
    assert set(revisions) - alone <= set(predictions) <= set(revisions)
    for name in predictions:
        of_prediction = revisions[name]
        assert [o.get("revision", 0) for o in of_prediction] == list(range(len(of_prediction)))
        assert [o.get("corrects") for o in of_prediction] == [None, *range(len(of_prediction) - 1)]
        answer = predictions[name]
        for outcome in of_prediction if name in predicted_before else of_prediction[-1:]:
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
