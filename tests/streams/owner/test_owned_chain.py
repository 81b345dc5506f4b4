"""Stages in the hands of owners that die, come back and take over: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from parcels import events, parcels, replicated

from driftline import UseCase
from driftline.streams.between.stage_record import Writer
from driftline.streams.checkpoints.cadence import CheckpointBudget
from driftline.streams.owner import retry_pause
from driftline.streams.owner.partition_task import PartitionTask
from driftline.streams.records.outputs import KINDS, Target
from driftline.streams.records.ports import TopicShape
from driftline.streams.simulation.sources import laid_out
from tests.streams.owner.owned_chain import OwnedChain, Published, until


def produce(chain: OwnedChain, number: int) -> None:
    """Append the first so many events to the log."""
    for partition, record in laid_out(
        parcels, events(number), chain.stages[0].partitions, chain.itinerary.entry
    ):
        chain.broker.add(chain.stages[0].log(partition), record.key, record.value)


def check(chain: OwnedChain) -> None:
    """All that was sent and put out is what the recorded order gives, once."""
    expected: list[Published] = []
    for target, out in chain.refolded():
        places = chain.stages[target.stage].outputs(target.partition)
        for kind in KINDS:
            outputs = getattr(out, kind)
            assert not outputs or kind in places
            expected += [Published.of(places[kind], output) for output in outputs]
        for reader, values in chain.sent(out).items():
            assert chain.first_appearances(reader)[Writer(*target)] == values
    assert chain.published() == sorted(expected)
    assert {published.place.topic.split(".")[1] for published in expected} >= {"predictions", "outcomes"}


@pytest.mark.parametrize("case", [parcels, replicated], ids=["one pool", "replicas"])
@pytest.mark.parametrize("seed", range(4))
def test_owners_that_are_killed_and_superseded_lose_and_repeat_nothing(
    seed: int, case: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_pause, "RETRY_AFTER", 0.0)
    monkeypatch.setattr(retry_pause, "FENCED_PAUSE", 1e6)  # who is fenced here does not come back

    async def run() -> OwnedChain:
        random = Random(seed)
        chain = OwnedChain(case, 2, random)
        produce(chain, 150)
        for target in chain.targets:
            await chain.own(target)
        zombies = []
        for _ in range(60):
            target = random.choice(chain.targets)
            if random.random() < 0.7:
                chain.hand_over(target)
            if random.random() < 0.2:
                if random.random() < 0.5:
                    await chain.kill(target)
                else:  # it has frames at hand, and does not know
                    zombies.append(chain.tasks[target])
                await chain.own(target)
        await chain.serve()
        for task in (*zombies, *chain.tasks.values()):
            await task.stop()
        return chain

    check(asyncio.run(run()))


def test_a_topic_between_stages_that_was_made_anew_is_refused_and_the_others_serve_on() -> None:
    async def run() -> None:
        chain = OwnedChain(parcels, 2, Random(1))
        produce(chain, 100)
        for target in chain.targets:
            await chain.own(target)
        await chain.serve()
        target = Target(1, 0)
        await chain.tasks[target].stop()
        place = chain.place(target)
        chain.broker.places[place] = []
        chain.broker.shapes[place.topic] = TopicShape("another", chain.broker.counts[place.topic])
        heir = PartitionTask(chain.stages[target.stage], target.partition, CheckpointBudget())
        heir.start()
        await until(lambda: heir.state == "refused")
        assert f"{place} was recreated" in heir.reason
        assert f"If {place.topic} is whole" in heir.reason
        assert "go on in another namespace" in heir.reason
        others = [task for to, task in chain.tasks.items() if to != target]
        assert {task.state for task in others} == {"serving"}
        for task in (heir, *others):
            await task.stop()

    asyncio.run(run())


def test_a_topic_between_stages_with_other_partitions_is_refused_with_what_to_do() -> None:
    async def run() -> None:
        chain = OwnedChain(parcels, 2, Random(1))
        target = Target(1, 0)
        topic = chain.place(target).topic
        chain.broker.counts[topic] = 3
        task = PartitionTask(chain.stages[target.stage], target.partition, CheckpointBudget())
        task.start()
        await until(lambda: task.state == "refused")
        assert f"topic {topic}, which only the stages of the case write to, has 3 partitions" in task.reason
        assert "DRIFTLINE_NAMESPACE=other driftline produce" in task.reason
        await task.stop()

    asyncio.run(run())
