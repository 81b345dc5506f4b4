"""Intakes keep together in event time, whatever comes first."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf
from random import Random

import pytest
from parcels import events, parcels

from driftline.features.state.event_time import NEVER
from driftline.streams.owner import alignment as module
from driftline.streams.owner.alignment import FEWEST_TOGETHER, MOST_TOGETHER, Alignment, Stride, bound_of
from driftline.streams.owner.partition_task import Frame
from driftline.streams.records.outputs import Target
from driftline.streams.simulation.sources import laid_out, with_closing_clock
from driftline.streams.stages.itinerary import itinerary_of
from driftline.streams.stages.stage_fold import tick_of
from driftline.streams.transport.clock_events import IDLE_LOOK_EVERY, SENT_AFTER
from driftline.streams.transport.worker import alignment_of
from tests.streams.owner.owned_chain import PATIENCE, OwnedChain

FAST, SLOW = Target(0, 0), Target(0, 1)
DEPOT, QUESTIONS = Target(1, 0), Target(2, 0)


def test_an_intake_goes_on_by_what_the_last_of_those_behind_it_has_come_to() -> None:
    alignment = Alignment(10.0, 2)
    assert alignment.leeway(1e9) == inf, "nothing behind it is known here"
    alignment.come_to(DEPOT, 100.0)
    alignment.come_to(QUESTIONS, NEVER)
    assert alignment.leeway(NEVER) == 0.0, "it has no time to tell yet, and goes on"
    assert alignment.leeway(90.0) < 0, "not all have sent their time"
    alignment.come_to(QUESTIONS, 95.0)
    assert [alignment.leeway(at) for at in (95.0, 105.0, 107.0)] == [10.0, 0.0, -2.0]
    alignment.forget(QUESTIONS)
    assert alignment.leeway(107.0) == 3.0


def test_who_stands_still_is_waited_for_again_when_it_moves_on() -> None:
    alignment = Alignment(10.0, 2)
    alignment.come_to(DEPOT, 100.0)
    alignment.give_up()
    assert alignment.leeway(500.0) == inf
    alignment.come_to(DEPOT, 101.0)
    assert alignment.leeway(500.0) < 0


def test_of_a_live_case_an_intake_does_not_wait_for_one_of_another_worker_that_gets_only_the_time() -> None:
    live = replace(parcels, partitions=2, clock="wall")
    itinerary = itinerary_of(live)
    assert itinerary is not None
    now = 1e9
    reached = now - SENT_AFTER - IDLE_LOOK_EVERY - itinerary.last * tick_of(live)
    for case, waits in ((live, False), (replace(live, clock="event"), True)):
        alignment = alignment_of(case, itinerary)
        alignment.come_to(QUESTIONS, reached)
        assert (alignment.leeway(now) < 0) is waits


class Standing:
    """An intake at a time of its own."""

    def __init__(self, partition: int, watermark: float, *, ended: bool) -> None:
        self.partition = partition
        self.watermark = watermark
        self.ended = ended

    async def is_at_end(self) -> bool:
        """As it was made."""
        return self.ended


def test_who_is_at_the_end_of_its_log_is_not_waited_for_and_who_has_more_is() -> None:
    alignment = Alignment(10.0, 3)
    ahead, behind = Standing(0, 500.0, ended=False), Standing(1, 300.0, ended=False)
    ended = Standing(2, 100.0, ended=True)
    for intake in (ahead, behind, ended):
        alignment.join(intake)
    alignment.come_to(DEPOT, 95.0)
    assert alignment.leeway(500.0) == -395.0, "nobody has looked"
    asyncio.run(alignment.look_for_ends(500.0))
    assert alignment.leeway(500.0) == -190.0, "the one behind has more to fold"
    assert alignment.leeway(300.0) == 10.0
    behind.ended = True
    asyncio.run(alignment.look_for_ends(500.0))
    assert alignment.leeway(500.0) == 10.0
    alignment.come_to(DEPOT, 80.0)
    assert alignment.leeway(500.0) == -410.0, "a later stage has more to fold than what that one has sent"
    alignment.come_to(DEPOT, 100.0)
    ended.watermark = 120.0
    assert alignment.leeway(500.0) == -390.0, "it goes on"
    alignment.leave(ended)
    alignment.come_to(DEPOT, 300.0)
    assert alignment.leeway(500.0) == -190.0, "it is another process's, where it may have more"


def test_an_intake_that_leaves_while_another_one_is_asked_is_not_looked_at() -> None:
    alignment = Alignment(10.0, 3)
    leaving = Standing(2, 100.0, ended=True)

    class Slow(Standing):
        async def is_at_end(self) -> bool:
            alignment.leave(leaving)
            return await super().is_at_end()

    for intake in (Standing(0, 500.0, ended=False), Slow(1, 100.0, ended=True), leaving):
        alignment.join(intake)
    asyncio.run(alignment.look_for_ends(500.0))
    alignment.join(leaving)
    alignment.come_to(DEPOT, 95.0)
    assert alignment.leeway(500.0) == -390.0, "nobody has asked this one"


def test_an_intake_without_any_event_is_not_waited_for() -> None:
    alignment = Alignment(10.0, 2)
    for intake in (Standing(0, 500.0, ended=False), Standing(1, NEVER, ended=True)):
        alignment.join(intake)
    alignment.come_to(DEPOT, NEVER)
    assert alignment.leeway(500.0) < 0
    asyncio.run(alignment.look_for_ends(500.0))
    assert alignment.leeway(500.0) == 10.0


def test_an_intake_that_waits_goes_on_as_soon_as_a_later_stage_does() -> None:
    async def run() -> None:
        alignment = Alignment(10.0, 2)
        waiting = asyncio.create_task(alignment.moved(within=10 * PATIENCE))
        await asyncio.sleep(0)
        alignment.come_to(DEPOT, 100.0)
        async with asyncio.timeout(PATIENCE):
            await waiting

    asyncio.run(run())


@pytest.mark.parametrize(
    ("stride", "took", "leeway", "expected"),
    [
        (40, 40.0, 500.0, 80),  # no more than twice as many as before
        (40, 40.0, 60.0, 30),  # half of what would fit
        (40, 400.0, 60.0, FEWEST_TOGETHER),  # of events that are far apart few would fit
        (40, 400.0, -1.0, FEWEST_TOGETHER),
        (40, 0.0, 60.0, 80),
        (200, 1.0, inf, MOST_TOGETHER),
    ],
)
def test_a_stride_is_as_long_as_the_leeway_allows(
    stride: int, took: float, leeway: float, expected: int
) -> None:
    assert Stride(stride).after(stride, took, leeway) == Stride(expected)


def furthest_lead(bound: float, until: float) -> float:
    """How far, in seconds, an intake whose whole log is there comes ahead of one whose log comes slowly, by
    the events `until` its last one: the clock event behind it is far ahead of all."""

    async def run() -> float:
        chain, shared = OwnedChain(parcels, 2, Random(3)), Alignment(bound, 2)
        chain.stages = [replace(stage, alignment=shared) for stage in chain.stages]
        for target in chain.targets:
            await chain.own(target)
        happened = with_closing_clock(parcels, events(400))
        for partition, record in laid_out(parcels, happened, 2, chain.itinerary.entry):
            chain.broker.add(chain.stages[0].log(partition), record.key, record.value)
        chain.tasks[FAST].put(Frame(chain.records(FAST), lambda: None))
        lead = 0.0
        while True:
            handed = [chain.hand_over(target) for target in chain.targets[1:]]
            if not any(handed) and chain._is_answered:
                return lead
            await asyncio.sleep(0)
            fast, slow = (chain.tasks[target].owned for target in (FAST, SLOW))
            assert fast is not None
            assert slow is not None
            if slow.processor.watermark > NEVER:
                lead = max(lead, min(fast.processor.watermark, until) - slow.processor.watermark)

    return asyncio.run(run())


def test_an_intake_that_has_all_of_its_log_waits_for_one_that_gets_it_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ALIGNED_WITHIN", 60.0)
    itinerary = itinerary_of(replace(parcels, partitions=2))
    assert itinerary is not None
    times = [e.at.timestamp() for e in events(400) if itinerary.entry(e)[1] == FAST.partition]
    bound = bound_of(parcels, itinerary)
    free = furthest_lead(1e9, times[-1])
    assert 0 < furthest_lead(bound, times[-1]) < free / 2, "without it, one is far ahead of the other"


@pytest.mark.parametrize("number", [0, 1])
def test_a_chain_answers_at_once_though_a_partition_of_its_log_has_no_more_events(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(module, "ALIGNED_WITHIN", inf)

    async def run() -> None:
        chain, shared = OwnedChain(parcels, 2, Random(3)), Alignment(1.0, 2)
        chain.stages = [replace(stage, alignment=shared) for stage in chain.stages]
        for target in chain.targets:
            await chain.own(target)
        given = list(laid_out(parcels, events(100), 2, chain.itinerary.entry))
        few = [record for partition, record in given if partition == SLOW.partition][:number]
        many = [record for partition, record in given if partition == FAST.partition]
        for target, records in ((SLOW, few), (FAST, many)):
            for record in records:
                chain.broker.add(chain.stages[0].log(target.partition), record.key, record.value)
        async with asyncio.timeout(PATIENCE):
            await chain.serve()
        assert any(
            published.place.topic == chain.stages[0].topics.predictions for published in chain.published()
        )

    asyncio.run(run())
