"""Evaluation: the pool answers before it learns, labels come when they come, detectors are scored fairly."""

from __future__ import annotations

import random
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.online_models.errors import ModelsError
from driftline.online_models.evaluation import catalogue, generator
from driftline.online_models.evaluation.detection import Always, Never, alarms_of, compare, score
from driftline.online_models.evaluation.lineup import DEFAULT, SPECS, members_named, scope_of
from driftline.online_models.evaluation.prequential import SERVED, Prequential, task_of
from driftline.online_models.evaluation.stream import Example, KnownChange, LabelKnown, RequestAsked, Stream
from driftline.online_models.members.member import PerKey
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.report import merged_report


def linear_rule(sign: int, seed: int) -> list[tuple[dict[Any, Any], Any]]:
    rng = random.Random(seed)
    return [({0: a, 1: rng.random()}, (a > 0.5) == (sign > 0)) for a in (rng.random() for _ in range(6000))]


def bare(stream: Stream, count: int) -> list[Example]:
    return list(islice(stream, count))


def test_a_label_is_known_so_many_requests_later() -> None:
    stream = Stream("s", "binary", lambda: iter([Example({"a": i}, i > 1) for i in range(4)]))
    order = [(type(step).__name__, step.number) for step in stream.steps(2)]
    assert order == [
        ("RequestAsked", 0), ("RequestAsked", 1), ("RequestAsked", 2), ("LabelKnown", 0), ("RequestAsked", 3),
        ("LabelKnown", 1), ("LabelKnown", 2), ("LabelKnown", 3),
    ]  # fmt: skip
    assert [type(step) for step in stream.steps()] == [RequestAsked, LabelKnown] * 4


def test_the_result_is_what_a_pool_fed_by_hand_answers() -> None:
    stream = generator.abrupt("s", "binary", [linear_rule(1, 1), linear_rule(-1, 2)], 400).take(900)
    scope = scope_of("binary", ["logistic", "logistic-recurring"])
    task = task_of("binary")
    run = Prequential(scope, task, "logistic")
    run.run(stream.steps(20))
    found = run.result()
    pool = Pool(task, scope, "", 0)
    waiting: list[Any] = []
    right = learned = 0
    for position, step in enumerate(stream.steps(20)):
        if isinstance(step, RequestAsked):
            waiting.append((step, pool.predict(step.x, str(step.number))[0]))
        else:
            asked, forecast = waiting.pop(0)
            right += task.point(forecast.output) == step.y
            learned += 1
            pool.learn(asked.x, step.y, forecast, float(position), position, str(asked.number))
    assert found.row(SERVED).metrics["accuracy"] == pytest.approx(right / learned)
    assert found.row("logistic-recurring").metrics == merged_report([pool])["logistic-recurring"]
    assert (found.requests, found.labels) == (900, 900)
    assert len(found.row(SERVED).curve) == 2
    assert sum(found.errors) / 900 == pytest.approx(1 - found.row("logistic").metrics["accuracy"])
    assert found.best(["logistic", "logistic-recurring"]).name == "logistic-recurring"
    assert found.row("logistic").seconds is not None
    assert found.row("prior").seconds is None


def test_a_later_label_makes_the_answers_no_better_and_an_absent_one_is_not_counted() -> None:
    examples = [Example(x, y if i % 10 else None) for i, (x, y) in enumerate(linear_rule(1, 3)[:500])]
    stream = Stream("s", "binary", lambda: iter(examples))
    right = []
    for delay in (0, 200):
        run = Prequential(scope_of("binary", ["logistic"]), task_of("binary"), "logistic")
        run.run(stream.steps(delay))
        right.append(run.result().row(SERVED).metrics["accuracy"])
        assert run.result().labels == 450
    assert right[0] > right[1]


def test_each_key_has_a_pool_of_its_own() -> None:
    run = Prequential(scope_of("binary", ["logistic"]), task_of("binary"), "logistic")
    steps: list[RequestAsked | LabelKnown] = []
    for number, (x, y) in enumerate(linear_rule(1, 4)[:600]):
        key = "straight" if number % 2 else "reverse"
        steps += [
            RequestAsked(number, {str(k): v for k, v in x.items()}, key),
            LabelKnown(number, y == (number % 2 == 1)),
        ]
    run.run(steps)
    assert run.result().row(SERVED).metrics["accuracy"] > 0.75


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_every_named_member_answers_numbers_text_and_missing_values(kind: Any) -> None:
    slow = ("srp", "leveraging-bagging", "adwin-bagging")
    champion, *others = members_named(kind, [name for name in SPECS[kind] if name not in slow])
    pool = Pool(task_of(kind), PerKey(champion, others), "", 0)
    rng = random.Random(5)
    for number in range(250):
        x: dict[str, Any] = {"n": rng.gauss(0, 1), "t": rng.choice("abc"), "m": rng.random()}
        y: Any = x["n"] > 0 if kind == "binary" else x["t"] if kind == "multiclass" else x["n"] * 3
        if rng.random() < 0.2:
            del x[rng.choice(list(x))]
        forecast, changes = pool.predict(x)
        assert not changes
        learned = pool.learn(x, y, forecast, 0.0, number, str(number))
        assert "quarantine" not in [change.kind for change in learned.changes]
    assert all(entry["live"] for entry in merged_report([pool]).values())


