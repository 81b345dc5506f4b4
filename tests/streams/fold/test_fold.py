"""The fold: chunk independence, label semantics, time, faults of user code, bad input."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import START, Asked, Dropped, Product, Settled, logistic

from driftline import (
    HOUR,
    Anomaly,
    Binary,
    Clock,
    Event,
    Label,
    Member,
    Monitoring,
    Multiclass,
    PerKey,
    Regression,
    Tolerance,
    UseCase,
    count,
    derive,
    field,
    latest,
    lookup,
    mean,
    std,
)
from driftline.online_models.errors import ModelsError
from driftline.online_models.tasks.task import UNLABELLED, LabelWarning
from driftline.streams.errors import DeclarationError
from driftline.streams.fold.intake import RETAIN_EVERY
from driftline.streams.fold.processor import PartitionProcessor, summarize
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.sources import LogRecord


def case(**changes: Any) -> UseCase:
    label = Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=2 * HOUR, void=[Dropped])
    declared = UseCase(
        "orders",
        key="shop",
        events=[Asked, Settled, Dropped, Product],
        features={
            "amount": field("amount"),
            "hour": derive(lambda e: e.at.hour),
            "bad_1h": mean(Settled, "bad", by="shop", over=HOUR),
            "spread_1h": std(Settled, "bad", by="shop", over=HOUR),
            "asked_1h": count(Asked, by="shop", over=HOUR),
            "weight": lookup(Product, "weight", by="product"),
        },
        task=Binary("bad", ask=Asked, label=label),
        models=PerKey(champion=Member("logistic", logistic), frozen_after=20),
        max_jump=24 * HOUR,
    )
    return replace(declared, **changes)


class Log:
    """Builds the records of one partition; times are minutes after the start."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def raw(self, value: bytes | None, key: bytes | None = b"s") -> Log:
        self.records.append(LogRecord(len(self.records), key, value))  # type: ignore[arg-type]
        return self

    def event(self, event_type: str, minute: float, name: str, **fields: Any) -> Log:
        at = (START + timedelta(minutes=minute)).isoformat()
        body = {"type": event_type, "id": fields.pop("id", f"{event_type}-{name}-{minute}"), "at": at}
        key = b"s"
        if event_type not in ("clock", "product"):
            body |= {"order": name, "shop": "s"}
        return self.raw(json.dumps(body | fields).encode(), key)

    def ask(self, minute: float, name: str, amount: float = 1.0, **fields: Any) -> Log:
        return self.event("asked", minute, name, amount=amount, **fields)

    def settle(self, minute: float, name: str, bad: float = 1.0, **fields: Any) -> Log:
        return self.event("settled", minute, name, bad=bad, **fields)

    def drop(self, minute: float, name: str) -> Log:
        return self.event("dropped", minute, name)

    def clock(self, minute: float) -> Log:
        return self.event("clock", minute, "c")


def fold(declared: UseCase, log: Log) -> tuple[PartitionProcessor, Outputs]:
    processor = PartitionProcessor(declared, 0)
    return processor, processor.step(log.records)


def outcomes(out: Outputs) -> list[dict[str, Any]]:
    return [json.loads(o.value) for o in out.outcomes]


def refusals(out: Outputs) -> list[tuple[str, str]]:
    return [(dict(o.headers)["stage"].decode(), dict(o.headers)["reason"].decode()) for o in out.dead_letters]


def busy_log(steps: list[tuple[int, int, float]]) -> Log:
    """A log from drawn numbers: asks, labels, voids, repeats, references, bad records, clocks."""
    log = Log()
    minute = 0.0
    for n, (what, ahead, value) in enumerate(steps):
        minute += ahead
        name = f"o{n}"
        earlier = f"o{max(0, n - 1 - ahead)}"
        if what <= 3:
            log.ask(minute, name, amount=value, product="p" if what == 1 else None)
        elif what <= 6:
            log.settle(minute - (5 if what == 6 else 0), earlier, bad=value)
        elif what == 7:
            log.drop(minute, earlier)
        elif what == 8:
            log.raw(b"broken")
        elif what == 9:
            log.event("product", minute, "p", product="p", weight=value)
        elif what == 10:
            log.clock(minute)
        elif log.records:
            log.raw(log.records[-1].value)
    return log


