"""How long a case's topics are kept: as declared, and never shorter than an event is needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from math import inf, nan

import pytest
import shop

from driftline import DAY, HOUR, UseCase, count
from driftline.streams.errors import DeclarationError

LABEL = shop.orders.task.label


def kept(case: UseCase) -> dict[str, str]:
    return {spec.name.removeprefix("orders."): spec.config["retention.ms"] for spec in case.topics().all()}


def waiting(**label: float) -> UseCase:
    return replace(shop.orders, task=replace(shop.orders.task, label=replace(LABEL, **label)))


def test_topics_are_kept_for_thirty_days_and_what_is_sparse_for_ever() -> None:
    month = str(30 * 86_400_000)
    found = kept(shop.orders)
    assert {name for name, retention in found.items() if retention == "-1"} == {
        "models", "statistics", "anomalies",
    }  # fmt: skip
    assert {retention for retention in found.values() if retention != "-1"} == {month}


@pytest.mark.parametrize(
    ("declared", "retention_ms"),
    [(3 * DAY, "259200000"), (timedelta(days=3), "259200000"), (90 * DAY, "7776000000"), (inf, "-1")],
)
def test_a_case_declares_how_long_its_topics_are_kept(declared: float | timedelta, retention_ms: str) -> None:
    found = kept(replace(shop.orders, retention=declared))
    assert {found[name] for name in ("events", "predictions", "outcomes", "drift", "dead-letters")} == {
        retention_ms
    }


def test_labels_and_windows_that_need_events_for_longer_keep_topics_longer() -> None:
    month = replace(shop.orders, features={"asked_40d": count(shop.Asked, by="shop", over=40 * DAY)})
    assert kept(month)["events"] == str(41 * 86_400_000)
    late = waiting(wait=25 * DAY)  # and as long again for corrections
    assert kept(late)["events"] == str(51 * 86_400_000)
    assert kept(waiting(wait=25 * DAY, corrections=0))["events"] == str(30 * 86_400_000)


@pytest.mark.parametrize(
    ("case", "shortest"),
    [
        (waiting(wait=2 * DAY), 4 * DAY),
        (waiting(wait=2 * DAY, corrections=0), 2 * DAY),
        (replace(shop.orders, dedup_horizon=3 * DAY), 3 * DAY),
        (replace(shop.orders, dedup_horizon=3 * DAY, lateness=HOUR), 3 * DAY + HOUR),
        (replace(shop.orders, features={"n": count(shop.Asked, by="shop", over=5 * DAY)}), 5 * DAY),
    ],
)
def test_a_retention_that_is_over_before_an_event_is_needed_no_more_is_refused(
    case: UseCase, shortest: float
) -> None:
    replace(case, retention=shortest + 1)
    with pytest.raises(DeclarationError, match=r"orders: retention is .* but events are needed for"):
        replace(case, retention=shortest)


@pytest.mark.parametrize("nonsense", [0, -1.0, -inf, nan])
def test_what_is_no_time_is_refused(nonsense: float) -> None:
    with pytest.raises(DeclarationError, match="retention"):
        replace(shop.orders, retention=nonsense)


def test_another_retention_is_not_other_code() -> None:
    assert replace(shop.orders, retention=90 * DAY).spec_hash == shop.orders.spec_hash
