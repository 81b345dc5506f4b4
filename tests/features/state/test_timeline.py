"""The timeline: what a point-in-time join finds in it is what the fold read, and nothing from later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import shop
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline import (
    HOUR,
    Event,
    UseCase,
    count,
    decayed,
    difference,
    distinct,
    field,
    first,
    lag,
    latest,
    max,
    mean,
    min,
    rate,
    ratio,
    since,
    std,
    sum,
)
from driftline.features.declare.on_demand import AT, evaluation
from driftline.features.state.timeline import MICROSECONDS, Timeline, TimelineRequest, TimelineRow, expiry
from driftline.streams.declare.events import Clock
from driftline.streams.fold.intake import Intake
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.sources import LogRecord

MINUTE = 60.0
case = replace(
    shop.orders,
    partitions=1,
    features={
        "amount": field("amount"),
        "asked": count(shop.Asked, by="shop", over=10 * MINUTE),
        "total": sum(shop.Asked, "amount", by="shop", over=3 * MINUTE),
        "bad": mean(shop.Settled, "bad", by="shop", over=5 * MINUTE),
        "spread": std(shop.Settled, "bad", by=("shop", "order"), over=5 * MINUTE),
        "worst": max(shop.Settled, "bad", by=("shop", "order"), over=7 * MINUTE),
        "best": min(shop.Settled, "bad", by=("shop", "order"), over=0.1 * MINUTE),
        "newest": latest(shop.Settled, "bad", by=("shop", "order"), ttl=2 * MINUTE),
        "pace": rate(shop.Settled, by=("shop", "order"), over=0.3),
        "early": first(shop.Settled, "bad", by=("shop", "order"), over=4 * MINUTE),
        "previous": lag(shop.Settled, "bad", 2, by="shop", over=5 * MINUTE),
        "fading": decayed(shop.Asked, "amount", by="shop", half_life=MINUTE, over=6 * MINUTE),
        "different": distinct(shop.Settled, "bad", by="shop", over=5 * MINUTE, most=2),
        "quiet": since(shop.Settled, by=("shop", "order"), over=5 * MINUTE),
        "positive": mean(shop.Asked, "amount", by="shop", over=8 * MINUTE, valid=(0, None)),
        "gap": difference("worst", "best"),
        "pressure": ratio("asked", "quiet"),
        "balance": ratio("positive", "asked", valid=(0.5, 5)),
    },
)

NARROW = {
    "amount": field("amount"),
    "bad": mean(shop.Settled, "bad", by=("shop", "order"), over=5 * MINUTE),
    "asked": max(shop.Asked, "amount", by="shop", over=5 * MINUTE),
}
"""A view's only window each, so that the ttl ends with it, and of values that often are the same."""


STEPPED = {
    "amount": field("amount"),
    "asked": count(shop.Asked, by="shop", over=10 * MINUTE, resolution=5 * MINUTE),
    "bad": mean(shop.Settled, "bad", by=("shop", "order"), over=5 * MINUTE, resolution=MINUTE),
    "worst": max(shop.Settled, "bad", by=("shop", "order"), over=2 * MINUTE),
    "total": sum(shop.Asked, "amount", by="order", over=5 * MINUTE, resolution=5 * MINUTE),
}
"""Windows in steps, beside others and alone."""


class Step:
    """What one record of the log caused."""

    def __init__(self, rows: list[TimelineRow], requests: list[TimelineRequest]) -> None:
        self.rows = rows
        self.requests = requests


def folded(declared: UseCase, events: Sequence[Event]) -> list[Step]:
    timeline = Timeline(declared.feature_state(), declared.views())
    intake = Intake(declared, timeline, 0)
    codec = declared.codec()
    steps = []
    for offset, event in enumerate(events):
        intake.fold([LogRecord(offset, codec.key(event), codec.encode_trusted(event))], Outputs())
        steps.append(Step(timeline.rows, timeline.requests))
        timeline.rows, timeline.requests = [], []
    return steps


def joined(declared: UseCase, rows: Sequence[TimelineRow], request: TimelineRequest) -> dict[str, Any]:
    """What a point-in-time join gives a request: the newest row of its key within the view's ttl."""
    found = {}
    for view in declared.views():
        keys = tuple(str(getattr(request.request, name)) for name in view.keys)
        since = request.stamp - view.ttl * MICROSECONDS
        seen = [
            r for r in rows if (r.view, r.keys) == (view.name, keys) and since <= r.stamp <= request.stamp
        ]
        values = seen[-1].values if seen else {}
        for name, window in view.features.items():
            value = values.get(name, window.empty)
            if value is not None:
                found[name] = value
    asked = found | {AT: request.at / MICROSECONDS}
    for on_demand in declared.on_demand_views():
        computed = evaluation(on_demand.steps, on_demand.unseen)(asked)
        found |= {name: value for name, value in computed.items() if name in on_demand.features}
    return {name: value for name, value in found.items() if name in declared.features}