steps = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 20), st.floats(0, 1).map(lambda v: round(v, 3))),
    min_size=1,
    max_size=80,
)


@settings(max_examples=60, deadline=None)
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


@settings(max_examples=40, deadline=None)
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


@settings(max_examples=60, deadline=None)
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


def test_a_request_sees_what_came_before_it_and_not_itself() -> None:
    log = Log().settle(0, "x", bad=0.25).ask(10, "a").ask(20, "b").ask(90, "c")
    _, out = fold(case(), log)
    seen = [json.loads(o.value)["features"] for o in out.predictions]
    assert [x["asked_1h"] for x in seen] == [0, 1, 0]
    assert [x.get("bad_1h") for x in seen] == [0.25, 0.25, None]
    assert [x["hour"] for x in seen] == [0, 0, 1]
    assert "weight" not in seen[0]


def test_references_are_looked_up_by_the_newest() -> None:
    log = Log().event("product", -999999, "p", product="p", weight=2.0).ask(0, "a", product="p")
    _, out = fold(case(), log)
    assert json.loads(out.predictions[0].value)["features"]["weight"] == 2.0


def test_a_label_closes_its_request_with_loss_and_horizon() -> None:
    processor, out = fold(case(), Log().ask(0, "a").settle(30, "a"))
    (outcome,) = outcomes(out)
    assert outcome["status"] == "labelled"
    assert outcome["label"] is True
    assert outcome["horizon"] == 1800.0
    assert math.isclose(outcome["loss"], math.log(2))
    assert processor.intake.label_join.open == 0


def test_one_label_answers_every_open_request_of_its_key() -> None:
    _, out = fold(case(), Log().ask(0, "a").ask(1, "a").settle(30, "a"))
    assert [o["event_id"] for o in outcomes(out)] == ["asked-a-0", "asked-a-1"]
    assert [o.ordinal for o in out.outcomes] == [0, 1]


def test_a_void_closes_without_a_label_and_expiry_leaves_it_unlabelled() -> None:
    log = Log().ask(0, "a").ask(1, "b").drop(5, "a").clock(130)
    processor, out = fold(case(), log)
    assert [(o["event_id"], o["status"]) for o in outcomes(out)] == [
        ("asked-a-0", "void"),
        ("asked-b-1", "unlabelled"),
    ]
    counts = summarize([processor]).counts
    assert (counts["void"], counts["unlabelled"], counts["pending"]) == (1, 1, 0)


def test_a_label_after_the_wait_is_a_revision_that_is_learned() -> None:
    log = Log().ask(0, "a").settle(150, "a")
    processor, out = fold(case(), log)
    first, second = outcomes(out)
    assert first["status"] == "unlabelled"
    assert (second["status"], second["revision"], second["corrects"]) == ("labelled", 1, 0)
    assert summarize([processor]).models["logistic"]["n"] == 1


def test_a_late_label_gives_the_same_outcomes_whether_or_not_the_watermark_had_passed() -> None:
    once = Log().ask(0, "a").settle(150, "a")
    twice = Log().ask(0, "a").clock(149).settle(150, "a")
    assert outcomes(fold(case(), once)[1]) == outcomes(fold(case(), twice)[1])


class Judged(Event, tag="judged"):
    order: str
    shop: str
    bad: float
    corrects: str | None = None


def correctable(**changes: Any) -> UseCase:
    """A case whose labels can say that they correct another."""
    label = replace(case().task.label, event=Judged, **changes)
    return case(events=[Asked, Judged, Dropped], features={}, task=Binary("bad", ask=Asked, label=label))


def test_a_corrected_label_amends_metrics_and_is_not_learned_again() -> None:
    log = Log().ask(0, "a").event("judged", 10, "a", id="first", bad=1.0)
    log.event("judged", 15, "a", bad=0.0)  # a later fact, which is no correction
    log.event("judged", 20, "a", bad=0.0, id="second", corrects="first")
    log.event("judged", 21, "a", bad=0.0, corrects="second")
    processor, out = fold(correctable(), log)
    assert [(o["label"], o.get("corrects")) for o in outcomes(out)] == [(True, None), (False, 0)]
    summary = summarize([processor])
    assert summary.models["logistic"]["n"] == 1
    assert math.isclose(summary.models["logistic"]["brier"], 0.25)
    assert summary.counts["unmatched"] == 1


