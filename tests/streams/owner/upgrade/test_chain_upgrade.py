"""New code takes a chain over from other code, beside which all its stages run: nothing is lost, nothing is
answered twice, whoever is killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from random import Random
from typing import TypeVar

import msgspec
import pytest
from parcels import Sent, Share, events, fragile, on_two, parcels

from driftline import HOUR, Member, Shared, UseCase, derive, mean
from driftline.streams.archive.epochs import decode_epoch, is_epoch
from driftline.streams.errors import StreamsError
from driftline.streams.fold import inheritance
from driftline.streams.owner import partition_task, retry_pause
from driftline.streams.owner.upgrade import handover
from driftline.streams.owner.upgrade.chain_standby import succeeded
from driftline.streams.proof.lineage import Lineage, lineage
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.records.outputs import KINDS, Outputs
from driftline.streams.records.positions import headers_of
from driftline.streams.simulation.chain_simulation import ChainSimulation
from driftline.streams.simulation.sources import laid_out, with_closing_clock
from tests.streams.owner.owned_chain import OwnedChain
from tests.streams.proof.in_memory import Held
from tests.streams.proof.test_stage_audit import audited

EVENTS = 120
T = TypeVar("T")


class Half(Share):
    """Another model than the one before."""

    def predict_proba_one(self, x: dict[str, float]) -> dict[bool, float]:
        return {True: super().predict_proba_one(x)[True] / 2}


CHANGES = {
    "another model": {"models": Shared(Member("half", Half))},
    "another window": {
        "features": {**parcels.features, "weight_of_courier": mean(Sent, "weight", by="courier", over=HOUR)}
    },
    "one stage fewer": {
        "features": {name: one for name, one in parcels.features.items() if name != "with_courier"}
    },
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, short logs have a settled part too, and whoever is fenced here does not come back soon."""
    monkeypatch.setattr(retry_pause, "RETRY_AFTER", 0.0)
    monkeypatch.setattr(retry_pause, "FENCED_PAUSE", 0.0)
    monkeypatch.setattr(partition_task, "LOOK_EVERY_BESIDE", 0.0)
    monkeypatch.setattr(inheritance, "HELD_BACK", 40)
    monkeypatch.setattr(handover, "MARKERS", 5)
    monkeypatch.setattr(partition_task, "CLOSE_BEHIND", 20)


class Upgrade:
    """Old code and new code of a case, while events come, in an order that a seed decides."""

    def __init__(self, new: UseCase, seed: int, old: UseCase, *, heavy: bool) -> None:
        self.random = Random(seed)
        self.new_case = new
        self.old = OwnedChain(old, 2, self.random)
        self.new: OwnedChain | None = None
        self.events = [
            msgspec.structs.replace(event, weight=200.0)
            if heavy and isinstance(event, Sent) and self.random.random() < 0.3
            else event
            for event in with_closing_clock(on_two, events(EVENTS, seed))
        ]
        self._coming = iter(laid_out(on_two, self.events, 2, self.old.itinerary.entry))

    def produce(self, count: int) -> None:
        """So many more records come into the log."""
        for partition, record in islice(self._coming, count):
            self.old.broker.add(self.old.stages[0].log(partition), record.key, record.value)

    def begin(self) -> OwnedChain:
        """The process of the new code starts, after the one before was killed."""
        if self.new is not None:
            for task in self.new.tasks.values():
                assert task._task is not None
                task._task.cancel()
        self.new = OwnedChain(self.new_case, 2, self.random, self.old)
        self.new.begin()
        return self.new

    def step(self, chain: OwnedChain) -> None:
        """One of a chain's partitions gets some of what waits for it."""
        target = self.random.choice(chain.targets)
        if target in chain.tasks:
            chain.hand_over(target)
            chain.tasks[target].tick()

    async def look(self) -> None:
        """The new code sees how far it has come."""
        assert self.new is not None
        await self.new.handover.look({target: task.owned for target, task in self.new.tasks.items()})

    async def until_taken(self) -> None:
        """Until the new code has taken over, and its stages have noticed."""
        assert self.new is not None
        async with asyncio.timeout(60):
            while not self.new.handover.is_done or any(t._was_beside for t in self.new.tasks.values()):
                for chain in (self.old, self.new):
                    self.step(chain)
                if self.random.random() < 0.1:
                    self.produce(3)
                await self.look()
                await asyncio.sleep(0)


