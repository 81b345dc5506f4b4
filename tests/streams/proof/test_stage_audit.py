"""The audit of a chain: every stage folded from its recorded topic, and what passes between compared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from random import Random

import msgspec
import pytest
from parcels import events, on_two, parcels, replicated

from driftline import UseCase
from driftline.streams.between.activations import Activations, seal_snapshot
from driftline.streams.between.stage_record import PoolPart, decode_model_record, decode_record, encode_record
from driftline.streams.errors import StreamsError
from driftline.streams.proof.lineage import Lineage, lineage
from driftline.streams.proof.stage_audit import StageAudit, StageAuditor, by_writer, compare_published
from driftline.streams.records.messages import Prediction
from driftline.streams.records.outputs import Target
from driftline.streams.records.ports import Place
from driftline.streams.simulation.sources import laid_out
from tests.streams.owner.owned_chain import SEAL, OwnedChain
from tests.streams.proof.in_memory import Held


@pytest.fixture
def served() -> OwnedChain:
    """A chain that has been served to its end, by owners one of which was superseded."""
    return serve(parcels)


def serve(case: UseCase) -> OwnedChain:
    """Serve a case to its end."""

    async def run() -> OwnedChain:
        chain = OwnedChain(case, 2, Random(3))
        for partition, record in laid_out(case, events(200), 2, chain.itinerary.entry):
            chain.broker.add(chain.place(Target(0, partition)), record.key, record.value)
        for target in chain.targets:
            await chain.own(target)
        await chain.serve()
        before = chain.tasks[Target(0, 1)]
        await chain.own(Target(0, 1))
        await chain.serve()
        for task in (before, *chain.tasks.values()):
            await task.stop()
        return chain

    return asyncio.run(run())


def audited(chain: OwnedChain) -> dict[Target, StageAudit]:
    """The audits of all partitions, the last stage's first."""
    done: dict[Target, StageAudit] = {}
    first = chain.stages[0]
    for stage in reversed(range(len(chain.stages))):
        received = by_writer(list(done.values()))
        for target in [target for target in chain.targets if target.stage == stage]:
            auditor = StageAuditor(
                first.case,
                first.places,
                first.code,
                Held(chain.broker),
                target,
                received.get(target, {}),
                SEAL,
            )
            *_, done[target] = auditor.run()
    compare_published(first.places, list(done.values()))
    return done


def change(chain: OwnedChain, target: Target, offset: int, value: Callable[[bytes], bytes]) -> None:
    """Another record is at an offset of a stage's topic."""
    records = chain.broker.at(chain.place(target))
    record = records[offset]
    assert record is not None
    records[offset] = record._replace(value=value(record.value or b""))


def test_all_that_is_published_and_sent_is_equal(served: OwnedChain) -> None:
    done = audited(served)
    assert all(one.audit.first_difference is None for one in done.values())
    assert all(one.audit.checked == one.audit.equal for one in done.values())
    assert not any(one.audit.unchecked for one in done.values())
    compared = sum(one.audit.checked for one in done.values())
    sent = sum(len(out.sends) for _, out in served.refolded())
    assert compared == len(served.published()) + sent
    read = {target: len(served.records(target)) for target in served.targets}
    assert {target: one.audit.folded for target, one in done.items()} == read


def test_all_that_replicas_answer_and_are_sent_is_equal() -> None:
    chain = serve(replicated)
    done = audited(chain)
    assert all(one.audit.first_difference is None for one in done.values())
    assert all(one.audit.checked == one.audit.equal for one in done.values())
    compared = sum(one.audit.checked for one in done.values())
    sent = sum(len(values) for _, out in chain.refolded() for values in chain.sent(out).values())
    assert compared == len(chain.published()) + sent


def forge_newest_pool(chain: OwnedChain, more: int = 0) -> tuple[Place, int]:
    """The newest pool that came to a replica is another one, or comes once `more`; where, and its number."""
    replica = Target(chain.itinerary.serving, 0)
    sent = [(record.offset, decode_model_record(record.value)) for record in chain.records(replica)]
    pools = [(offset, one) for offset, one in sent if one.part is not None]
    offset, newest = pools[-1]
    activations = Activations(replicated.name, SEAL)
    activations.taken = newest.number - 1
    snapshot = [activations.take(one) for _, one in pools if one.number == newest.number][-1]
    assert snapshot is not None
    number, other = newest.number + more, snapshot._replace(labels=snapshot.labels + 1)
    forged = seal_snapshot(other, SEAL, replicated.name, number)
    part = PoolPart(sha256(forged).digest(), 0, 1, forged)
    value = encode_record(msgspec.structs.replace(newest, number=number, part=part))
    if more:
        chain.broker.add(chain.place(replica), None, value)
    else:
        change(chain, replica, offset, lambda _: value)
    return chain.place(replica), number