def test_a_withdrawn_label_is_taken_out_of_the_metrics() -> None:
    class Withdrawn(Event, tag="withdrawn"):
        order: str
        shop: str
        corrects: str | None = None

    label = replace(correctable().task.label, void=[Withdrawn])
    events = [Asked, Judged, Withdrawn]
    declared = case(events=events, features={}, task=Binary("bad", ask=Asked, label=label))
    log = Log().ask(0, "a").ask(0, "b").event("judged", 10, "a", id="first", bad=1.0)
    log.event("withdrawn", 20, "a", corrects="first").event("withdrawn", 20, "b")
    processor, out = fold(declared, log)
    assert [(o["event_id"], o["status"], o.get("revision", 0)) for o in outcomes(out)] == [
        ("asked-a-0", "labelled", 0),
        ("asked-a-0", "void", 1),
        ("asked-b-0", "void", 0),
    ]
    assert summarize([processor]).models["logistic"]["n"] == 0


def test_where_no_corrections_are_taken_one_is_a_dead_letter_and_so_is_one_that_names_no_id() -> None:
    log = Log().ask(0, "a").event("judged", 10, "a", id="first", bad=1.0)
    log.event("judged", 20, "a", bad=0.0, corrects="first")
    _, out = fold(correctable(corrections=0.0), log)
    assert [o["label"] for o in outcomes(out)] == [True]
    assert refusals(out) == [
        ("label", "it corrects 'first', but the case takes no corrections (corrections=0)")
    ]

    class Numbered(Event, tag="judged"):
        order: str
        shop: str
        bad: float
        corrects: int | None = None

    declared = correctable(void=())
    label = replace(declared.task.label, event=Numbered)
    declared = replace(declared, events=[Asked, Numbered], task=Binary("bad", ask=Asked, label=label))
    _, out = fold(declared, Log().ask(0, "a").event("judged", 10, "a", bad=1.0, corrects=7))
    assert [stage for stage, _ in refusals(out)] == ["label"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "judge", "correct", "drop"]), st.integers(0, 300), st.sampled_from("ab")
        ),
        max_size=14,
        unique_by=lambda step: (step[0], step[1]),
    ),
    st.sampled_from(["all", "oldest", "newest"]),
    st.sampled_from([UNLABELLED, False]),
    st.data(),
)
def test_what_becomes_of_requests_does_not_depend_on_how_the_log_interleaves_them(
    steps: list[tuple[str, int, str]], answers: Any, at_expiry: Any, data: st.DataObject
) -> None:
    declared = replace(
        correctable(answers=answers, at_expiry=at_expiry, wait=HOUR, void=[Dropped]), lateness=24 * HOUR
    )

    def told(order: list[int]) -> tuple[dict[str, list[Any]], int]:
        log = Log()
        for n in order:
            what, minute, key = steps[n]
            if what == "ask":
                log.ask(minute, key, id=f"q{n}")
            elif what == "drop":
                log.drop(minute, key)
            else:
                corrects = {"corrects": "j0"} if what == "correct" else {}
                log.event("judged", minute, key, id=f"j{n}", bad=float(n % 2), **corrects)
        processor, out = fold(declared, log.clock(10_000))
        found: dict[str, list[Any]] = {}
        for o in outcomes(out):
            known = (o["status"], o.get("label"), o.get("horizon"), o.get("revision", 0), o["at"])
            found.setdefault(o["event_id"], []).append(known)
        return found, summarize([processor]).counts["unmatched"]

    in_time = told(sorted(range(len(steps)), key=lambda n: steps[n][1]))
    assert told(data.draw(st.permutations(range(len(steps))))) == in_time


def test_readings_of_one_machine_with_a_check_after_each_keep_the_word_of_their_own_check() -> None:
    log = Log()
    for n in range(200):
        log.ask(30 * n, "machine", id=f"q{n}").settle(30 * n + 5, "machine", bad=float(n % 7 == 3))
    _, out = fold(case(), log)
    told = outcomes(out)
    assert [(o["event_id"], o["label"]) for o in told] == [(f"q{n}", n % 7 == 3) for n in range(200)]


