"""Promotion: what is better takes over, what is not does not, and neither happens too often."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from tasks import LABEL, TASK, Ask, Reads

from driftline.online_models.drift import Monitoring
from driftline.online_models.errors import ModelsError
from driftline.online_models.members.failures import Tolerance
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.pool import Forecast, Pool
from driftline.online_models.pool.report import merged_report
from driftline.online_models.pool.serving_change import ModelChange
from driftline.online_models.promote.promotion import LABELS_IN_BLOCK, Promotion
from driftline.online_models.tasks.task import Regression
from driftline.streams.code.state_hash import state_hash

Row = tuple[dict[str, Any], Any]


def reads(name: str) -> Member:
    return Member(name, lambda: Reads(name))


def pool(rules: Promotion, *names: str, slices: Sequence[str] = (), **changes: Any) -> Pool:
    first, *others = [reads(name) for name in names]
    declared = PerKey(first, others, promotion=rules, **{"monitoring": None} | changes)
    return Pool(TASK, declared, "k", 0, slices)


def at_once(**rules: Any) -> Promotion:
    """Rules by which members are compared from the first label on."""
    return Promotion(**{"warm_up": 0} | rules)


def rows(n: int, noise: Callable[[int, str], float], *names: str, seed: int = 1) -> Iterator[Row]:
    """Labels that are true with a probability which every member sees through noise of its own."""
    rng = random.Random(seed)
    for number in range(n):
        p = 0.05 + 0.9 * rng.random()
        x: dict[str, Any] = {"shop": rng.choice("stu")}
        for name in names:
            x[name] = min(0.99, max(0.01, p + rng.gauss(0.0, noise(number, name))))
        yield x, rng.random() < p


def run(where: Pool, given: Iterator[Row], start: int = 0) -> list[tuple[int, ModelChange, Forecast]]:
    """(offset, change, the forecast behind it) of every change but the frozen baseline's."""
    found = []
    for offset, (x, y) in enumerate(given, start):
        forecast, changes = where.predict(x)
        slices = (x["shop"],) if where.roster.referee is not None and where.roster.referee._slices else ()
        learned = where.learn(x, y, forecast, float(offset), offset, f"id-{offset}", slices)
        found += [(offset, c, forecast) for c in (*changes, *learned.changes) if c.kind != "frozen"]
    return found


def noises(**of: float) -> Callable[[int, str], float]:
    return lambda number, name: of[name]


def test_a_better_challenger_takes_over_and_the_event_says_on_which_evidence() -> None:
    where = pool(at_once(), "a", "b")
    ((offset, change, before),) = run(where, rows(4_000, noises(a=0.3, b=0.1), "a", "b"))
    assert (change.kind, change.member, change.stage) == ("promotion", "b", "promotion")
    assert (before.serving, before.version) == ("a", f"a@0:{offset - 1}")
    after, _ = where.predict({"a": 0.5, "b": 0.25})
    assert (after.serving, after.version, after.output) == ("b", "b@0:3999", 0.25)
    evidence = change.evidence
    assert evidence is not None
    assert evidence.against == "a"
    assert evidence.n == offset - evidence.since
    assert 300 <= evidence.n < 1_000
    assert evidence.interval[0] < evidence.gain < evidence.interval[1]
    assert evidence.interval[0] > 0
    assert evidence.e_value >= 1 / evidence.alpha
    assert evidence.alpha == pytest.approx(evidence.alpha_spent)
    assert set(evidence.baselines) == {"frozen", "prior"}
    assert all(gain > 0 for gain in evidence.baselines.values())
    report = merged_report([where])
    assert {name: (entry["role"], entry["serving"]) for name, entry in report.items()} == {
        "a": ("champion", 0),
        "b": ("challenger", 1),
        "frozen": ("baseline", 0),
        "prior": ("baseline", 0),
    }


def test_the_frozen_baseline_remains_the_declared_champion_s() -> None:
    where = pool(at_once(min_labels=100), "a", "b", frozen_after=3_000)
    run(where, rows(4_000, noises(a=0.3, b=0.1), "a", "b"))
    forecast, _ = where.predict({"a": 0.75, "b": 0.25})
    assert (forecast.output, forecast.outputs[2]) == (0.25, 0.75)


def test_what_turns_worse_is_rolled_back_by_the_same_test() -> None:
    def noise(number: int, name: str) -> float:
        return 0.3 if (name == "b") == (number >= 3_000) else 0.1

    where = pool(at_once(window=2_000), "a", "b")
    (first, promotion, _), (second, rollback, forecast) = run(where, rows(8_000, noise, "a", "b"))
    assert (promotion.kind, promotion.member) == ("promotion", "b")
    assert (rollback.kind, rollback.member) == ("rollback", "a")
    assert first < 1_500
    assert 3_000 < second < 5_500
    assert forecast.serving == "b"
    assert where.serving == "a"


@pytest.mark.parametrize("seed", range(6))
def test_of_equals_none_takes_over(seed: int) -> None:
    where = pool(at_once(), "a", "b", "c")
    assert run(where, rows(6_000, noises(a=0.2, b=0.2, c=0.2), "a", "b", "c", seed=seed)) == []


