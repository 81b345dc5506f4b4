"""A warm-up is learned from and nothing of it is published."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import shop

from driftline.streams.declare.events import Event, Serve, WarmUp
from driftline.streams.fold.intake import RETAIN_EVERY
from driftline.streams.fold.processor import PartitionProcessor, summarize
from driftline.streams.records.outputs import KINDS, Outputs
from driftline.streams.simulation.sources import LogRecord, as_warm_up, layout, with_closing_clock

CASE = replace(shop.orders, partitions=1)
EVENTS = list(shop.trade(60))
HISTORY = EVENTS[:71]
"""Ends with a request whose label comes after the marker."""
LIVE = EVENTS[71:]


def records_of(events: Sequence[Event]) -> list[LogRecord]:
    return [record for _, record in layout(CASE, events, 1)]


WARMED = records_of([*as_warm_up(CASE, HISTORY), *with_closing_clock(CASE, LIVE)])
PLAIN = records_of([*HISTORY, *with_closing_clock(CASE, LIVE)])
MARKER = len(HISTORY) + 1


def fold(records: Sequence[LogRecord], chunk: int = 1000) -> tuple[PartitionProcessor, Outputs]:
    processor = PartitionProcessor(CASE, 0, rows=True)
    out = Outputs()
    for begin in range(0, len(records), chunk):
        out.extend(processor.step(records[begin : begin + chunk]))
    return processor, out


def test_nothing_is_put_out_before_the_marker() -> None:
    bad = LogRecord(MARKER, b"s", b"no json")
    processor, out = fold([*WARMED[:MARKER], bad], 7)
    assert all(getattr(out, kind) == [] for kind in KINDS)
    assert out.rows == {}
    counts = summarize([processor]).counts
    quiet = ("predictions", "labelled", "drift_events", "pending", "dead_letters")
    assert [counts[name] for name in quiet] == [0] * 5
    assert counts["refused_in_warm_up"] == 1
    assert processor.intake.warming


def test_the_first_step_after_the_marker_writes_the_rows_of_the_history() -> None:
    processor = PartitionProcessor(CASE, 0, rows=True)
    processor.step(WARMED[:MARKER])
    rows = processor.step(WARMED[MARKER : MARKER + 1]).rows
    assert {keys for _, keys in rows} == {("s",), ("w",)}


def test_what_is_learned_is_what_a_run_without_markers_learns() -> None:
    warmed, plain = fold(WARMED), fold(PLAIN)

    def answers(out: Outputs) -> list[tuple[bytes, Any]]:
        live = {event.id + ":bad" for event in LIVE}
        decoded = [shop_prediction(o.value) for o in out.predictions]
        return [(name, p) for name, p in decoded if name in live]

    assert answers(warmed[1]) == answers(plain[1])
    assert len(answers(warmed[1])) == len(warmed[1].predictions) > 20


def test_figures_of_the_members_are_of_what_was_published_alone() -> None:
    (warmed, published), (plain, _) = fold(WARMED), fold(PLAIN)
    labelled = summarize([warmed]).counts["labelled"]
    found, whole = summarize([warmed]).models, summarize([plain]).models
    assert {entry["n"] for entry in found.values()} == {labelled}
    assert all(entry["n"] > labelled for entry in whole.values())
    losses = [
        outcome["loss"]
        for record in published.outcomes
        if (outcome := json.loads(record.value))["status"] == "labelled"
    ]
    serving = summarize([warmed]).models[CASE.models.champion.name]
    assert serving["log_loss"] == pytest.approx(sum(losses) / len(losses))


def shop_prediction(value: bytes) -> tuple[Any, Any]:
    found = json.loads(value)
    return found["id"], found["probabilities"]


def test_outcomes_of_the_history_that_become_known_later_are_not_published() -> None:
    processor, out = fold(WARMED)
    answered = {shop_prediction(o.value)[0] for o in out.predictions}
    assert {json.loads(o.value)["prediction_id"] for o in out.outcomes} == answered
    counts = summarize([processor]).counts
    total = sum(counts[name] for name in ("labelled", "unlabelled", "void", "pending"))
    assert counts["predictions"] == total == len(answered)


@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_chunks_change_nothing(chunk: int) -> None:
    one, other = fold(WARMED)[1], fold(WARMED, chunk)[1]
    assert all(getattr(one, kind) == getattr(other, kind) for kind in KINDS)
    assert one.rows == other.rows


def test_a_state_restored_within_the_warm_up_goes_on_in_it() -> None:
    _, expected = fold(WARMED)
    processor, _ = fold(WARMED[:30])
    restored = PartitionProcessor.restored(CASE, 0, processor.snapshot(), rows=True)
    out = restored.step(WARMED[30:])
    assert all(getattr(out, kind) == getattr(expected, kind) for kind in KINDS)
    assert out.rows == expected.rows


def kept_rows(records: Sequence[LogRecord], cuts: Iterable[int] = ()) -> dict[Any, Any]:
    """The online rows that a store would have in the end, where the state was restored at the cuts."""
    processor = PartitionProcessor(CASE, 0, rows=True)
    rows: dict[Any, Any] = {}
    places = [0, *cuts, len(records)]
    for begin, end in itertools.pairwise(places):
        processor = PartitionProcessor.restored(CASE, 0, processor.snapshot(), rows=True)
        rows.update(processor.step(records[begin:end]).rows)
    return rows


LONG = [
    shop.asked(0, 0, "closed for good"),
    shop.settled(0, 0.5, "closed for good"),
    *itertools.islice(shop.trade(3 * RETAIN_EVERY), 2, None),
]
"""Its first key comes no more, and its windows are long empty at the end."""


@pytest.mark.parametrize("cuts", [(), (1,), (RETAIN_EVERY - 1,), (RETAIN_EVERY, 2 * RETAIN_EVERY + 1)])
def test_a_long_warm_up_leaves_the_online_rows_of_a_run_without_markers_wherever_it_is_cut(
    cuts: tuple[int, ...],
) -> None:
    expected = kept_rows(records_of(LONG))
    assert len(expected) == 3
    assert kept_rows(records_of([*as_warm_up(CASE, LONG)]), cuts) == expected


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([EVENTS[0], WarmUp(id="w", at=EVENTS[0].at)], "only the first record"),
        ([Serve(id="e", at=EVENTS[0].at)], "no warm-up is under way"),
    ],
)
def test_a_marker_out_of_place_is_a_dead_letter(events: list[Event], reason: str) -> None:
    _, out = fold(records_of(events))
    (letter,) = out.dead_letters
    assert reason in dict(letter.headers)["reason"].decode()
