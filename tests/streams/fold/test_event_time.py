"""Repeated, late and early events, and what moves a partition's time."""

from __future__ import annotations

import json

import pytest
from shop import START

from driftline import (
    HOUR,
    Clock,
    derive,
)
from driftline.streams.fold.processor import PartitionProcessor, summarize
from tests.streams.fold.shop_log import Log, busy_log, case, fold, outcomes, refusals


def test_a_repeated_id_is_dropped_within_the_horizon_only() -> None:
    log = Log().ask(0, "a", id="same").ask(0, "a", id="same").clock(119).ask(120, "c", id="same")
    processor, out = fold(case(dedup_horizon=HOUR), log)
    assert [json.loads(o.value)["at"] for o in out.predictions] == [
        "2024-01-01T00:00:00Z",
        "2024-01-01T02:00:00Z",
    ]
    assert summarize([processor]).counts["duplicates"] == 1


def test_one_id_for_a_question_and_its_truth_is_no_repetition() -> None:
    log = Log().ask(0, "a", id="order-a").settle(1, "a", id="order-a").settle(1, "a", id="order-a")
    processor, out = fold(case(), log)
    assert [o["status"] for o in outcomes(out)] == ["labelled"]
    assert summarize([processor]).counts["duplicates"] == 1
    assert refusals(out) == []


def test_an_event_written_in_another_way_is_a_repetition_and_another_one_with_its_id_is_refused() -> None:
    first = {"type": "asked", "id": "i", "at": "2024-01-01T00:00:00Z", "order": "a", "shop": "s", "amount": 1}
    again = dict(reversed((first | {"at": "2024-01-01T01:00:00+01:00", "amount": 1.0, "note": None}).items()))
    log = Log().raw(json.dumps(first).encode()).raw(json.dumps(again, indent=1).encode())
    log.raw(json.dumps(first | {"amount": 2}).encode())
    processor, out = fold(case(), log)
    assert summarize([processor]).counts["duplicates"] == 1
    assert refusals(out) == [("id", "another 'asked' event came with the id 'i' before")]
    assert [o.offset for o in out.dead_letters] == [2]


def test_a_refused_event_does_not_move_time() -> None:
    broken = case(features={"inverse": derive(lambda e: 1 / e.amount)})
    log = Log().ask(0, "a").ask(300, "b", amount=0.0).settle(1, "a")
    processor, out = fold(broken, log)
    assert [stage for stage, _ in refusals(out)] == ["features"]
    assert [o["status"] for o in outcomes(out)] == ["labelled"]
    assert processor.intake.max_at == START.timestamp() + 60


def test_late_events_within_the_lateness_count_and_later_ones_are_dead_letters() -> None:
    log = Log().clock(60).ask(60, "a").settle(55, "x", bad=0.5).settle(40, "y", bad=0.9).ask(61, "b")
    processor, out = fold(case(lateness=600.0), log)
    assert json.loads(out.predictions[1].value)["features"]["bad_1h"] == 0.5
    assert [stage for stage, _ in refusals(out)] == ["late"]
    assert summarize([processor]).counts["late"] == 1


@pytest.mark.parametrize("position", [0, 1, 5])
def test_one_event_dated_2099_expires_nothing(position: int) -> None:
    def build(wrong: bool) -> Log:
        log = Log()
        for n in range(8):
            if wrong and n == position:
                log.settle(40_000_000, "wrong")
            log.ask(n, f"a{n}")
        return log.settle(30, "a0")

    declared = case()
    processor, out = fold(declared, build(True))
    _, clean = fold(declared, build(False))
    assert [o.value for o in out.predictions][1:] == [o.value for o in clean.predictions][1:] or position == 0
    assert [o["status"] for o in outcomes(out)] == ["labelled"]
    assert len(out.predictions) == 8
    if position:
        assert [stage for stage, _ in refusals(out)] == ["time"]
    assert processor.intake.ahead == 1


def test_time_moves_on_when_several_ids_agree() -> None:
    log = Log().ask(0, "a").ask(1, "b").ask(2, "c")
    for n in range(4):
        log.ask(10_000 + n, f"d{n}")
    processor, out = fold(case(), log)
    assert [stage for stage, _ in refusals(out)] == ["time", "time"]
    assert summarize([processor]).counts["predictions"] == 5


def test_clock_is_no_event_of_the_case() -> None:
    processor, _ = fold(case(), Log().clock(0).clock(1))
    assert summarize([processor]).counts["events"] == 0
    assert Clock.__struct_config__.tag == "clock"


def test_a_clock_event_behind_the_others_tells_nothing_and_is_no_dead_letter() -> None:
    log = Log().ask(10, "a").clock(5).settle(11, "a")
    processor, out = fold(case(), log)
    assert refusals(out) == []
    assert summarize([processor]).counts["late"] == 0
    assert [o["status"] for o in outcomes(out)] == ["labelled"]


def test_a_live_case_judges_events_by_their_append_time_and_a_file_by_each_other() -> None:
    log = Log()
    for n in range(20):
        log.ask(n, f"a{n}")
    log.ask(20 * 60, "ahead").ask(21, "b").clock(24 * 60).settle(21, "a5")
    start = int(START.timestamp() * 1000)
    arrivals = [*range(20), 20, 21, 21, 21]
    appended = [
        record._replace(timestamp=start + minute * 60_000 + 500)
        for record, minute in zip(log.records, arrivals, strict=True)
    ]
    assert (case(clock="wall").allowed_lateness, case().allowed_lateness) == (60.0, 0.0)
    live = case(clock="wall", lateness=0.0)
    processor = PartitionProcessor(live, 0)
    out = processor.step(appended)
    assert [stage for stage, _ in refusals(out)] == ["time"]
    assert [(o["event_id"], o["status"]) for o in outcomes(out)] == [("asked-a5-5", "labelled")]
    assert len(out.predictions) == 21
    assert processor.intake.max_at == START.timestamp() + 21 * 60  # not the clock's day
    # the same log without append times: the clock event is believed
    processor = PartitionProcessor(live, 0)
    out = processor.step(log.records)
    assert [stage for stage, _ in refusals(out)] == ["late"]
    assert summarize([processor]).counts["ahead"] == 1


def test_a_case_fed_from_history_pays_no_heed_to_append_times() -> None:
    log = busy_log([(n % 12, n % 20, (n % 7) / 7) for n in range(300)])
    stamped = [record._replace(timestamp=1_000 * n) for n, record in enumerate(log.records)]
    declared = case(lateness=600.0)
    assert PartitionProcessor(declared, 0).step(stamped) == PartitionProcessor(declared, 0).step(log.records)
