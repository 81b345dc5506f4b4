"""Anomaly scores: members learn from features alone, with labels or without."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from shop import Asked, Settled, asked, orders, settled

from driftline import HOUR, MINUTE, Anomaly, Event, Label, Member, PerKey, UseCase, field
from driftline.online_models.errors import ModelsError
from driftline.streams.fold.processor import PartitionProcessor, summarize
from driftline.streams.records.outputs import KINDS
from driftline.streams.simulation.sources import LogRecord
from tests.streams.fold.restarts import folded_with_restarts


def is_bad(event: Any) -> bool:
    return bool(event.bad > 0.5)


def half_space_trees() -> Any:
    from river import anomaly, preprocessing

    return preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=10, height=6, window_size=50, seed=7)


class Counts:
    """An estimator that says how many requests it has learned from, and knows no labels."""

    def __init__(self) -> None:
        self.learned = 0

    def learn_one(self, x: dict[str, Any]) -> None:
        self.learned += 1

    def score_one(self, x: dict[str, Any]) -> float:
        return self.learned / 1_000


LABELLED = Anomaly("odd", ask=Asked, label=Label(Settled, on="order", value=is_bad, wait=HOUR))
UNLABELLED = Anomaly("odd", ask=Asked, wait=10 * MINUTE)


def case(task: Anomaly, build: Any = Counts) -> UseCase:
    models = PerKey(Member("counts", build))
    return replace(orders, task=task, models=models, features={"amount": field("amount")}, partitions=1)


def trade(number: int, labels: bool) -> Iterator[Event]:
    """Orders of much the same amount, but for every twentieth, which is bad."""
    rng = random.Random(1)
    for n in range(number):
        is_odd = n % 20 == 19
        yield asked(n, n, amount=rng.gauss(5.0, 0.5) + (20.0 if is_odd else 0.0))
        if labels:
            yield settled(n, n + 0.5, bad=float(is_odd))


def records(declared: UseCase, events: Iterator[Event]) -> list[LogRecord]:
    codec = declared.codec()
    return [
        LogRecord(offset, codec.key(event), codec.encode(event))  # type: ignore[arg-type]
        for offset, event in enumerate(events)
    ]


def test_with_labels_anomalies_are_detected_and_scored_by_them() -> None:
    declared = case(LABELLED, half_space_trees)
    processor = PartitionProcessor(declared, 0)
    out = processor.step(records(declared, trade(600, labels=True)))
    model = summarize([processor]).models["counts"]
    assert (model["n"], model["live"]) == (600, True)
    assert model["roc_auc"] > 0.8
    last = json.loads(out.predictions[-1].value)
    assert last["probabilities"] is None
    assert 0.0 < last["prediction"] <= 1.0


def test_what_is_labelled_an_anomaly_is_not_learned_from() -> None:
    declared = case(LABELLED)
    processor = PartitionProcessor(declared, 0)
    processor.step(records(declared, trade(100, labels=True)))
    assert processor.learner.pools["s"].predict({})[0].output == 0.095


def test_without_labels_a_request_is_learned_from_when_its_wait_is_over() -> None:
    declared = case(UNLABELLED)
    out = PartitionProcessor(declared, 0).step(records(declared, trade(30, labels=False)))
    found = [json.loads(output.value) for output in out.predictions]
    assert [prediction["prediction"] for prediction in found] == [
        max(0, n - 11 + 1) / 1_000 for n in range(30)
    ]
    assert [prediction["model"]["version"] for prediction in found[10:13]] == [
        "counts@0:-1",
        "counts@0:11",
        "counts@0:12",
    ]
    outcomes = [json.loads(output.value) for output in out.outcomes]
    assert {outcome["status"] for outcome in outcomes} == {"unlabelled"}


def test_a_label_after_the_wait_corrects_the_outcome_and_teaches_nothing() -> None:
    declared = case(LABELLED)
    events = [asked(0, 0), asked(1, 70), settled(0, 71, bad=0.0), asked(2, 72)]
    out = PartitionProcessor(declared, 0).step(records(declared, iter(events)))
    assert [json.loads(output.value)["status"] for output in out.outcomes] == ["unlabelled", "labelled"]
    assert json.loads(out.predictions[-1].value)["prediction"] == 0.001


@pytest.mark.parametrize("task", [LABELLED, UNLABELLED])
def test_steps_and_restarts_change_nothing(task: Anomaly) -> None:
    declared = case(task, half_space_trees)
    log = records(declared, trade(80, labels=task is LABELLED))
    expected = PartitionProcessor(declared, 0).step(log)
    found = folded_with_restarts(declared, log)
    assert all(getattr(found, kind) == getattr(expected, kind) for kind in KINDS)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ModelsError, match="either a label or a wait"):
        Anomaly("odd", ask=Asked)
    with pytest.raises(ModelsError, match="either a label or a wait"):
        replace(LABELLED, wait=1.0)
    assert replace(UNLABELLED, name="other").label == UNLABELLED.label
    weighted = PerKey(Member("counts", Counts, sampling={True: 0.5}))
    with pytest.raises(ModelsError, match="learn from labels"):
        PartitionProcessor(replace(case(LABELLED), models=weighted), 0)