def test_a_model_that_there_is_not_is_reported_with_those_there_are() -> None:
    with pytest.raises(ModelsError, match=r"no model 'nonsense'.*logistic"):
        scope_of("binary", ["nonsense"])
    assert set(DEFAULT["binary"]) <= set(SPECS["binary"])
    assert scope_of("regression").first.name == "linear"


@pytest.mark.parametrize("name", [*catalogue.GENERATED, *catalogue.SHIPPED])
def test_a_stream_of_the_catalogue_is_the_same_each_time_and_another_for_another_seed(name: str) -> None:
    stream = catalogue.stream_of(name)
    first = bare(stream, 300)
    assert bare(stream, 300) == first == bare(catalogue.stream_of(name), 300)
    assert (bare(catalogue.stream_of(name, 2), 300) != first) == (name in catalogue.GENERATED)
    task = task_of(stream.kind)
    for example in first:
        task.check_label(example.y)
        assert all(isinstance(feature, str) for feature in example.x)


def test_recurring_concepts_come_back_and_the_truth_says_when() -> None:
    both = [linear_rule(1, 6), linear_rule(-1, 7)]
    stream = generator.recurring("s", "binary", both, 100, 350)
    regimes = [(y == (x["0"] > 0.5)) for x, y in stream]
    assert regimes == [True] * 100 + [False] * 100 + [True] * 100 + [False] * 50
    assert [(change.kind, change.start) for change in stream.changes] == [
        ("abrupt", 100), ("recurring", 200), ("recurring", 300),
    ]  # fmt: skip


def test_a_gradual_change_mixes_and_an_incremental_one_turns() -> None:
    gradual = generator.gradual("s", "binary", linear_rule(1, 8), linear_rule(-1, 9), 1000, 400, 3)
    new = [y != (x["0"] > 0.5) for x, y in gradual.take(2000)]
    assert sum(new[:700]) < 40
    assert 100 < sum(new[850:1150]) < 200
    assert sum(new[1300:]) > 660
    (change,) = generator.incremental("s", 100, 500, 4).changes
    assert (change.kind, change.start, change.end, change.subject) == ("incremental", 100, 500, "concept")


def test_data_breaks_touch_one_feature_and_no_label() -> None:
    stream = Stream("s", "binary", lambda: iter([Example({"a": i, "b": i}, i % 2 == 0) for i in range(1000)]))
    scaled = generator.unit_change(stream, "a", 100, 2.54, until=200)
    held = generator.frozen_feature(stream, "a", 100)
    gone = generator.missing_values(stream, "a", 100, 0.1, seed=1)
    for broken in (scaled, held, gone):
        assert [(e.x["b"], e.y) for e in broken] == [(e.x["b"], e.y) for e in stream]
        assert [e.x.get("a") for e in broken][:100] == list(range(100))
        assert broken.changes[0] == KnownChange(broken.changes[0].kind, 100, 100, "a")
    assert [e.x["a"] for e in scaled][100:201] == [*(i * 2.54 for i in range(100, 200)), 200]
    assert [change.start for change in scaled.changes] == [100, 200]
    assert {e.x["a"] for e in list(held)[100:]} == {100}
    assert 60 < sum("a" not in e.x for e in gone) < 130
    assert [e.x for e in gone] == [e.x for e in gone]


def test_a_detector_is_scored_by_its_first_alarm_after_each_change() -> None:
    changes = [KnownChange("abrupt", 1000, 1000), KnownChange("abrupt", 3000, 3000)]
    found = score([400, 1049, 1100], changes, 5000, horizon=500)
    assert (found.alarms, found.false_alarms, found.mtfa, found.mtd, found.mdr) == (3, 1, 4000, 50, 0.5)
    assert found.mtr == pytest.approx(4000 / 50 * 0.5)


@given(st.lists(st.integers(0, 999), unique=True), st.lists(st.integers(1, 999), unique=True, max_size=5))
def test_scores_are_rates_and_never_beats_nothing(alarms: list[int], starts: list[int]) -> None:
    changes = [KnownChange("abrupt", start, start) for start in sorted(starts)]
    found = score(sorted(alarms), changes, 1000, horizon=100)
    assert 0 <= found.false_alarms <= len(alarms)
    assert 0.0 <= found.mdr <= 1.0
    assert found.mtd is None or 1 <= found.mtd <= 100
    assert found.mtr >= 0.0
    if changes:
        assert score([], changes, 1000, horizon=100).mtr == 0.0
        assert score(range(1000), changes, 1000, horizon=100).mdr == 0.0


def test_the_dummies_stand_beside_the_detectors() -> None:
    rng = random.Random(2)
    errors = [float(rng.random() < (0.1 if i < 4000 else 0.5)) for i in range(8000)]
    scores = compare(errors, [KnownChange("abrupt", 4000, 4000)])
    assert scores["ADWIN"].mtr > scores["always"].mtr == pytest.approx(1.0)
    assert scores["never"].mtr == 0.0
    assert alarms_of(Always(), errors[:3]) == [0, 1, 2]
    assert alarms_of(Never(), errors) == []
