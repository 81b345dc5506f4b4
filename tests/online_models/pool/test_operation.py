"""Operation of a pool: sampling rates and the budget, and what an operator may ask for."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from tasks import TASK

from driftline.online_models.combine.combination import Combination
from driftline.online_models.errors import ModelsError
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.operation import (
    add,
    freeze,
    promote,
    remove,
    rollback,
    set_budget,
    unfreeze,
)
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.report import merged_report
from driftline.online_models.pool.serving_change import ModelChange
from driftline.online_models.promote.promotion import Promotion

IDS = [f"request-{number}:b" for number in range(4_000)]


class Counts:
    """An estimator that says how many examples it has learned."""

    def __init__(self) -> None:
        self.learned = 0

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        self.learned += 1

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: self.learned / 100_000}


class Knows(Counts):
    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: 0.9}


class Fails(Counts):
    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        raise RuntimeError("as wanted")


def member(name: str, **declared: Any) -> Member:
    return Member(name, Counts, **declared)


def pool(*seats: Member | Combination, **changes: Any) -> Pool:
    first, *others = seats
    return Pool(TASK, PerKey(first, others, **{"monitoring": None} | changes), "k", 0)


def answered(where: Pool, ids: list[str] = IDS) -> dict[str, float]:
    """The share of requests that each seat answered; all are learned from."""
    counts = [0] * len(where.roster.seats)
    for offset, name in enumerate(ids):
        forecast, _ = where.predict({}, name)
        where.learn({}, True, forecast, 0.0, offset, name)
        assert forecast.output is not None
        for index, output in enumerate(forecast.outputs):
            counts[index] += output is not None
    return {seat.name: count / len(ids) for seat, count in zip(where.roster.seats, counts, strict=True)}


def test_a_member_answers_and_learns_its_share_of_requests_and_the_champion_all() -> None:
    where = pool(member("a", rate=0.1), member("b", rate=0.25))
    shares = answered(where)
    assert shares["a"] == shares["frozen"] == shares["prior"] == 1.0
    assert shares["b"] == pytest.approx(0.25, abs=0.02)
    learned = where.predict({}, "")[0].outputs[:2]
    assert [round(output * 100_000) for output in learned] == [4_000, round(shares["b"] * 4_000)]
    assert merged_report([where])["b"]["n"] == round(shares["b"] * 4_000)


def test_requests_of_a_lower_rate_are_among_those_of_a_higher_one() -> None:
    where = pool(member("a"), member("b", rate=0.2), member("c", rate=0.6))
    both = [where.predict({}, name)[0].outputs for name in IDS]
    assert all(c is not None for _, b, c, *_ in both if b is not None)


def test_a_rate_says_nothing_of_which_labels_are_sampled() -> None:
    where = pool(member("a"), member("b", rate=0.5, sampling={True: 0.1}), baselines=False)
    answered(where)
    learned = where.roster.seats[1].state.estimator.learned
    assert learned == pytest.approx(0.5 * 0.1 * 4_000, rel=0.25)


def test_above_the_budget_the_rates_of_all_that_do_not_serve_go_down_by_one_factor() -> None:
    where = pool(member("a", cost=100.0), member("b", cost=3.0), member("c", rate=0.5, cost=2.0), budget=2.0)
    shares = answered(where)
    assert shares["a"] == 1.0
    assert shares["b"] == pytest.approx(0.5, abs=0.03)
    assert shares["c"] == pytest.approx(0.25, abs=0.03)
    assert set_budget(where.roster, None).kind == "budget"
    assert answered(where)["b"] == 1.0
    change = set_budget(where.roster, 1.0)
    assert change == ModelChange(
        "budget",
        "",
        "command",
        "share of requests that each answers: a 1, b 0.25, c 0.125, frozen 1, prior 1",
    )
    assert answered(where)["b"] == pytest.approx(0.25, abs=0.03)
    assert set_budget(where.roster, float("nan")).kind == "refused"


def test_what_serves_answers_every_request_whatever_its_rate() -> None:
    where = pool(member("a", rate=0.5), member("b", rate=0.1))
    assert promote(where.roster, "b").kind == "promotion"
    shares = answered(where)
    assert shares["b"] == 1.0
    assert shares["a"] == pytest.approx(0.5, abs=0.03)


def test_while_a_combination_serves_all_its_members_answer() -> None:
    where = pool(member("a"), member("b", rate=0.1), Combination("both"), budget=0.5)
    assert answered(where)["b"] < 0.2
    promote(where.roster, "both")
    assert answered(where)["b"] == 1.0


def test_when_the_serving_member_fails_one_answers_whose_turn_it_was_not() -> None:
    where = pool(member("a", rate=0.01), member("b"), baselines=False)
    promote(where.roster, "b")
    not_chosen = next(name for name in IDS if where.predict({}, name)[0].outputs[0] is None)

    where.roster.seats[1].state.estimator = Fails()
    forecast, changes = where.predict({}, not_chosen)
    assert [change.member for change in changes] == ["b"]
    assert (forecast.serving, forecast.output) == ("a", 0.0)


def test_when_a_combination_comes_to_serve_late_its_members_are_asked() -> None:
    where = pool(Combination("both"), member("a", rate=0.01), member("b", rate=0.01), member("c"))
    promote(where.roster, "c")
    not_chosen = next(name for name in IDS if where.predict({}, name)[0].outputs[1] is None)

    where.roster.seats[3].state.estimator = Fails()
    forecast, _ = where.predict({}, not_chosen)
    assert (forecast.serving, forecast.output) == ("both", 0.0)
    assert forecast.outputs[1:3] == (0.0, 0.0)


def test_an_operator_promotes_and_rolls_back() -> None:
    where = pool(member("a"), member("b"))
    assert rollback(where.roster) == ModelChange("refused", "", "command", "there is no promotion to undo")
    assert promote(where.roster, "b") == ModelChange("promotion", "b", "command", "")
    forecast, _ = where.predict({}, "")
    assert (forecast.serving, forecast.version) == ("b", "b@0:-1")
    assert rollback(where.roster) == ModelChange("rollback", "a", "command", "")
    assert where.serving == "a"
    assert rollback(where.roster).kind == "refused"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a", "it serves already"),
        ("z", "no live member has this name"),
        ("r", "it is not live: add it first"),
        ("frozen", "it has not been frozen yet"),
    ],
)
def test_what_cannot_be_promoted_is_refused_with_the_reason(name: str, reason: str) -> None:
    where = pool(member("a"), member("b"), member("r", reserve=True))
    assert promote(where.roster, name) == ModelChange("refused", name, "command", reason)
    assert where.serving == "a"


def test_a_frozen_baseline_can_be_promoted_once_it_is_one() -> None:
    where = pool(member("a"), frozen_after=5)
    answered(where, IDS[:8])
    assert promote(where.roster, "frozen").kind == "promotion"
    assert where.predict({}, "")[0].version == "frozen@0:4"


def test_a_member_in_reserve_is_idle_until_it_is_added() -> None:
    where = pool(member("a"), member("r", reserve=True), promotion=Promotion())
    assert answered(where, IDS[:100])["r"] == 0.0
    assert add(where.roster, "r") == ModelChange("add", "r", "command", "")
    assert answered(where, IDS[:100])["r"] == 1.0
    assert where.roster.seats[1].state.estimator.learned == 100
    assert add(where.roster, "r").reason == "it is live already"
    assert (
        add(where.roster, "prior").reason
        == add(where.roster, "z").reason
        == "no declared member has this name"
    )


def test_a_removed_member_is_idle_and_starts_again_when_added_again() -> None:
    where = pool(member("a"), member("b"), promotion=Promotion())
    answered(where, IDS[:50])
    assert remove(where.roster, "b") == ModelChange("remove", "b", "command", "")
    assert answered(where, IDS[:50])["b"] == 0.0
    assert promote(where.roster, "b").kind == "refused"
    assert remove(where.roster, "b").kind == "refused"
    add(where.roster, "b")
    answered(where, IDS[:30])
    assert where.roster.seats[1].state.estimator.learned == 30


def test_what_is_needed_is_not_removed() -> None:
    where = pool(member("a"), member("b"), Combination("both"), frozen_after=5)
    assert remove(where.roster, "a").reason == "it serves: promote another one first"
    promote(where.roster, "b")
    assert "frozen baseline" in remove(where.roster, "a").reason
    answered(where, IDS[:5])
    assert remove(where.roster, "a").kind == "remove"
    promote(where.roster, "both")
    assert remove(where.roster, "b").reason == "it is the last one that a combination has"
    assert remove(where.roster, "prior").reason == "no live challenger has this name"


def test_promotions_are_frozen_and_unfrozen() -> None:
    where = pool(member("a"), member("b"), promotion=Promotion())
    assert unfreeze(where.roster).kind == "refused"
    assert freeze(where.roster) == ModelChange("freeze", "", "command", "")
    assert freeze(where.roster).reason == "promotions are frozen already"
    assert unfreeze(where.roster) == ModelChange("unfreeze", "", "command", "")
    assert freeze(pool(member("a")).roster).kind == "refused"


def test_while_promotions_are_frozen_what_is_proven_is_reported_and_does_not_take_over() -> None:
    where = pool(member("a"), Member("b", Knows), promotion=Promotion(), baselines=False)
    freeze(where.roster)
    changes = []
    for offset, name in enumerate(IDS):
        forecast, _ = where.predict({}, name)
        changes += where.learn({}, True, forecast, 0.0, offset, name).changes
        if offset == 3_000:
            unfreeze(where.roster)
    assert [(change.kind, change.reason) for change in changes[:1]] == [("withheld", "promotions are frozen")]
    assert changes[1].kind == "promotion"


def test_a_pool_is_operated_on_from_its_state() -> None:
    def declared() -> Pool:
        return pool(member("a"), member("b", cost=4.0), member("r", reserve=True), promotion=Promotion())

    where, again = declared(), declared()
    promote(where.roster, "b")
    add(where.roster, "r")
    set_budget(where.roster, 1.0)
    again.restore(pickle.loads(pickle.dumps(where.state(), protocol=5)))
    assert answered(again) == answered(where)
    assert rollback(again.roster) == rollback(where.roster) == ModelChange("rollback", "a", "command", "")
    assert answered(again) == answered(where)


def test_numbers_out_of_range_are_refused() -> None:
    for declare in (
        lambda: member("a", rate=0.0),
        lambda: member("a", rate=1.5),
        lambda: member("a", cost=0.0),
        lambda: PerKey(member("a", reserve=True)),
        lambda: PerKey(member("a"), budget=0.0),
    ):
        with pytest.raises(ModelsError):
            declare()