@pytest.mark.parametrize("learn_at", [None, "label"])
def test_labels_that_ripen_unequally_are_learned_by_deadline_unless_declared_otherwise(
    learn_at: Any, recwarn: pytest.WarningsRecorder
) -> None:
    label = replace(case().task.label, at_expiry=False, learn_at=learn_at)
    assert [w.category for w in recwarn] == ([LabelWarning] if learn_at else [])
    declared = case(task=Binary("bad", ask=Asked, label=label))
    log = Log()
    for n in range(60):
        log.ask(n, f"o{n}")
        if n % 3 == 0:
            log.settle(n + 1, f"o{n}")
    processor = PartitionProcessor(declared, 0)
    out = processor.step(log.records)
    told = [o["label"] for o in outcomes(out)]
    assert told == [True] * 20  # whatever is learned, outcomes are told when they are known
    learned = summarize([processor]).models["logistic"]
    assert learned["n"] == (20 if learn_at else 0)
    out = processor.step(Log().clock(1_000).records)
    assert [o["label"] for o in outcomes(out)] == [False] * 40
    assert summarize([processor]).models["logistic"]["n"] == 60
    assert processor.intake.label_join.open == 0


def test_an_estimate_that_falls_on_a_label_told_before_comes_with_the_next_outcome() -> None:
    label = replace(case().task.label, at_expiry=False)
    models = PerKey(champion=Member("logistic", logistic), monitoring=Monitoring(estimate_every=5))
    declared = case(models=models, task=Binary("bad", ask=Asked, label=label))
    log = Log()
    for n in range(200):
        log.ask(n, f"o{n}")
        if n % 2 == 0:  # learned 120 minutes later, just before the next one's outcome
            log.settle(n + 0.5, f"o{n}")
    processor, out = fold(declared, log.clock(1_000))
    assert summarize([processor]).models["logistic"]["n"] == 200
    assert sum("estimate" in o for o in outcomes(out)) == 200 // 5


@pytest.mark.parametrize(
    ("task", "at_expiry", "published"),
    [(Binary, 0, False), (Binary, True, True), (Multiclass, 3, "3"), (Regression, 1, 1.0)],
)
def test_a_value_at_expiry_is_normalised_by_its_task(task: Any, at_expiry: Any, published: Any) -> None:
    label = Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=HOUR, at_expiry=at_expiry)
    found = task("bad", ask=Asked, label=label).label.at_expiry
    assert found == published
    assert type(found) is type(published)


@pytest.mark.parametrize(
    ("task", "at_expiry"),
    [
        (Binary, "maybe"),
        (Binary, math.nan),
        (Binary, 2),
        (Multiclass, 0.5),
        (Regression, math.nan),
        (Anomaly, "no"),
    ],
)
def test_a_value_at_expiry_that_is_no_label_is_refused_at_the_declaration(task: Any, at_expiry: Any) -> None:
    label = Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=HOUR, at_expiry=at_expiry)
    with pytest.raises(ModelsError, match=f"at_expiry={at_expiry!r}"):
        task("bad", ask=Asked, label=label)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"answers": "first"}, "expected .all. or .oldest. or .newest., not .first."),
        ({"learn_at": "once"}, "expected .deadline. or .label., not .once."),
        ({"corrections": -1.0}, "at least 0"),
        ({"corrects": "amends"}, "neither Settled"),
    ],
)
def test_a_label_says_what_is_wrong_with_it(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelsError, match=reason):
        Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=HOUR, **wrong)


def test_a_declared_value_at_expiry_is_a_label() -> None:
    declared = case()
    label = replace(declared.task.label, at_expiry=False)
    declared = replace(declared, task=Binary("bad", ask=Asked, label=label))
    _, out = fold(declared, Log().ask(0, "a").clock(130))
    (outcome,) = outcomes(out)
    assert (outcome["status"], outcome["label"]) == ("labelled", False)


def test_a_label_before_its_request_in_the_log_still_answers_it() -> None:
    log = Log().clock(0).settle(8, "a").ask(5, "a").clock(20)
    _, out = fold(case(lateness=600.0), log)
    assert [o["status"] for o in outcomes(out)] == ["labelled"]


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


