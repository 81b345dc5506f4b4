"""How old the pools are by which replicas answer, as the learner's worker shows it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import msgspec
import pytest
from parcels import Share, events, parcels
from prometheus_client.parser import text_string_to_metric_families

from driftline import Member, Shared, UseCase
from driftline.streams.between.stage_record import decode_model_record
from driftline.streams.fold.learner_input import Staleness
from driftline.streams.records.outputs import Target
from driftline.streams.simulation.sources import laid_out
from driftline.streams.stages.chain import Chain
from driftline.streams.status.metric_definitions import MEASURES
from driftline.streams.status.metrics import WorkerMetrics
from driftline.streams.status.worker_status import WorkerStatus
from tests.streams.owner.owned_chain import OwnedChain
from tests.streams.status.scraping import written

LEARNER = ("examples/0", "examples")


def publishing(every: int | timedelta) -> UseCase:
    return replace(parcels, models=Shared(Member("share", Share), replicas=2, publish_every=every))


@pytest.mark.parametrize("every", [7, timedelta(minutes=4)])
def test_staleness_is_what_was_learned_and_the_time_that_passed_since_the_pool_of_the_newest_answer(
    every: int | timedelta,
) -> None:
    case = publishing(every)
    chain = Chain(case, 1)
    at = {event.id: event.at.timestamp() for event in events(150)}
    published: dict[int, tuple[int, float]] = {}
    labels, found, expected = 0, [], []
    for partition, record in laid_out(case, events(150), 1, chain.itinerary.entry):
        for step in chain.step(partition, record):
            if step.stage != chain.itinerary.last:
                for send in step.outputs.sends:
                    answered = decode_model_record(send.value)
                    if answered.answer is None:
                        continue
                    through, request = answered.answer.learned_through, msgspec.json.decode(answered.event)
                    known, when = published.get(through, (0, None))
                    passed = None if when is None else at[request["id"]] - when
                    expected.append(Staleness(labels - known, passed))
                continue
            (fold,) = chain.stages[-1]
            if fold.staleness is not None and (not found or fold.staleness is not found[-1]):
                found.append(fold.staleness)
            if pools := fold.pools():
                labels = pools[0].labels
                for send in step.outputs.sends:
                    published[pools[0].learned_through] = (labels, decode_model_record(send.value).watermark)
    assert found == expected
    assert len({one.labels for one in found}) > 3
    assert any(one.seconds for one in found)


@pytest.mark.parametrize("every", [7, timedelta(minutes=4)])
def test_a_scrape_of_the_learner_has_how_old_the_newest_answers_pool_was(
    every: int | timedelta, tmp_path: Path
) -> None:
    async def run() -> tuple[Staleness, str]:
        case = publishing(every)
        chain = OwnedChain(case, 1, Random(1))
        for target in chain.targets:
            await chain.own(target)
        for number, (partition, record) in enumerate(laid_out(case, events(250), 1, chain.itinerary.entry)):
            chain.broker.add(chain.place(Target(0, partition)), record.key, record.value)
            if number % 10 == 0:
                await chain.serve()
        metrics = WorkerMetrics()
        deployment = replace(chain.stages[0], rows=None)
        status = WorkerStatus(
            tmp_path / "status.json", deployment, chain.tasks, list, lambda _: None, metrics
        )
        status.update()
        owned = chain.tasks[chain.targets[-1]].owned
        assert owned is not None
        staleness = owned.processor.staleness
        assert staleness is not None
        for task in chain.tasks.values():
            await task.stop()
        return staleness, written(metrics)

    staleness, text = asyncio.run(run())
    shown = {
        (sample.name, *(sample.labels.get(label) for label in ("partition", "topic"))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "replica" in sample.name
    }
    unit, declared = ("seconds", every.total_seconds()) if isinstance(every, timedelta) else ("labels", every)
    assert shown == {
        (MEASURES["replica_staleness_labels"].series, *LEARNER): staleness.labels,
        (MEASURES["replica_staleness_seconds"].series, *LEARNER): staleness.seconds,
        (MEASURES[f"replica_publish_every_{unit}"].series, None, None): declared,
    }
