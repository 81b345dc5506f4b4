"""A warm-up of a chain is learned from, and nothing of it is published, in whatever order writers meet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from parcels import Sent, events, parcels, replicated

from driftline import Event, UseCase
from driftline.streams.declare.plan import plan_of
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.records.outputs import KINDS, Outputs
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import as_warm_up, laid_out, with_closing_clock
from driftline.streams.stages.chain import Chain
from driftline.streams.stages.itinerary import Itinerary
from tests.streams.stages.delivery import Delivery, labels_of

EVENTS = list(events(200))
HISTORY, LIVE = EVENTS[:120], EVENTS[120:]
ASKED = {event.id for event in LIVE if isinstance(event, Sent)}
WARMED = [*as_warm_up(parcels, HISTORY), *with_closing_clock(parcels, LIVE)]
PLAIN = [*HISTORY, *with_closing_clock(parcels, LIVE)]
CASES = pytest.mark.parametrize("case", [parcels, replicated], ids=["one pool", "replicas"])


def folded(case: UseCase, log: Iterable[Event]) -> tuple[Outputs, list[Outputs]]:
    """All outputs of the stages in the log's order, and those of each record."""
    chain = Chain(case, 2, rows=True)
    every = []
    for partition, record in laid_out(case, log, 2, chain.itinerary.entry):
        out = Outputs()
        for step in chain.step(partition, record):
            out.extend(step.outputs)
        every.append(out)
    whole = Outputs()
    for out in every:
        whole.extend(out)
    return whole, every


def answers(out: Outputs) -> dict[str, Any]:
    predictions = [msgspec.json.decode(one.value, type=Prediction) for one in out.predictions]
    return {one.event_id: one.probabilities for one in predictions}


@CASES
def test_what_is_learned_is_what_a_run_without_markers_learns(case: UseCase) -> None:
    (warmed, _), (plain, _) = folded(case, WARMED), folded(case, PLAIN)
    assert answers(warmed) == {name: answer for name, answer in answers(plain).items() if name in ASKED}
    assert set(answers(warmed)) == ASKED
    outcomes = [msgspec.json.decode(one.value, type=Outcome) for one in warmed.outcomes]
    assert {one.event_id for one in outcomes} == ASKED
    assert warmed.rows == plain.rows


def test_rows_are_written_when_it_is_over_and_nothing_before() -> None:
    _, every = folded(parcels, WARMED)
    ends = 2 + len(HISTORY)  # a marker and the history; then the end in each partition
    assert all(getattr(out, kind) == [] and not out.rows for out in every[:ends] for kind in KINDS)
    after = [out.rows for out in every[ends : ends + 2]]
    views = {view for rows in after for view, _ in rows}
    assert views == {view.name for view in parcels.views()}


@CASES
@pytest.mark.parametrize("seed", range(3))
def test_only_requests_after_it_are_answered_whoever_crashes(case: UseCase, seed: int) -> None:
    itinerary = Itinerary(replace(case, partitions=2), plan_of(case, 2))
    delivery = Delivery(Chain(case, 2), seed)
    write(delivery, laid_out(case, WARMED, 2, itinerary.entry))
    delivery.run(crashes=5)
    published = delivery.published()
    assert delivery.torn == []
    assert sorted(one.event_id for one in published.predictions) == sorted(ASKED)
    assert published.letters == {}
    plain = [msgspec.json.decode(one.value, type=Outcome) for one in folded(case, PLAIN)[0].outcomes]
    expected = {name: end for name, end in labels_of(plain).items() if name in ASKED}
    assert labels_of(published.outcomes) == expected


def write(delivery: Delivery, log: Iterable[Any]) -> None:
    for partition, record in log:
        delivery.write(partition, record.key, record.value)


def test_a_simulation_counts_what_was_published_alone(tmp_path: Any) -> None:
    codec = parcels.codec()

    def written(name: str, some: Sequence[Event]) -> str:
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(b"\n".join(codec.encode(event) for event in some))
        return str(path)

    history, live = written("history", HISTORY), written("live", LIVE)
    found = simulate(parcels, live, partitions=2, warm_up=history)
    assert found["predictions"] == found["labelled"] + found["void"] == len(ASKED)
    assert {entry["n"] for entry in found["models"].values()} == {found["labelled"]}


def test_every_stage_says_while_it_is_under_way() -> None:
    chain = Chain(parcels, 2)
    log = list(laid_out(parcels, WARMED, 2, chain.itinerary.entry))
    ends = 2 + len(HISTORY)
    said = []
    for partition, record in log[: ends + 2]:
        list(chain.step(partition, record))
        said.append({fold.warming for stage in chain.stages for fold in stage})
    assert said[ends - 1] == {True}
    assert said[ends] == {True, False}
    assert said[ends + 1] == {False}