def test_a_feature_that_raises_is_a_dead_letter_and_the_fold_goes_on() -> None:
    def fragile(event: Any) -> float:
        if event.order == "a1":
            raise ZeroDivisionError("no divisor")
        return float("nan") if event.order == "a2" else 1.0

    declared = case(features={"fragile": derive(fragile)})
    log = Log()
    for n in range(4):
        log.ask(n, f"a{n}")
    _, out = fold(declared, log)
    assert len(out.predictions) == 2
    first, second = refusals(out)
    assert first[0] == second[0] == "features"
    assert "no divisor" in first[1]
    assert "fragile" in first[1]
    assert "nan" in second[1]


def test_a_label_rule_that_raises_is_a_dead_letter_and_the_request_stays_open() -> None:
    declared = case()
    label = replace(declared.task.label, value=lambda e: 1 / 0)
    declared = replace(declared, task=Binary("bad", ask=Asked, label=label))
    processor, out = fold(declared, Log().ask(0, "a").settle(1, "a"))
    assert [stage for stage, _ in refusals(out)] == ["label"]
    assert processor.intake.label_join.open == 1


class TurnsNaN:
    """An estimator whose probabilities stop being numbers."""

    def __init__(self) -> None:
        self.seen = 0

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        self.seen += 1

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: float("nan") if self.seen >= 3 else 0.75}


def test_an_estimator_that_turns_nan_is_quarantined_and_the_next_in_line_serves() -> None:
    once = Tolerance(failures=1)
    models = PerKey(Member("nan", TurnsNaN), [Member("logistic", logistic)], tolerance=once)
    log = Log()
    for n in range(8):
        log.ask(2 * n, f"a{n}").settle(2 * n + 1, f"a{n}", bad=float(n % 2))
    _, out = fold(case(models=models), log)
    served = [json.loads(o.value)["model"]["name"] for o in out.predictions]
    assert served == ["nan"] * 3 + ["logistic"] * 5
    changes = [json.loads(o.value) for o in out.models]
    (quarantine,) = [c for c in changes if c["kind"] == "quarantine" and c["member"] == "nan"]
    assert quarantine["serving"] == "logistic"
    for output in out.predictions:
        assert all(math.isfinite(p) for p in json.loads(output.value)["probabilities"].values())


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
    pending = processor.intake.state().pending
    assert len(pending.waiting) <= 120 + 2
    assert not pending.closing
    assert not pending.unanswered
    assert not pending.answered
    assert len(processor.intake.state().own.seen) <= 2 * 2 * 24 * 60 + 2


def test_clock_is_no_event_of_the_case() -> None:
    processor, _ = fold(case(), Log().clock(0).clock(1))
    assert summarize([processor]).counts["events"] == 0
    assert Clock.__struct_config__.tag == "clock"


def test_a_window_without_the_partition_key_is_refused_by_name() -> None:
    with pytest.raises(DeclarationError, match=r"'lost'.*partition key 'shop'"):
        case(partitions=2, features={"lost": mean(Settled, "bad", by="order", over=HOUR)})


