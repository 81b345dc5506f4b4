"""How labels, voids, corrections and deadlines close requests."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import Asked, Dropped, Settled, logistic

from driftline import (
    HOUR,
    Anomaly,
    Binary,
    Event,
    Label,
    Member,
    Monitoring,
    Multiclass,
    PerKey,
    Regression,
    UseCase,
)
from driftline.online_models.errors import ModelsError
from driftline.online_models.tasks.task import UNLABELLED, LabelWarning
from driftline.streams.fold.processor import PartitionProcessor, summarize
from tests.streams.fold.shop_log import Log, case, fold, outcomes, refusals, unspeakable


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


@settings(max_examples=60)
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

    def outcomes_in(order: list[int]) -> tuple[dict[str, list[Any]], int]:
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

    in_time = outcomes_in(sorted(range(len(steps)), key=lambda n: steps[n][1]))
    assert outcomes_in(data.draw(st.permutations(range(len(steps))))) == in_time


def test_readings_of_one_machine_with_a_check_after_each_keep_the_word_of_their_own_check() -> None:
    log = Log()
    for n in range(200):
        log.ask(30 * n, "machine", id=f"q{n}").settle(30 * n + 5, "machine", bad=float(n % 7 == 3))
    _, out = fold(case(), log)
    published = outcomes(out)
    assert [(o["event_id"], o["label"]) for o in published] == [(f"q{n}", n % 7 == 3) for n in range(200)]


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
    labels = [o["label"] for o in outcomes(out)]
    assert labels == [True] * 20  # whatever is learned, outcomes are published when they are known
    learned = summarize([processor]).models["logistic"]
    assert learned["n"] == (20 if learn_at else 0)
    out = processor.step(Log().clock(1_000).records)
    assert [o["label"] for o in outcomes(out)] == [False] * 40
    assert summarize([processor]).models["logistic"]["n"] == 60
    assert processor.intake.label_join.open == 0


def test_an_estimate_that_falls_on_a_label_known_before_comes_with_the_next_outcome() -> None:
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


def test_a_label_rule_that_raises_is_a_dead_letter_and_the_request_stays_open() -> None:
    declared = case()
    label = replace(declared.task.label, value=lambda e: 1 / 0)
    declared = replace(declared, task=Binary("bad", ask=Asked, label=label))
    processor, out = fold(declared, Log().ask(0, "a").settle(1, "a"))
    assert [stage for stage, _ in refusals(out)] == ["label"]
    assert processor.intake.label_join.open == 1


@pytest.mark.parametrize("rule", [unspeakable, lambda e: "yes", lambda e: float("nan"), lambda e: e.nothing])
def test_labels_that_are_none_are_dead_letters(rule: Any) -> None:
    label = Label(Settled, on="order", value=rule, wait=HOUR)
    declared = case(task=Binary("bad", ask=Asked, label=label))
    processor, out = fold(declared, Log().ask(0, "a").settle(1, "a"))
    assert [stage for stage, _ in refusals(out)] == ["label"]
    assert processor.intake.label_join.open == 1
