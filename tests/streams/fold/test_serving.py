"""What serves: promotions in the fold, as the topics tell of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from shop import Asked, Constant, Settled, asked, features, logistic, orders, settled

from driftline import HOUR, Event, Label, Member, PerKey, Promotion, Regression, Shared, UseCase
from driftline.online_models.pool.report import merged_report
from driftline.streams.clients.schema import topic_schemas
from driftline.streams.fold.processor import PartitionProcessor, summarize
from driftline.streams.records.outputs import KINDS
from driftline.streams.simulation.sources import LogRecord
from tests.streams.fold.restarts import folded_with_restarts

RULES = Promotion(min_labels=50, warm_up=0)


def promoting(**changes: Any) -> UseCase:
    members = PerKey(Member("constant", Constant), [Member("logistic", logistic)], promotion=RULES)
    given = {"partitions": 1, "models": members, "slices": ["shop", "product"], "features": features}
    return replace(orders, **given | changes)


def trade(number: int) -> Iterator[Event]:
    """Orders of one shop that turn out bad when their amount is high, known half a minute later."""
    for n in range(number):
        yield asked(n, n, product="pq"[n % 2])
        yield settled(n, n + 0.5)


def records(case: UseCase, events: Iterator[Event]) -> list[LogRecord]:
    codec = case.codec()
    return [
        LogRecord(offset, codec.key(event), codec.encode(event))  # type: ignore[arg-type]
        for offset, event in enumerate(events)
    ]


def decoded(outputs: Sequence[Any]) -> list[dict[str, Any]]:
    return [json.loads(output.value) for output in outputs]


def test_a_promotion_is_reported_with_its_evidence_and_predictions_name_what_serves() -> None:
    case = promoting()
    processor = PartitionProcessor(case, 0)
    out = processor.step(records(case, trade(600)))
    (promotion,) = [change for change in decoded(out.models) if change["kind"] == "promotion"]
    assert (promotion["member"], promotion["serving"], promotion["stage"]) == (
        "logistic",
        "logistic",
        "promotion",
    )
    evidence = promotion["evidence"]
    assert evidence["against"] == "constant"
    assert evidence["n"] >= 50
    assert {(entry["slice"], entry["value"]) for entry in evidence["slices"]} <= {
        *(("product", "p"), ("product", "q"), ("shop", "s"))
    }
    offset = promotion["offset"]
    for output, prediction in zip(out.predictions, decoded(out.predictions), strict=True):
        name, _, position = prediction["model"]["version"].partition("@0:")
        assert name == ("logistic" if output.offset > offset else "constant")
        assert int(position) == prediction["model"]["learned_through"] == output.offset - 1
    models = summarize([processor]).models
    assert {name: model["serving"] for name, model in models.items()} == {
        "constant": 0,
        "logistic": 1,
        "frozen": 0,
        "prior": 0,
    }


@pytest.mark.parametrize("cut", [1, 7, 250])
def test_promotions_come_at_the_same_record_however_the_records_are_cut(cut: int) -> None:
    case = promoting()
    log = records(case, trade(300))
    expected = PartitionProcessor(case, 0).step(log)
    assert any(change["kind"] == "promotion" for change in decoded(expected.models))
    found = folded_with_restarts(case, log, cut)
    assert all(getattr(found, kind) == getattr(expected, kind) for kind in KINDS)


def test_a_change_without_evidence_says_nothing_of_it() -> None:
    case = replace(promoting(), models=PerKey(Member("constant", Constant), frozen_after=5))
    out = PartitionProcessor(case, 0).step(records(case, trade(10)))
    assert [change["kind"] for change in decoded(out.models)] == ["frozen"]
    assert "evidence" not in decoded(out.models)[0]


def test_the_schema_of_the_models_topic_has_the_evidence() -> None:
    schema = topic_schemas(orders)["orders.models"]
    assert set(schema["$defs"]) >= {"ModelEvent", "Evidence", "SliceGain"}
    assert "evidence" not in schema["$defs"]["ModelEvent"]["required"]


class Middle:
    """An estimator of numbers that learns nothing."""

    def learn_one(self, x: dict[str, Any], y: float) -> None: ...

    def predict_one(self, x: dict[str, Any]) -> float:
        return 3.0


def test_a_prediction_of_a_number_has_its_interval_and_the_share_held_so_far() -> None:
    label = Label(Settled, on="order", value=lambda e: 6.0 * e.bad, wait=HOUR)
    task = Regression("bad", ask=Asked, label=label, coverage=0.8)
    case = promoting(task=task)
    case = replace(case, models=PerKey(Member("middle", Middle), monitoring=None))
    log = records(case, trade(60))
    out = PartitionProcessor(case, 0).step(log)
    found = decoded(out.predictions)
    assert all("interval" not in prediction for prediction in found[:20])
    assert found[-1]["interval"] == {"low": 0.0, "high": 6.0, "coverage": 0.8, "held": 1.0}
    assert folded_with_restarts(case, log).predictions == out.predictions


def test_shared_models_are_one_pool_whatever_the_keys() -> None:
    def folded(models: PerKey) -> PartitionProcessor:
        case = replace(orders, partitions=1, models=models)
        processor = PartitionProcessor(case, 0)
        events = [
            event
            for n in range(60)
            for event in (asked(n, n, shop=f"s{n % 3}"), settled(n, n + 0.5, shop=f"s{n % 3}"))
        ]
        codec = case.codec()
        log = [LogRecord(n, codec.key(event), codec.encode(event)) for n, event in enumerate(events)]
        out = processor.step(log)
        assert {output.key for output in out.predictions} == {b"s0", b"s1", b"s2"}
        return processor

    shared = folded(Shared(Member("logistic", logistic)))
    assert list(shared.learner.pools) == [""]
    report = merged_report(shared.learner.pools.values())
    assert report["logistic"]["n"] == 60
    again = PartitionProcessor.restored(shared.case, 0, shared.snapshot())
    assert merged_report(again.learner.pools.values()) == report
    per_key = folded(PerKey(Member("logistic", logistic)))
    assert {key: merged_report([pool])["logistic"]["n"] for key, pool in per_key.learner.pools.items()} == {
        "s0": 20, "s1": 20, "s2": 20,
    }  # fmt: skip
