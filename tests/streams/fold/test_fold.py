"""The fold however its records are cut into steps, after a restart, with bad input, and over a long time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import START

from driftline.streams.fold.intake import RETAIN_EVERY
from driftline.streams.fold.processor import PartitionProcessor, summarize
from driftline.streams.records.outputs import Outputs
from tests.streams.fold.shop_log import Log, busy_log, case, fold, outcomes, steps


@settings(max_examples=60)
@given(steps, st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_cutting_the_records_into_any_steps_gives_the_same_bytes(
    drawn: list[tuple[int, int, float]], cuts: list[int]
) -> None:
    declared = case(lateness=10 * 60.0)
    log = busy_log(drawn)
    whole = PartitionProcessor(declared, 0, rows=True)
    expected = whole.step(log.records)
    parts = PartitionProcessor(declared, 0, rows=True)
    found = Outputs()
    at = 0
    for cut in cuts * len(log.records):
        out = parts.step(log.records[at : at + cut])
        for name in ("predictions", "outcomes", "drift", "models", "dead_letters"):
            getattr(found, name).extend(getattr(out, name))
        found.rows.update(out.rows)
        at += cut
    for name in ("predictions", "outcomes", "drift", "models", "dead_letters"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.rows == expected.rows
    assert summarize([parts]).counts == summarize([whole]).counts


@settings(max_examples=40)
@given(steps, st.integers(0, 80))
def test_a_processor_restored_from_a_snapshot_goes_on_with_the_same_bytes_and_rows(
    drawn: list[tuple[int, int, float]], cut: int
) -> None:
    declared = case(lateness=10 * 60.0)
    log = busy_log(drawn)
    first = PartitionProcessor(declared, 0, rows=True)
    first.step(log.records[:cut])
    second = PartitionProcessor.restored(declared, 0, first.snapshot(), rows=True)
    assert second.step(log.records[cut:]) == first.step(log.records[cut:])
    assert summarize([second]).counts == summarize([first]).counts


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_an_online_row_says_what_the_newest_event_of_its_key_saw_though_windows_were_cleaned_since(
    cut: int,
) -> None:
    body = {"type": "settled", "id": "other", "at": START.isoformat(), "order": "o", "shop": "t", "bad": 0.25}
    log = Log().raw(json.dumps(body).encode(), b"t")
    for minute in range(3 * RETAIN_EVERY):
        log.settle(minute, f"o{minute}", bad=minute % 2)
    processor = PartitionProcessor(case(), 0, rows=True)
    rows: dict[Any, Any] = {}
    for start in range(0, len(log.records), cut):
        rows.update(processor.step(log.records[start : start + cut]).rows)
    name = "orders_by_shop"
    none_asked = {"bad_1h": 0.25, "spread_1h": 0.0, "asked_1h": 0}
    assert rows[name, ("t",)] == (START.timestamp(), none_asked)
    newest = START.timestamp() + (3 * RETAIN_EVERY - 1) * 60
    assert rows[name, ("s",)] == (newest, {"bad_1h": 0.5, "spread_1h": 0.5, "asked_1h": 0})


def test_rows_of_one_moment_are_stamped_a_microsecond_apart_in_any_steps() -> None:
    log = Log().settle(1, "a").settle(1, "b").settle(1, "c", bad=0.0)
    together = PartitionProcessor(case(), 0, rows=True).step(log.records).rows
    alone = PartitionProcessor(case(), 0, rows=True)
    rows = [alone.step([record]).rows for record in log.records]
    assert together == rows[-1]
    stamps = [row["orders_by_shop", ("s",)][0] for row in rows]
    assert stamps == sorted(set(stamps))


@settings(max_examples=60)
@given(steps)
def test_every_record_is_accounted_for(drawn: list[tuple[int, int, float]]) -> None:
    log = busy_log(drawn).clock(10_000.0 / 60 + sum(s[1] for s in drawn))
    processor, out = fold(case(lateness=600.0), log)
    counts = summarize([processor]).counts
    clocks = sum(b'"clock"' in r.value for r in log.records)
    accepted = counts["events"] + counts["dead_letters"] + counts["duplicates"]
    assert len(log.records) - clocks <= accepted <= len(log.records)
    assert counts["predictions"] == len(out.predictions)
    assert counts["predictions"] == sum(counts[s] for s in ("labelled", "unlabelled", "void", "pending"))
    firsts = [o for o in outcomes(out) if "revision" not in o]
    assert len(firsts) == counts["predictions"] - counts["pending"]


BAD = [
    b"no json",
    b"",
    b"null",
    b'{"type":"asked"}',
    b'{"type":"nobody","id":"1","at":"2024-01-01T00:00:00Z"}',
    b'{"type":"asked","id":"1","at":"2024-01-01T00:00:00Z","order":"a","shop":"s","amount":NaN}',
    b'{"type":"asked","id":"1","at":"2024-01-01T00:00:00Z","order":"a","shop":"s","amount":1e999}',
    b'{"type":"asked","id":"1","at":"2024-01-01T00:00:00Z","order":"a","shop":"s","amount":"1"}',
    b'{"type":"asked","id":"1","at":"2024-01-01T00:00:00Z","order":"a","shop":"s","amount":1,"z":1}',
    b'{"type":"asked","id":"1","at":"2024-01-01T00:00:00Z","order":"a","shop":"t","amount":1}',
]


def test_bad_input_becomes_one_dead_letter_each_and_nothing_else_changes() -> None:
    clean = Log()
    dirty = Log()
    for n in range(20):
        for log in (clean, dirty):
            log.ask(2 * n, f"a{n}").settle(2 * n + 1, f"a{n}", bad=float(n % 2))
        dirty.raw(BAD[n % len(BAD)])
    first, expected = fold(case(), clean)
    second, found = fold(case(), dirty)
    assert [o.value for o in found.dead_letters] == [BAD[n % len(BAD)] for n in range(20)]

    def answers(out: Outputs) -> list[Any]:
        return [
            (p["event_id"], p["probabilities"], p["features"])
            for p in (json.loads(o.value) for o in out.predictions)
        ]

    assert answers(found) == answers(expected)
    assert summarize([first]).models == summarize([second]).models


def test_state_stays_bounded_when_keys_and_labels_pass() -> None:
    processor = PartitionProcessor(case(), 0)
    log = Log()
    for n in range(3000):
        log.ask(n, f"a{n}").settle(n + 0.5, f"a{n}", bad=0.0)
    processor.step(log.records)
    join = processor.intake.label_join
    assert len(join) == 0
    assert len(join._waiting) <= 120 + 2
    assert len(join._closing) == 0
    assert len(processor.intake.state().seen) <= 2 * 2 * 24 * 60 + 2