class Unspeakable(Exception):
    """An error of user code that cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def unspeakable(event: Any) -> float:
    raise Unspeakable


class Tone(enum.StrEnum):
    HIGH = "high"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda e: float("inf"), "inf is not a finite number"),
        (lambda e: 10**400, "1000"),
        (lambda e: [1.0], "a list is not"),
        (lambda e: object(), "a object is not"),
        (lambda e: "\ud800", "is not a finite number, text"),
        (lambda e: np.array([1.0, 2.0]), "a ndarray is not"),
        (lambda e: np.float64("nan"), "nan is not a finite number"),
        (unspeakable, "its function raised Unspeakable"),
        (lambda e: e.nothing, "AttributeError"),
    ],
)
def test_values_that_are_no_features_are_dead_letters(value: Any, reason: str) -> None:
    log = Log().ask(0, "a").settle(1, "a").ask(2, "b")
    _, out = fold(case(features={"wrong": derive(value)}), log)
    assert [stage for stage, _ in refusals(out)] == ["features", "features"]
    assert reason in refusals(out)[0][1]
    assert "'wrong'" in refusals(out)[0][1]
    window = {"wrong": mean(Settled, value, by="shop", over=HOUR)}
    _, out = fold(case(features=window), log)
    assert [stage for stage, _ in refusals(out)] == ["features"]
    assert len(out.predictions) == 2
    assert fold(case(features=window), log)[1].dead_letters == out.dead_letters


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (Tone.HIGH, "high"),
        (None, None),
    ],
)
def test_numbers_of_numpy_and_enumerations_are_features(value: Any, plain: Any) -> None:
    _, out = fold(case(features={"f": derive(lambda e: value)}), Log().ask(0, "a"))
    assert json.loads(out.predictions[0].value)["features"].get("f") == plain
    assert refusals(out) == []


def test_text_in_a_window_is_a_dead_letter_and_refused_where_it_is_declared() -> None:
    features = {"tone": mean(Settled, lambda e: "high", by="shop", over=HOUR)}
    _, out = fold(case(features=features), Log().settle(0, "a").ask(1, "a"))
    assert refusals(out)[0][0] == "features"
    assert "windows hold numbers" in refusals(out)[0][1]
    with pytest.raises(DeclarationError, match=r"'order'.*Settled\.order is no int, float or bool"):
        case(features={"order": latest(Settled, "order", by="shop", ttl=HOUR)})


@pytest.mark.parametrize("rule", [unspeakable, lambda e: "yes", lambda e: float("nan"), lambda e: e.nothing])
def test_labels_that_are_none_are_dead_letters(rule: Any) -> None:
    label = Label(Settled, on="order", value=rule, wait=HOUR)
    declared = case(task=Binary("bad", ask=Asked, label=label))
    processor, out = fold(declared, Log().ask(0, "a").settle(1, "a"))
    assert [stage for stage, _ in refusals(out)] == ["label"]
    assert processor.intake.label_join.open == 1


def test_a_member_that_cannot_be_made_is_told_before_the_first_record() -> None:
    models = PerKey(champion=Member("broken", lambda: 1 / 0))
    with pytest.raises(ModelsError, match="'broken' cannot be made: ZeroDivisionError"):
        PartitionProcessor(case(models=models), 0)


def test_a_clock_event_behind_the_others_tells_nothing_and_is_no_dead_letter() -> None:
    log = Log().ask(10, "a").clock(5).settle(11, "a")
    processor, out = fold(case(), log)
    assert refusals(out) == []
    assert summarize([processor]).counts["late"] == 0
    assert [o["status"] for o in outcomes(out)] == ["labelled"]


def weights(declared: UseCase, log: Log) -> list[float | None]:
    _, out = fold(declared, log)
    return [json.loads(o.value)["features"].get("weight") for o in out.predictions]


def test_a_lookup_is_as_of_the_requests_time_whatever_was_told_of_other_times() -> None:
    day = 24 * 60.0
    log = Log().clock(0).event("product", 0, "p", product="p", weight=1.0)
    log.event("product", day, "p", product="p", weight=2.0)  # valid from tomorrow
    log.ask(1, "a", product="p").ask(day - 1, "b", product="p").ask(day, "c", product="p")
    log.event("product", 2 * day, "p", product="p", weight=3.0)
    log.event("product", 40_000_000, "p", product="p", weight=9.0)  # 2099: refused
    log.ask(2 * day + 1, "d", product="p")
    declared = case(max_jump=7 * day * 60)
    assert weights(declared, log) == [1.0, 1.0, 2.0, 3.0]
    assert [stage for stage, _ in refusals(fold(declared, log)[1])] == ["time"]


def test_a_reference_that_is_too_old_hides_nothing_and_is_let_go() -> None:
    declared = case(features={"weight": lookup(Product, "weight", by="product", ttl=HOUR)})
    log = Log().clock(0)
    for n in range(10 * RETAIN_EVERY):
        log.event("product", n, f"p{n}", product=f"p{n}", weight=float(n)).ask(
            n, f"a{n}", product=f"p{n - 60}"
        )
    processor, out = fold(declared, log)
    found = [json.loads(o.value)["features"].get("weight") for o in out.predictions]
    assert found[60:] == [float(n) for n in range(10 * RETAIN_EVERY - 60)]
    (references,) = processor.intake.state().features.references
    assert len(references.known) <= 60 + 2 * RETAIN_EVERY


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