def test_of_several_better_ones_the_best_takes_over() -> None:
    where = pool(at_once(min_labels=2_000), "a", "b", "c")
    changes = run(where, rows(2_150, noises(a=0.4, b=0.2, c=0.05), "a", "b", "c"))
    assert [(change.kind, change.member) for _, change, _ in changes] == [("promotion", "c")]


def test_a_challenger_that_is_worse_on_one_slice_does_not_and_the_event_says_why() -> None:
    def shop_by_shop(given: Iterator[Row]) -> Iterator[Row]:
        rng = random.Random(5)
        for x, y in given:
            if x["shop"] == "s":
                x["b"] = min(0.95, max(0.05, x["b"] + rng.gauss(0.0, 0.5)))
            yield x, y

    given = list(shop_by_shop(rows(6_000, noises(a=0.35, b=0.0), "a", "b")))
    where = pool(at_once(), "a", "b", slices=["shop"])
    changes = [change for _, change, _ in run(where, iter(given))]
    assert {(change.kind, change.member) for change in changes} == {("withheld", "b")}
    change = changes[0]
    assert "where shop is 's'" in change.reason
    assert change.evidence is not None
    worst = change.evidence.slices[0]
    assert (worst.slice, worst.value) == ("shop", "s")
    assert worst.gain < 0 < change.evidence.gain
    assert where.serving == "a"
    without = pool(at_once(), "a", "b")
    assert [change.kind for _, change, _ in run(without, iter(given))] == ["promotion"]


def test_a_challenger_that_does_not_beat_a_baseline_does_not() -> None:
    def constant(given: Iterator[Row]) -> Iterator[Row]:
        rng = random.Random(2)
        for x, _ in given:
            yield x, rng.random() < 0.1

    where = pool(at_once(), "a", "b")
    ((_, change, _),) = run(where, constant(rows(3_000, noises(a=0.5, b=0.2), "a", "b")))
    assert (change.kind, change.member) == ("withheld", "b")
    assert "more than the baseline prior" in change.reason


def test_promotions_are_bounded_and_none_follows_within_the_cooldown() -> None:
    def noise(number: int, name: str) -> float:
        return 0.45 if (name == "a") == (number // 900 % 2 == 0) else 0.0

    rules = at_once(alpha=0.5, min_labels=50, margin=0.0, window=1_000, cooldown=300, most=3, per=5_000)
    where = pool(rules, "a", "b", baselines=False)
    changes = run(where, rows(20_000, noise, "a", "b"))
    moves = [offset for offset, change, _ in changes if change.kind != "withheld"]
    assert len(moves) >= 6
    assert all(later - earlier >= 300 for earlier, later in pairwise(moves))
    assert all(later - earlier >= 5_000 for earlier, later in zip(moves, moves[3:], strict=False))
    reasons = [change.reason for _, change, _ in changes if change.kind == "withheld"]
    assert any("there were 3 changes" in reason for reason in reasons)


def test_drift_makes_comparisons_start_again_at_the_cost_of_error_budget() -> None:
    def noise(number: int, name: str) -> float:
        return 0.02 if name == "b" and number >= 4_000 else 0.25

    def flipped(given: Iterator[Row]) -> Iterator[Row]:
        for number, (x, y) in enumerate(given):
            yield x, y != (3_000 <= number < 4_000)

    where = pool(at_once(), "a", "b", monitoring=Monitoring())
    changes = run(where, flipped(rows(9_000, noise, "a", "b")))
    evidence = changes[-1][1].evidence
    assert evidence is not None
    assert evidence.since > 3_000
    assert evidence.alpha < 0.01 < evidence.alpha_spent < 0.05


def test_when_what_was_promoted_fails_the_first_live_member_in_line_serves() -> None:
    def failing(given: Iterator[Row]) -> Iterator[Row]:
        for number, (x, y) in enumerate(given):
            yield (x | {"c": None} if number == 3_000 else x), y

    where = pool(at_once(), "a", "b", "c", tolerance=Tolerance(failures=1, pause=10_000))
    changes = run(where, failing(rows(5_000, noises(a=0.3, b=0.3, c=0.1), "a", "b", "c")))
    assert [(change.kind, change.member) for _, change, _ in changes] == [
        ("promotion", "c"),
        ("quarantine", "c"),
    ]
    assert changes[1][2].serving == "a"
    assert changes[1][2].output == changes[1][2].outputs[0]
    assert where.serving == "a"


def test_a_candidate_that_fails_is_compared_no_more() -> None:
    def failing(given: Iterator[Row]) -> Iterator[Row]:
        for number, (x, y) in enumerate(given):
            yield (x | {"b": None} if number == 250 else x), y

    where = pool(at_once(), "a", "b", tolerance=Tolerance(failures=1, pause=10_000))
    changes = run(where, failing(rows(4_000, noises(a=0.4, b=0.0), "a", "b")))
    assert [change.kind for _, change, _ in changes] == ["quarantine"]


@pytest.mark.parametrize("cut", [LABELS_IN_BLOCK * 10, LABELS_IN_BLOCK * 20 + 5, 1_500])
def test_a_restored_pool_decides_the_same(cut: int) -> None:
    given = list(rows(4_000, noises(a=0.3, b=0.15), "a", "b"))
    whole = pool(at_once(), "a", "b", slices=["shop"])
    half = pool(at_once(), "a", "b", slices=["shop"])
    expected = run(whole, iter(given))
    found = run(half, iter(given[:cut]))
    state = pickle.loads(pickle.dumps(half.state(), protocol=5))
    assert state_hash(state) == state_hash(half.state())
    again = pool(at_once(), "a", "b", slices=["shop"])
    again.restore(state)
    found += run(again, iter(given[cut:]), start=cut)
    assert [(offset, change) for offset, change, _ in found] == [(o, c) for o, c, _ in expected]
    assert state_hash(again.state()) == state_hash(whole.state())


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_squared_errors_are_compared_in_any_unit(unit: float) -> None:
    def measured() -> Iterator[Row]:
        rng = random.Random(3)
        for _ in range(4_000):
            y = rng.gauss(0, 1)
            a, b = y + rng.gauss(0, 1), y + rng.gauss(0, 0.7)
            yield {"shop": "s", "a": unit * a, "b": unit * b}, unit * y

    declared = PerKey(reads("a"), [reads("b")], promotion=at_once(), monitoring=None)
    where = Pool(Regression("r", ask=Ask, label=LABEL), declared, "k", 0)
    ((offset, change, _),) = run(where, measured())
    assert (change.kind, change.member) == ("promotion", "b")
    assert offset < 2_000
    assert change.evidence is not None
    assert change.evidence.gain == pytest.approx(0.5 * unit**2, rel=0.3)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"alpha": 0.0}, {"alpha": 1.0}, {"margin": -0.1}, {"slice_margin": 1.0}, {"min_labels": 0}),
        *(
            {"most": 0},
            {"per": 0},
            {"window": 0},
            {"cooldown": -1},
            {"warm_up": -1},
            {"bound": 0.0},
            {"bound": float("inf")},
        ),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelsError, match=next(iter(wrong))):
        Promotion(**wrong)