def test_a_pool_that_the_learner_does_not_give_is_found_where_it_came_to() -> None:
    chain = serve(replicated)
    place, number = forge_newest_pool(chain)
    audit = audited(chain)[Target(chain.itinerary.last, 0)].audit
    difference = audit.first_difference
    assert difference is not None
    assert (difference.topic, difference.partition) == place
    assert difference.field == f"pool {number} from examples/0"
    assert difference.log_offset < audit.folded


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_record_between_stages_that_is_another_is_found_where_it_lies(
    served: OwnedChain, stage: int
) -> None:
    target = Target(stage, 0)
    offset = served.records(target)[20].offset

    def altered(value: bytes) -> bytes:
        sent = decode_record(value)
        return encode_record(msgspec.structs.replace(sent, ordinal=sent.ordinal + 1))

    change(served, target, offset, altered)
    found = {one.target: one.audit.first_difference for one in audited(served).values()}
    [(writer, difference)] = [(target, one) for target, one in found.items() if one is not None]
    stage_record = decode_record(served.records(target)[20].value)
    assert writer == stage_record.writer
    assert (difference.topic, difference.partition) == served.place(target)
    assert "one of the records 1 to 64 from" in difference.field


def test_an_output_that_is_another_is_found_in_its_own_partition(served: OwnedChain) -> None:
    last = served.targets[-1]
    place = served.stages[-1].outputs(last.partition)["predictions"]
    (number, *_) = [n for n, record in enumerate(served.broker.at(place)) if record is not None]
    record = served.broker.at(place)[number]
    assert record is not None
    served.broker.at(place)[number] = record._replace(value=(record.value or b"").replace(b"0.", b"1.", 1))
    done = audited(served)
    difference = done[last].audit.first_difference
    assert difference is not None
    assert (difference.topic, difference.partition) == place
    assert sum(one.audit.first_difference is not None for one in done.values()) == 1


def test_a_record_between_stages_that_is_gone_is_missing(served: OwnedChain) -> None:
    target = Target(2, 0)
    served.broker.at(served.place(target))[served.records(target)[20].offset] = None
    with pytest.raises(StreamsError, match=r"are missing: the topic was truncated"):
        audited(served)


def test_what_a_stage_has_that_nobody_sent_is_a_difference(served: OwnedChain) -> None:
    target = Target(1, 0)
    *_, record = served.records(target)
    sent = decode_record(record.value)
    more = encode_record(msgspec.structs.replace(sent, number=sent.number + 1))
    served.broker.add(served.place(target), None, more)
    difference = audited(served)[Target(sent.stage, sent.partition)].audit.first_difference
    assert difference is not None
    assert (difference.verdict, difference.topic) == ("not recomputed", served.place(target).topic)


def traced(chain: OwnedChain, name: str) -> Lineage:
    first = chain.stages[0]
    return lineage(Held(chain.broker), on_two, first.topics, first.code, name, 3)


def test_a_prediction_is_followed_through_all_stages_back_to_the_events_behind_its_features(
    served: OwnedChain,
) -> None:
    found = traced(served, "s60:breaks")
    assert found.agrees
    assert [stop.topic for stop in found.stops] == [stage.topic for stage in served.stages]
    assert [stop.features for stop in found.stops] == [
        ("weight", "of_sender"),
        ("at_depot", "closings"),
        ("with_courier",),
        (),
    ]
    log = served.broker.at(Place(found.stops[0].topic, found.stops[0].partition))[found.stops[0].offset]
    assert log is not None
    assert b'"id":"s60"' in (log.value or b"")
    assert found.stops[-1].read == found.prediction.features
    assert found.status in ("labelled", "unlabelled", "void")
    with pytest.raises(StreamsError, match="no prediction 's999:breaks'"):
        traced(served, "s999:breaks")


def test_the_events_behind_a_value_are_those_of_the_stage_that_read_it(served: OwnedChain) -> None:
    found = traced(served, "s60:breaks")
    for stop, name in ((found.stops[1], "at_depot"), (found.stops[2], "with_courier")):
        value = found.features[name]
        assert value.count > 0
        for event in value.newest:
            record = served.broker.at(Place(stop.topic, stop.partition))[event.offset]
            assert record is not None
            sent = decode_record(record.value)
            assert f'"id":"{event.id}"'.encode() in sent.event
            assert event.offset < stop.offset
    assert found.features["of_sender"].count == found.prediction.features["of_sender"]


def test_a_feature_that_is_not_what_the_events_give_is_said(served: OwnedChain) -> None:
    before = traced(served, "s60:breaks")
    stop = before.stops[1]
    counted = before.features["at_depot"].newest[-1]
    change(
        served,
        stop.target,
        counted.offset,
        lambda value: value.replace(b'"weight":0.', b'"weight":1.', 1),
    )
    found = traced(served, "s60:breaks")
    assert not found.agrees
    assert [name for name, value in found.features.items() if not value.agrees] == ["at_depot"]


def test_what_a_model_had_learned_through_is_a_record_of_the_last_stage(served: OwnedChain) -> None:
    topic = served.stages[-1].outputs(0)["predictions"]
    answers = [msgspec.json.decode(r.value or b"", type=Prediction) for _, r in served.broker.data(topic)]
    [answer, *_] = [one for one in answers if one.model.learned_through >= 0]
    through = traced(served, answer.id).model.learned_through
    assert through is not None
    [record] = [r for r in served.records(served.targets[-1]) if r.offset == answer.model.learned_through]
    sent = decode_record(record.value)
    assert through.offset == record.offset
    assert (f'"id":"{through.id}"'.encode() in sent.event) == bool(sent.event)
