"""A chain of the payments gives figures close to those of one fold, as far as a model does at all."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from random import Random
from typing import Any

import msgspec
from parcels import payments_on_4

from driftline import Event
from driftline.examples.payments import payments
from driftline.streams.fold.processor import PartitionProcessor, summarize
from driftline.streams.simulation.sources import layout, open_source, with_closing_clock
from driftline.streams.stages.chain import Chain

EVENTS = 6000
CLOSE = 0.002
METRICS = ("roc_auc", "log_loss", "brier")
MINUTE = 60.0
Models = dict[str, dict[str, Any]]


def source() -> list[Event]:
    return list(open_source(payments, None, EVENTS))


def a_little_later() -> list[Event]:
    """The source with each event up to a minute later, in the order of time."""
    random = Random(0)
    moved = [
        msgspec.structs.replace(event, at=event.at + timedelta(seconds=random.uniform(0.0, MINUTE)))
        for event in source()
    ]
    return sorted(moved, key=lambda event: event.at)


def one_fold(events: Iterable[Event]) -> Models:
    fold = PartitionProcessor(payments, 0)
    fold.step([record for _, record in layout(payments, with_closing_clock(payments, events), 1)])
    return summarize([fold]).models


@cache
def in_one_fold() -> Models:
    return one_fold(source())


@cache
def in_a_chain() -> Models:
    """In the order of the source: a broker appends in one that is close to it."""
    chain = Chain(payments_on_4, 4)
    for partition, record in layout(payments_on_4, with_closing_clock(payments_on_4, source()), 4):
        for _ in chain.step(partition, record):
            pass
    return chain.summary().models


def apart(one: Models, other: Models, member: str) -> float:
    """The largest difference of a member's metrics."""
    return max(abs(one[member][metric] - other[member][metric]) for metric in METRICS)


def test_the_champion_of_a_chain_is_as_good_as_in_one_fold() -> None:
    assert in_a_chain()["logistic"]["n"] == in_one_fold()["logistic"]["n"]
    assert apart(in_a_chain(), in_one_fold(), "logistic") <= CLOSE


def test_a_member_answers_the_same_share_of_the_requests_in_a_chain() -> None:
    assert in_a_chain()["trees"]["n"] == in_one_fold()["trees"]["n"]


def test_what_a_tree_is_worth_hangs_on_seconds_in_one_fold_too() -> None:
    """So it is no measure of a chain: events that come a little later give other splits."""
    moved = one_fold(a_little_later())
    assert apart(moved, in_one_fold(), "logistic") <= CLOSE
    assert apart(moved, in_one_fold(), "trees") > 10 * CLOSE