@st.composite
def logs(draw: st.DrawFn, disorder: int) -> list[Event]:
    """Events of two shops and three orders, many at the same moment, up to `disorder` seconds late."""
    steps = st.sampled_from(
        [0.0, 0.0, 0.0, 0.1, 0.3, 1.0, 6.0, 60.0, 120.0, 299.999999, 300.0, 599.999999, 600.0]
    )
    events: list[Event] = []
    now = 0.0
    for number in range(draw(st.integers(1, 25))):
        now += draw(steps)
        at = now - (draw(st.integers(0, disorder)) if disorder else 0)
        fields = {
            "id": f"e{number}",
            "at": shop.START + timedelta(seconds=at),
            "order": draw(st.sampled_from(["a", "b", "c"])),
            "shop": draw(st.sampled_from(["s", "w"])),
        }
        number_drawn = draw(st.sampled_from([0.0, 0.1, 1.0, -3.5]))
        if draw(st.booleans()):
            events.append(shop.Asked(**fields, amount=number_drawn))
        else:
            events.append(shop.Settled(**fields, bad=number_drawn))
    return events


@st.composite
def logs_with_events_ahead(draw: st.DrawFn) -> list[Event]:
    """A minute in which time is as given, and then events whose values are mostly the same: of three orders,
    some nearly a window ahead of those that follow, or on the very edge of one."""
    pieces = st.tuples(
        st.sampled_from([1.0, 0.0, 30.0, 60.0, 100.0, 299.999999]),
        st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.0, 100.0, 200.0, 290.0]),
        st.sampled_from("abc"),
        st.sampled_from([0.0, 0.0, 0.0, 1.0]),
        st.booleans(),
    )
    steady = [(1.0, 0.0, "b", 0.0, False)] * 60
    events: list[Event] = []
    now = 0.0
    for number, (step, ahead, order, value, asks) in enumerate(
        steady + draw(st.lists(pieces, min_size=16, max_size=24))
    ):
        now += step
        at = shop.START + timedelta(seconds=now + ahead)
        fields = {"id": f"e{number}", "at": at, "order": order, "shop": "s"}
        events.append(shop.Asked(**fields, amount=value) if asks else shop.Settled(**fields, bad=value))
    return events


def windows_of(declared: UseCase, request: TimelineRequest) -> dict[str, Any]:
    """The windowed features that a request read."""
    names = {name for view in [*declared.views(), *declared.on_demand_views()] for name in view.features}
    return {name: value for name, value in request.x.items() if name in names}


def assert_joined_as_read(declared: UseCase, events: list[Event]) -> None:
    """A join of the timeline's rows gives every request what it has read in the fold."""
    steps = folded(declared, events)
    rows = [row for step in steps for row in step.rows]
    for step in steps:
        for request in step.requests:
            assert joined(declared, rows, request) == windows_of(declared, request)


@settings(max_examples=40)
@given(logs(disorder=0))
def test_a_join_finds_what_the_fold_read_ties_and_expiry_included(events: list[Event]) -> None:
    assert_joined_as_read(case, events)


@settings(max_examples=40)
@given(logs(disorder=400))
def test_a_join_finds_what_the_fold_read_under_disorder_too(events: list[Event]) -> None:
    late = replace(case, lateness=300.0)
    assert_joined_as_read(late, events)


@settings(max_examples=40)
@given(logs(disorder=400) | logs_with_events_ahead(), st.sampled_from([0.0, 60.0, 300.0]))
def test_a_join_finds_what_the_fold_read_in_steps(events: list[Event], lateness: float) -> None:
    stepped = replace(case, lateness=lateness, features=STEPPED)
    assert_joined_as_read(stepped, events)


@settings(max_examples=40)
@given(logs_with_events_ahead(), st.sampled_from([0.0, 60.0, 300.0]))
def test_a_join_finds_what_the_fold_read_where_events_are_ahead(events: list[Event], lateness: float) -> None:
    narrow = replace(case, lateness=lateness, features=NARROW)
    assert_joined_as_read(narrow, events)


@settings(max_examples=40)
@given(logs(disorder=400), st.integers(0, 25))
def test_no_row_knows_of_an_event_after_it_in_the_log(events: list[Event], cut: int) -> None:
    late = replace(case, lateness=300.0)
    whole = folded(late, events)
    assert [(s.rows, s.requests) for s in folded(late, events[:cut])] == [
        (s.rows, s.requests) for s in whole[:cut]
    ]


