"""Replicas answer as the learner's pool was when it was published, and what they answer is learned from."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from parcels import Share, events, parcels, replicated

from driftline import Anomaly, DeclarationError, Member, ModelDeclarationError, Shared, UseCase
from driftline.online_models.pool.pool import PoolState
from driftline.online_models.pool.replica import PoolSnapshot
from driftline.online_models.pool.roster import RosterState
from driftline.online_models.tasks.baselines import RunningPrior
from driftline.streams.between.activations import Activations, seal_snapshot
from driftline.streams.between.sender import Sender
from driftline.streams.between.stage_record import ModelRecord, PoolPart, Writer, decode_model_record
from driftline.streams.between.writers import RecordsLost
from driftline.streams.errors import Unauthentic
from driftline.streams.fold.learner_input import Turn
from driftline.streams.records.messages import ModelEvent, Outcome, Prediction
from driftline.streams.records.outputs import Output, Outputs, Target
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import laid_out, with_closing_clock
from driftline.streams.stages.chain import Chain
from driftline.streams.stages.last_stage import LastStage
from driftline.streams.stages.publication import Publication
from tests.streams.owner.owned_chain import SEAL
from tests.streams.stages.delivery import Delivery, labels_of
from tests.streams.stages.test_chain import in_one_partition


def publishing(every: int | timedelta, replicas: int = 2) -> UseCase:
    """Parcels, whose pool is published so often."""
    return replace(parcels, models=Shared(Member("share", Share), replicas=replicas, publish_every=every))


def folded(case: UseCase, partitions: int = 1, number: int = 150) -> tuple[Chain, dict[Target, Outputs]]:
    """A case folded in the order of its events, and what each partition of each stage put out."""
    chain = Chain(case, partitions)
    out: dict[Target, Outputs] = {}
    happened = with_closing_clock(case, events(number))
    for partition, record in laid_out(case, happened, partitions, chain.itinerary.entry):
        for step in chain.step(partition, record):
            out.setdefault(Target(step.stage, step.partition), Outputs()).extend(step.outputs)
    return chain, out


def predictions(out: dict[Target, Outputs]) -> dict[str, Prediction]:
    """All answers, by their request."""
    step = [output for one in out.values() for output in one.predictions]
    decoded = [msgspec.json.decode(output.value, type=Prediction) for output in step]
    return {prediction.event_id: prediction for prediction in decoded}


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_pool_that_is_published_with_each_label_answers_as_the_only_one_does(partitions: int) -> None:
    _, alone = folded(parcels, 2)
    chain, out = folded(publishing(1, replicas=3), partitions)
    serving = chain.itinerary.serving
    assert {target.stage for target, one in out.items() if one.predictions} == {serving}
    assert len([target for target, one in out.items() if one.predictions]) == 3
    # two partitions and three tell the time in other steps: where labels had come by then, all is the same
    answers, expected = predictions(out), predictions(alone)
    assert answers.keys() == expected.keys()
    assert sum(answers[name].prediction == expected[name].prediction for name in answers) > len(answers) // 2
    assert all(answers[name].features == expected[name].features for name in answers)


def test_an_answer_is_that_of_the_learner_at_the_label_that_it_names() -> None:
    case = publishing(10)
    chain = Chain(case, 1)
    shares: dict[int, float] = {}
    out: dict[Target, Outputs] = {}
    for partition, record in laid_out(case, with_closing_clock(case, events(150)), 1, chain.itinerary.entry):
        for step in chain.step(partition, record):
            out.setdefault(Target(step.stage, step.partition), Outputs()).extend(step.outputs)
            if step.stage == chain.itinerary.last and (pools := chain.stages[-1][0].pools()):
                shares[pools[0].learned_through] = pools[0].predict({})[0].output
    answers = list(predictions(out).values())
    assert len({answer.model.learned_through for answer in answers}) > 5
    for answer in answers:
        through = answer.model.learned_through
        assert answer.model.version == f"share@0:{through}"
        assert answer.probabilities is not None
        assert answer.probabilities["true"] == (shares[through] if through >= 0 else 0.5)


def test_a_pool_is_published_after_1_2_4_labels_and_then_every_so_many() -> None:
    chain = Chain(publishing(16), 1)
    happened = with_closing_clock(parcels, events(150))
    counts = [0]
    for partition, record in laid_out(parcels, happened, 1, chain.itinerary.entry):
        for step in chain.step(partition, record):
            if step.stage == chain.itinerary.last and step.outputs.sends:
                counts.append(chain.stages[-1][0].pools()[0].labels)
    # one record may make several labels known
    assert all(after - before >= min(16, max(1, before)) for before, after in pairwise(counts)), counts
    assert counts[1] < counts[2] < 16


def test_by_time_a_pool_is_published_when_so_much_has_passed_and_something_was_learned() -> None:
    _, out = folded(publishing(timedelta(minutes=2)))
    sent = [decode_model_record(send.value) for send in out[max(out)].sends]
    times = sorted({one.watermark for one in sent})
    assert len(sent) == 2 * len(times)
    assert all(after - before >= 120.0 for before, after in pairwise(times))
    assert len(times) >= 4


def test_a_learner_is_asked_for_nothing_by_records_that_only_tell_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    learn = LastStage._learn_and_publish

    def counted(stage: LastStage, publication: Publication, turn: Turn) -> None:
        asked.append(len(turn.work))
        learn(stage, publication, turn)

    monkeypatch.setattr(LastStage, "_learn_and_publish", counted)
    folded(publishing(16))
    assert asked
    assert 0 not in asked
    asked.clear()
    folded(publishing(timedelta(minutes=2)))
    assert 0 in asked  # by time, a pool may be due


def test_a_simulation_with_replicas_gives_the_same_each_time_and_all_of_a_case() -> None:
    first, again = (simulate(publishing(5), limit=240) for _ in range(2))
    assert first["digests"] == again["digests"]
    assert first["predictions"] > 100
    assert first["labelled"] + first["unlabelled"] + first["void"] == first["predictions"]
    stale = simulate(publishing(10_000), limit=240)
    assert stale["digests"]["predictions"] != first["digests"]["predictions"]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_meets_in_which_order_and_whoever_crashes_each_request_is_answered_once(seed: int) -> None:
    chain = Chain(replicated, 2)
    delivery = Delivery(chain, seed)
    happened = with_closing_clock(replicated, events(100, seed))
    for partition, record in laid_out(replicated, happened, 2, chain.itinerary.entry):
        delivery.write(partition, record.key, record.value)
    delivery.run(crashes=14)
    assert delivery.torn == []
    published = delivery.published()
    assert Counter(p.event_id for p in published.predictions) == {f"s{i}": 1 for i in range(100)}
    outcomes = [msgspec.json.decode(o.value, type=Outcome) for o in in_one_partition(100, seed).outcomes]
    assert labels_of(published.outcomes) == labels_of(outcomes)


def test_a_restored_stage_goes_on_as_the_one_that_was_snapshotted() -> None:
    whole, expected = folded(replicated, 2, 80)
    for place in expected:
        assert _again(whole, place, expected[place])


def _again(whole: Chain, place: Target, expected: Outputs) -> list[Output] | bool:
    chain, out = Chain(replicated, 2), Outputs()
    happened = with_closing_clock(replicated, events(80))
    for partition, record in laid_out(replicated, happened, 2, chain.itinerary.entry):
        for step in chain.step(partition, record):
            if Target(step.stage, step.partition) == place:
                out.extend(step.outputs)
        fold = chain.stages[place.stage][place.partition]
        fold.restore(pickle.loads(fold.snapshot()))
    kinds = ("predictions", "outcomes", "models", "drift", "dead_letters")
    return all(getattr(out, kind) == getattr(expected, kind) for kind in kinds)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"replicas": -1}, "replicas"),
        ({"replicas": 2, "publish_every": 0}, "publish_every must be a number of labels from 1 on"),
        ({"replicas": 2, "publish_every": timedelta(0)}, "or a timedelta above 0"),
    ],
)
def test_what_cannot_be_published_so_is_refused_at_the_declaration(
    arguments: dict[str, int | timedelta], wrong: str
) -> None:
    with pytest.raises(ModelDeclarationError, match=wrong):
        Shared(Member("share", Share), **arguments)  # type: ignore[arg-type]


def parts(learned_through: int, number: int, size: int = 200) -> list[ModelRecord]:
    """A pool as an owner of the learner publishes it: in two parts or more."""
    sender = Sender(Writer(2, 0), [Target(1, 0)], 1.0)
    state = PoolState(RosterState([], None), RunningPrior("binary"), learned_through)
    sealed = seal_snapshot(PoolSnapshot(state, 1, 0.0), SEAL, "parcels", number)
    pieces = [sealed[at : at + size] for at in range(0, len(sealed), size)]
    assert len(pieces) > 1
    sender.publish(sealed)
    [whole] = [decode_model_record(send.value) for send in sender.take()]
    assert whole.part is not None
    cut = [PoolPart(whole.part.whole, index, len(pieces), piece) for index, piece in enumerate(pieces)]
    return [msgspec.structs.replace(whole, number=number, part=part) for part in cut]


def taken(activations: Activations, records: list[ModelRecord]) -> list[int]:
    """What the pools that these records make whole have learned through."""
    pools = [activations.take(record) for record in records]
    return [pool.state.learned_through for pool in pools if pool is not None]


def test_parts_of_two_owners_are_not_put_together_and_the_first_whole_counts() -> None:
    activations = Activations("parcels", SEAL)
    dead, alive = parts(7, 1), parts(8, 1)  # of one number: their bytes differ, as those of equal pools may
    assert taken(activations, dead[:-1]) == []
    assert taken(activations, alive) == [8]
    assert taken(activations, dead[-1:]) == []
    assert taken(activations, parts(9, 2)) == [9]
    with pytest.raises(RecordsLost, match=r"pools 3 to 3 that the learner has published are missing"):
        taken(activations, parts(9, 4))


def test_a_pool_that_nobody_with_the_key_has_sealed_is_never_unpickled() -> None:
    record = parts(7, 1, size=100)
    last = record[-1]
    assert last.part is not None
    forged = msgspec.structs.replace(last.part, content=last.part.content[:-1] + b"!")
    with pytest.raises(Unauthentic, match="altered"):
        taken(Activations("parcels", SEAL), [*record[:-1], msgspec.structs.replace(last, part=forged)])
    with pytest.raises(Unauthentic, match="sealed under another label"):
        taken(Activations("others", SEAL), record)


def test_an_anomaly_task_has_no_replicas() -> None:
    label = parcels.task.label
    with pytest.raises(DeclarationError, match="anomaly scores are ranked among all scores"):
        replace(
            parcels,
            task=Anomaly("odd", ask=parcels.task.ask, label=label),
            models=Shared(Member("share", Share), replicas=2),
        )


class Breaking(Share):
    """A member that fails to answer every request."""

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        raise ValueError("it broke")


def test_a_member_that_fails_in_a_replica_is_put_in_quarantine_by_the_learner() -> None:
    models = Shared(Member("bad", Breaking), [Member("share", Share)], replicas=2, publish_every=50)
    chain, out = folded(replace(parcels, models=models))
    changes = [
        msgspec.json.decode(o.value, type=ModelEvent) for o in out[Target(chain.itinerary.last, 0)].models
    ]
    assert [(one.kind, one.member) for one in changes][:2] == [("failing", "bad"), ("quarantine", "bad")]
    assert "it broke" in changes[0].reason
    assert {one.model.name for one in predictions(out).values()} <= {"share", "prior"}
    pools = chain.stages[chain.itinerary.serving][0].state().work.pool
    assert not pools.roster.seats[0].live  # published at once, and not with the next fifty labels