async def upgraded(
    new: UseCase, seed: int, kills: int, old: UseCase = on_two, *, heavy: bool = False
) -> Upgrade:
    """All of a log, served by old code, then by new code; `kills` of either in the middle. Some parcels are
    `heavy`."""
    world = Upgrade(new, seed, old, heavy=heavy)
    random = world.random
    for target in world.old.targets:
        await world.old.own(target)
    world.produce(random.randrange(20, EVENTS))
    for _ in range(random.randrange(200)):
        world.step(world.old)
        await asyncio.sleep(0)
    chain = world.begin()
    for _ in range(random.randrange(400)):
        world.step(random.choice((world.old, chain)))
        if random.random() < 0.2:
            world.produce(2)
        if kills and random.random() < 0.02:
            kills -= 1
            if random.random() < 0.5:
                chain = world.begin()
            elif world.old.tasks and random.random() < 0.5:
                for target in list(world.old.tasks):
                    await world.old.kill(target)
        if not chain.handover.is_done:
            await world.look()
        await asyncio.sleep(0)
    await world.until_taken()
    world.produce(len(world.events) * 2)
    for target in world.old.targets:
        world.old.tasks.pop(target, None)
    await chain.serve()
    return world


def check_answers(world: Upgrade, chain: OwnedChain) -> None:
    """Each request is answered once, in the order of positions, with the outcome that its label gives."""
    topics = chain.stages[0].topics
    last = chain.stages[-1]
    places = last.outputs(0)
    for kind in KINDS:
        positions = [position for position, _ in chain.broker.data(places[kind])]
        assert all(one < other for one, other in pairwise(positions)), kind
    predictions = decoded(chain, topics.predictions, Prediction)
    requests = [event.id for event in world.events if isinstance(event, Sent)]
    assert Counter(one.event_id for one in predictions) == Counter(requests)
    outcomes: dict[str, list[Outcome]] = {}
    for outcome in decoded(chain, topics.outcomes, Outcome):
        outcomes.setdefault(outcome.event_id, []).append(outcome)
    assert set(outcomes) == set(requests)
    point = {one.event_id: one.prediction for one in predictions}
    expected = simulated(world)
    for name, revisions in outcomes.items():
        # a label that comes after the deadline corrects the outcome that was published then
        assert [outcome.revision for outcome in revisions] == list(range(len(revisions)))
        assert len(revisions) <= len(expected[name])
        assert (revisions[-1].status, revisions[-1].label) == expected[name][-1]
        assert {outcome.prediction for outcome in revisions} == {point[name]}


def decoded(chain: OwnedChain, topic: str, kind: type[T]) -> list[T]:
    """All records of an output topic."""
    places = [place for place in chain.broker.places if place.topic == topic]
    return [msgspec.json.decode(r.value or b"", type=kind) for p in places for _, r in chain.broker.data(p)]


def simulated(world: Upgrade) -> dict[str, list[tuple[str, object]]]:
    """How each request ends, whichever code serves."""
    found: dict[str, list[tuple[str, object]]] = {}
    for _, out in ChainSimulation(on_two, 2).fold(world.events):
        for one in out.outcomes:
            outcome = msgspec.json.decode(one.value, type=Outcome)
            found.setdefault(outcome.event_id, []).append((outcome.status, outcome.label))
    return found


async def check_recomputed(chain: OwnedChain) -> None:
    """What the new code has published is what its topic and the other code's answers give."""
    last = chain.stages[-1]
    places = last.outputs(0)
    epochs = [decode_epoch(r) for r in chain.broker.at(places["models"]) if r and is_epoch(r)]
    _, inherited = await succeeded(last, 0, epochs)
    out = Outputs()
    for record in chain.records(chain.targets[-1]):
        out.extend(await inherited.fold([record]))
    assert inherited.is_over()
    for kind in KINDS:
        tail = epochs[-1].tails[kind]
        own = [
            (record.key, record.value, list(record.headers))
            for position, record in chain.broker.data(places[kind])
            if position > tail
        ]
        assert own == [(o.key, o.value, headers_of(o)) for o in getattr(out, kind)], kind