@settings(max_examples=40)
@given(logs(disorder=400))
def test_a_requests_stamp_parts_the_log_before_it_from_the_log_after(events: list[Event]) -> None:
    steps = folded(replace(case, lateness=300.0), events)
    asked = [(number, r) for number, step in enumerate(steps) for r in step.requests]
    for number, request in asked:
        assert request.stamp >= request.at
        assert all(row.stamp <= request.stamp for step in steps[:number] for row in step.rows)
        assert all(row.stamp > request.stamp for step in steps[number + 1 :] for row in step.rows)


@settings(max_examples=40)
@given(logs(disorder=0), st.integers(0, 3000))
def test_between_the_events_too_a_row_says_what_a_request_would_read(events: list[Event], after: int) -> None:
    moment = shop.START + timedelta(seconds=after + 0.05)  # nothing happens or expires at such times
    asked = shop.Asked(id="asked", at=moment, order="a", shop="s", amount=0.0)
    (request,) = folded(case, [*(e for e in events if e.at < moment), asked])[-1].requests
    end = Clock(id="end", at=shop.START + timedelta(hours=5))
    rows = [row for step in folded(case, [*events, end]) for row in step.rows]
    # ties push stamps on by microseconds
    settled_down = request._replace(stamp=request.at + 1_000)
    assert joined(case, rows, settled_down) == windows_of(case, request)


@given(st.integers(1_300_000_000_000_000, 2_100_000_000_000_000), st.floats(1e-3, 1e7))
def test_an_expiry_is_the_first_moment_that_a_window_does_not_hold_the_value(at: int, over: float) -> None:
    seconds = at / MICROSECONDS
    due = expiry(seconds, over)
    assert due / MICROSECONDS - over >= seconds
    assert (due - 1) / MICROSECONDS - over < seconds


def test_in_order_no_request_needs_a_row_of_its_own() -> None:
    steps = folded(replace(shop.orders, partitions=1), list(shop.trade(60)))
    stamps = {row.stamp for step in steps for row in step.rows}
    asked = {request.stamp for step in steps for request in step.requests}
    assert len(asked) == 60
    assert not stamps & asked


def test_a_request_from_before_the_newest_event_has_a_row_of_its_own() -> None:
    late = replace(shop.orders, partitions=1, lateness=HOUR)
    first, behind, last = folded(late, [shop.settled(6, 30), shop.asked(1, 20), shop.asked(2, 31)])
    assert [row.values for row in first.rows] == [{"bad_1h": 1.0, "asked_1h": 0}]
    assert [row.values for row in behind.rows] == [{"asked_1h": 0}, {"bad_1h": 1.0, "asked_1h": 1}]
    assert behind.rows[0].stamp == behind.requests[0].stamp == behind.rows[1].stamp - 1
    assert last.requests[0].x == {"amount": 3.0, "bad_1h": 1.0, "asked_1h": 1}


def test_a_value_from_ahead_is_found_until_its_own_window_ends() -> None:
    narrow = replace(case, features=NARROW)
    steady = [shop.settled(0, minute, id=f"steady-{minute}") for minute in range(60)]
    first, ahead = shop.settled(1, 60), shop.settled(1, 63, id="ahead")
    after = [shop.settled(2, minute, id=f"after-{minute}") for minute in range(60, 70)]
    rows = [row for step in folded(narrow, [*steady, first, ahead, *after]) for row in step.rows]
    asked = [shop.asked(1, 60 + minutes) for minutes in (2, 4, 6, 7.99, 8)]
    moments = [round(request.at.timestamp() * MICROSECONDS) for request in asked]
    requests = [TimelineRequest(r, at + 1_000, at, {}) for r, at in zip(asked, moments, strict=True)]
    assert [joined(narrow, rows, r).get("bad") for r in requests] == [0.0, 0.0, 0.0, 0.0, None]


def test_a_start_taken_back_changes_no_result() -> None:
    declared = replace(shop.orders, partitions=1)
    events = [
        shop.settled(6, 10**6),
        shop.asked(1, 1),
        shop.settled(5, 2),
        shop.asked(2, 3),
        shop.asked(3, 70),
    ]
    steps = folded(declared, events)
    rows = [row for step in steps for row in step.rows]
    requests = [request for step in steps for request in step.requests]
    assert [r.x.get("bad_1h") for r in requests] == [None, 1.0, None]
    assert all(joined(declared, rows, r) == windows_of(declared, r) for r in requests)
