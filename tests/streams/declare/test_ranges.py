"""Valid ranges in the fold: reported once, treated as declared, never in the way."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import shop
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import kinds

from driftline import HOUR, UseCase, count, field, mean, on_demand, ratio
from driftline import max as maximum
from driftline.features.errors import FeatureDeclarationError
from driftline.streams.code.state_hash import state_hash
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.sources import LogRecord


def ranged(outside: str = "missing", **features: Any) -> UseCase:
    amount = field("amount", valid=(0, 10), outside=outside)
    return replace(shop.orders, partitions=1, features={"amount": amount, **features})


def records(amounts: list[float]) -> list[LogRecord]:
    codec = shop.orders.codec()
    events = [shop.asked(n, n, amount=amount) for n, amount in enumerate(amounts)]
    return [LogRecord(n, codec.key(event), codec.encode_trusted(event)) for n, event in enumerate(events)]


def letters(out: Outputs) -> list[tuple[int, str, str]]:
    return [
        (o.offset, dict(o.headers)["stage"].decode(), dict(o.headers)["reason"].decode())
        for o in out.dead_letters
    ]


def amounts(out: Outputs) -> list[Any]:
    return [json.loads(o.value)["features"].get("amount") for o in out.predictions]


def test_a_value_outside_is_missing_and_reported_when_it_begins() -> None:
    out = PartitionProcessor(ranged(), 0).step(records([1.0, 11.0, 12.0, 10.0, -1.0]))
    assert amounts(out) == [1.0, None, None, 10.0, None]
    assert letters(out) == [
        (1, "range", "feature 'amount': 11.0 is outside its valid range [0, 10]"),
        (4, "range", "feature 'amount': -1.0 is outside its valid range [0, 10]"),
    ]


def test_a_value_outside_may_be_kept_or_refuse_the_request() -> None:
    kept = PartitionProcessor(ranged("keep"), 0).step(records([11.0, 5.0]))
    assert amounts(kept) == [11.0, 5.0]
    assert [stage for _, stage, _ in letters(kept)] == ["range"]
    refused = PartitionProcessor(ranged("refuse"), 0).step(records([11.0, 5.0]))
    assert amounts(refused) == [5.0]
    assert letters(refused) == [(0, "features", "feature 'amount': 11.0 is outside its valid range [0, 10]")]


def test_what_is_computed_from_a_value_outside_is_missing_too() -> None:
    declared = ranged(
        total=maximum(shop.Asked, "amount", by="shop", over=HOUR, valid=(None, 9)),
        share=ratio("amount", "total", valid=(0, 1)),
        odd=on_demand(lambda share: share * 2, of="share"),
    )
    out = PartitionProcessor(declared, 0).step(records([4.0, 2.0, 8.0, 10.0, 1.0]))
    features = [json.loads(o.value)["features"] for o in out.predictions]
    assert [x.get("share") for x in features] == [None, 0.5, None, None, None]
    assert [x.get("odd") for x in features] == [None, 1.0, None, None, None]
    assert [(at, reason.split(":")[0]) for at, _, reason in letters(out)] == [
        (2, "feature 'share'"),
        (4, "feature 'total'"),
    ]


def test_code_that_raises_at_the_read_is_a_dead_letter() -> None:
    declared = ranged(f=on_demand(lambda amount: 1 / amount, of="amount"))
    out = PartitionProcessor(declared, 0).step(records([0.0, 4.0]))
    assert len(out.predictions) == 1
    ((offset, stage, reason),) = letters(out)
    assert (offset, stage) == (0, "features")
    assert "feature 'f': its function raised" in reason
    assert "ZeroDivisionError" in reason


def test_a_range_from_high_to_low_and_an_unknown_consequence_are_refused() -> None:
    with pytest.raises(FeatureDeclarationError, match="from low to high"):
        field("amount", valid=(1, 0))
    with pytest.raises(FeatureDeclarationError, match="outside: expected"):
        mean(shop.Asked, "amount", by="shop", over=HOUR, valid=(0, 1), outside="explode")
    with pytest.raises(FeatureDeclarationError, match='declare outside="keep"'):
        count(shop.Asked, by="shop", over=HOUR, valid=(0, 9))


steps = st.lists(
    st.tuples(
        st.booleans(), st.integers(-9, 9), st.integers(0, 3), st.sampled_from([-1.0, 0.0, 0.3, 2.0, 50.0])
    ),
    min_size=1,
    max_size=50,
)


def log(drawn: list[tuple[bool, int, int, float]]) -> list[LogRecord]:
    """Events of every kind, disordered within the lateness of `kinds`."""
    codec = kinds.codec()
    found = []
    minute = 0.0
    for number, (asks, late, ahead, value) in enumerate(drawn):
        minute += ahead
        at = minute + min(late, 0)
        event = (
            shop.asked(number, at, order=f"o{number % 5}", amount=value, product=f"p{number % 3}")
            if asks
            else shop.settled(number, at, order=f"o{number % 5}", bad=value)
        )
        found.append(LogRecord(number, codec.key(event), codec.encode_trusted(event)))
    return found


def everything(out: Outputs) -> list[Any]:
    return [
        (o.offset, o.ordinal, o.value, o.headers)
        for o in (*out.predictions, *out.outcomes, *out.dead_letters)
    ]


@settings(max_examples=50)
@given(steps, st.integers(1, 7), st.integers(0, 50))
def test_every_kind_of_feature_is_the_same_in_any_chunks_and_after_a_restore(
    drawn: list[tuple[bool, int, int, float]], chunk: int, cut: int
) -> None:
    events = log(drawn)
    whole = PartitionProcessor(kinds, 0, rows=True)
    out = whole.step(events)
    parts = PartitionProcessor(kinds, 0, rows=True)
    pieces = Outputs()
    for start in range(0, len(events), chunk):
        pieces.extend(parts.step(events[start : start + chunk]))
        if start <= cut < start + chunk:
            parts = PartitionProcessor.restored(kinds, 0, parts.snapshot(), rows=True)
    assert everything(pieces) == everything(out)
    assert pieces.rows == out.rows
    assert state_hash(parts.intake.state()) == state_hash(whole.intake.state())
    again = PartitionProcessor.restored(kinds, 0, whole.snapshot(), rows=True)
    assert state_hash(again.intake.state()) == state_hash(whole.intake.state())