@pytest.mark.parametrize("kills", [0, 3])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", range(3))
def test_each_request_is_answered_once_and_every_answer_has_its_outcome(
    change: str, seed: int, kills: int
) -> None:
    async def go() -> None:
        world = await upgraded(replace(on_two, **CHANGES[change]), seed, kills)
        assert world.new is not None
        check_answers(world, world.new)
        await check_recomputed(world.new)

    asyncio.run(go())


def traced(case: UseCase, chain: OwnedChain, prediction_id: str) -> Lineage:
    """A prediction as the code of this chain follows it."""
    first = chain.stages[0]
    return lineage(
        Held(chain.broker), replace(case, partitions=2), first.topics, first.code, prediction_id, 3
    )


def topics_of(chain: OwnedChain) -> list[str]:
    """The topics that the stages of a chain read."""
    return [stage.topic for stage in chain.stages]


def ends_of_epochs(world: Upgrade) -> tuple[str, str]:
    """The first prediction, which the old code made, and the last one, which the new code made."""
    assert world.new is not None
    made = decoded(world.new, world.old.stages[0].topics.predictions, Prediction)
    return made[0].id, made[-1].id


@pytest.mark.parametrize("change", ["another model", "another window"])
def test_a_prediction_is_followed_through_the_topics_of_the_code_that_made_it(change: str) -> None:
    async def go() -> None:
        world = await upgraded(case := replace(on_two, **CHANGES[change]), 0, 0)
        assert world.new is not None
        codes = [(on_two, world.old), (case, world.new)]
        for maker, prediction_id in zip(codes, ends_of_epochs(world), strict=True):
            for asked in codes:
                found = traced(*asked, prediction_id)
                assert [stop.topic for stop in found.stops] == topics_of(maker[1])
                assert found.epoch.code == maker[1].stages[0].code
                assert (found.epoch.difference is None) == (asked is maker)
                assert found.agrees or (asked is not maker and change == "another window")
        for place in world.new.broker.places:
            if place.topic in topics_of(world.old)[1:]:
                world.new.broker.at(place).clear()
        with pytest.raises(StreamsError, match=r"made by other code, with .* holds no record"):
            traced(case, world.new, ends_of_epochs(world)[0])

    asyncio.run(go())


def test_a_prediction_of_code_with_other_stages_names_that_code() -> None:
    async def go() -> None:
        world = await upgraded(case := replace(on_two, **CHANGES["one stage fewer"]), 0, 0)
        assert world.new is not None
        of_old, of_new = ends_of_epochs(world)
        assert traced(on_two, world.old, of_old).agrees
        assert traced(case, world.new, of_new).agrees
        with pytest.raises(StreamsError, match=r"made by other code, with .* is not before stage"):
            traced(case, world.new, of_old)
        with pytest.raises(StreamsError, match=r"made by other code, with .* reads 'with_courier'"):
            traced(on_two, world.old, of_new)

    asyncio.run(go())


def carries_little(sent: Sent) -> float:
    if sent.weight > 100:
        raise ValueError("nobody carries that")
    return sent.weight


STRICT = {
    "the log's stage": replace(on_two, features={**parcels.features, "light": derive(carries_little)}),
    "a stage behind it": fragile,
}


@pytest.mark.parametrize("refused_by", STRICT)
@pytest.mark.parametrize("seed", range(3))
def test_a_request_that_was_refused_is_answered_when_it_is_sent_again(refused_by: str, seed: int) -> None:
    async def go() -> None:
        world = await upgraded(on_two, seed, 0, STRICT[refused_by], heavy=True)
        chain = world.new
        assert chain is not None
        requests = [event for event in world.events if isinstance(event, Sent)]
        unanswered = [one for one in requests if one.id not in answers(chain)]
        assert unanswered
        assert all(one.weight > 100 for one in unanswered)
        end = world.events[-1].at
        for one in unanswered:
            again = msgspec.structs.replace(one, at=end)
            key, home = chain.itinerary.entry(again)
            assert home is not None
            chain.broker.add(chain.stages[0].log(home), key, on_two.codec().encode(again))
        await chain.serve()
        assert answers(chain) == Counter(one.id for one in requests)
        for task in chain.tasks.values():
            await task.stop()
        done = audited(chain)
        assert all(one.audit.first_difference is None for one in done.values())

    asyncio.run(go())


def answers(chain: OwnedChain) -> Counter[str]:
    """How often each request was answered."""
    return Counter(one.event_id for one in decoded(chain, chain.stages[0].topics.predictions, Prediction))