def test_in_the_first_labels_of_a_pool_nothing_is_compared() -> None:
    def noise(number: int, name: str) -> float:
        return 0.4 if name == "a" and number < 1_000 else 0.1

    given = list(rows(4_000, noise, "a", "b"))
    assert [change.kind for _, change, _ in run(pool(at_once(), "a", "b"), iter(given))] == ["promotion"]
    assert run(pool(Promotion(), "a", "b"), iter(given)) == []


def rarely(n: int) -> Iterator[Row]:
    """Labels of which 1 % are true, by chance: member `zero` says nearly never, `share` what is true."""
    rng = random.Random(4)
    for _ in range(n):
        yield {"shop": "s", "share": 0.01, "zero": 1e-6}, rng.random() < 0.01


def test_saying_zero_for_what_is_rare_is_no_gain() -> None:
    where = pool(at_once(), "zero", "share", baselines=False)
    assert [change.member for _, change, _ in run(where, rarely(30_000))] == ["share"]
    where = pool(at_once(), "share", "zero", baselines=False)
    assert run(where, rarely(30_000)) == []


def forest(seed: int) -> Any:
    from river import forest

    return forest.ARFClassifier(n_models=3, seed=seed)


def linear(seed: int) -> Any:
    """Starts from random weights, so that one of two is truly better at first."""
    from river import linear_model, optim, preprocessing

    start = optim.initializers.Normal(seed=seed)
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(initializer=start)


UNSEEN = 10_000
"""From this seed on no run was looked at while the rules were chosen."""


def promoted_of_equals(build: Callable[[int], Any], runs: int, labels: int, first: int = 0) -> int:
    """In how many runs a model takes over from another of the same spec but another seed."""
    return sum(_changes_hands(build, seed, labels) for seed in range(first, first + runs))


def _changes_hands(build: Callable[[int], Any], seed: int, labels: int) -> bool:
    one = Member("one", lambda: build(2 * seed))
    two = Member("two", lambda: build(2 * seed + 1))
    where = Pool(TASK, PerKey(one, [two], promotion=Promotion(), monitoring=None), "k", 0)
    drawn = rows(labels, noises(a=0.2, b=0.2), "a", "b", seed=seed)
    given = ((x | {"shop": 0.0}, y) for x, y in drawn)
    changes = [change.kind for _, change, _ in run(where, given)]
    assert "quarantine" not in changes
    return bool({"promotion", "rollback"} & set(changes))


@pytest.mark.parametrize(("build", "runs"), [(forest, 2), (linear, 10)])
def test_a_model_of_the_same_spec_does_not_take_over(build: Callable[[int], Any], runs: int) -> None:
    assert promoted_of_equals(build, runs, 1_600) == 0


@pytest.mark.soak
@pytest.mark.parametrize("build", [forest, linear])
def test_of_two_hundred_models_of_the_same_spec_at_most_a_twentieth_takes_over(
    build: Callable[[int], Any],
) -> None:
    assert promoted_of_equals(build, 200, 3_000, first=UNSEEN) <= 10
