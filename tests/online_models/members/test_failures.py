"""One bad answer is not a dead model: who answers instead, what is put in quarantine, how it comes back."""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest
from tasks import LABEL, TASK, Ask

from driftline.online_models.combine.combination import Combination
from driftline.online_models.errors import ModelsError
from driftline.online_models.members.failures import Failures, Tolerance
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.operation import add, promote, remove
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.report import merged_report
from driftline.online_models.pool.serving_change import ModelChange
from driftline.online_models.promote.promotion import Promotion
from driftline.online_models.tasks.task import Anomaly, Multiclass, Regression

RULES = Tolerance(failures=3, within=20, pause=50, probation=10)


class Obeys:
    """Does what a feature wants: `predict` and `learn` are "nan", "none", "raise" or "exit"."""

    def __init__(self) -> None:
        self.learned = 0

    def learn_one(self, x: dict[str, Any], y: Any = None) -> None:
        if x.get("learn") == "raise":
            raise RuntimeError("not this one")
        if x.get("learn") == "exit":
            sys.exit(1)
        self.learned += 1

    def _say(self, x: dict[str, Any], usual: Any) -> Any:
        what = x.get("predict")
        if what == "raise":
            raise RuntimeError("not this one")
        if what == "exit":
            sys.exit(1)
        return {"nan": math.nan, "none": None, None: usual}[what]

    def predict_proba_one(self, x: dict[str, Any]) -> Any:
        p = self._say(x, 0.9)
        return None if p is None else {True: p}

    def predict_one(self, x: dict[str, Any]) -> Any:
        return self._say(x, 1.0)

    def score_one(self, x: dict[str, Any]) -> Any:
        return self._say(x, 0.9)


class Waits(Obeys):
    def predict_proba_one(self, x: dict[str, Any]) -> Any:
        return {True: 0.7} if self.learned else None


class Wrong(Obeys):
    def _say(self, x: dict[str, Any], usual: Any) -> Any:
        return super()._say(x, 0.05)


class Says(Obeys):
    """A model that learns without a failure."""

    def learn_one(self, x: dict[str, Any], y: Any = None) -> None:
        self.learned += 1

    def predict_proba_one(self, x: dict[str, Any]) -> Any:
        return {True: 0.4}

    def predict_one(self, x: dict[str, Any]) -> Any:
        return 0.4

    def score_one(self, x: dict[str, Any]) -> Any:
        return 0.4


TASKS = [
    (TASK, True),
    (Regression("r", ask=Ask, label=LABEL), 2.0),
    (Multiclass("m", ask=Ask, label=LABEL), "True"),
    (Anomaly("o", ask=Ask, label=LABEL), False),
]
WELL: dict[str, Any] = {}
NAN = {"predict": "nan"}
RAISES = {"predict": "raise"}
EXITS = {"predict": "exit"}
SPOILS = {"learn": "raise"}
EXITS_LEARNING = {"learn": "exit"}


def pool(*others: Member | Combination, task: Any = TASK, **declared: Any) -> Pool:
    rules = {"tolerance": RULES, "monitoring": None} | declared
    return Pool(task, PerKey(Member("moody", Obeys), others, **rules), "k", 0)


def run(
    where: Pool, requests: Iterable[dict[str, Any]], y: Any = True
) -> list[tuple[str, list[ModelChange]]]:
    """(who answered, changes) of each request, whose label comes at once."""
    found = []
    for offset, x in enumerate(requests):
        forecast, changes = where.predict(x)
        learned = where.learn(x, y, forecast, 0.0, offset, str(offset))
        assert forecast.output is not None
        found.append((forecast.serving, [*changes, *learned.changes]))
    return found


def changes_of(found: list[tuple[str, list[ModelChange]]]) -> list[tuple[str, str]]:
    return [(change.kind, change.member) for _, changes in found for change in changes]


@pytest.mark.parametrize(("task", "y"), TASKS)
@pytest.mark.parametrize("bad", [NAN, RAISES, EXITS])
def test_one_bad_answer_is_given_by_the_next_in_line_and_the_member_goes_on(
    task: Any, y: Any, bad: dict[str, Any]
) -> None:
    where = pool(Member("steady", Says), task=task)
    found = run(where, [WELL] * 5 + [bad] + [WELL] * 30, y)
    assert [serving for serving, _ in found] == ["moody"] * 5 + ["steady"] + ["moody"] * 30
    assert changes_of(found) == [("failing", "moody"), ("recovered", "moody")]
    report = merged_report([where])
    assert (report["moody"]["live"], report["moody"]["n"], report["moody"]["failures"]) == (True, 35, 1)


@pytest.mark.parametrize(("task", "y"), TASKS)
def test_when_everything_fails_the_prior_answers_whatever_the_task(task: Any, y: Any) -> None:
    for baselines, bad in product((True, False), (RAISES | SPOILS, EXITS | EXITS_LEARNING)):
        where = pool(task=task, baselines=baselines)
        found = run(where, [bad] * 60, y)
        assert {serving for serving, _ in found} == {"prior"}


def test_a_member_learns_from_a_request_that_it_could_not_answer() -> None:
    where = pool()
    run(where, [WELL, NAN, RAISES])
    assert where.roster.seats[0].state.estimator.learned == 3


def test_what_fails_repeatedly_is_out_for_the_pause_then_on_probation_then_serves_again() -> None:
    where = pool(Member("steady", Says))
    found = run(where, [WELL] * 5 + [NAN] * 3 + [WELL] * 70)
    assert changes_of(found) == [(kind, "moody") for kind in ("failing", "quarantine", "probation", "return")]
    served = [serving for serving, _ in found]
    # out from the 8th request on, anew at the 58th, and 10 examples are learned from before it serves
    assert served == ["moody"] * 5 + ["steady"] * (3 + 49 + 10) + ["moody"] * 11
    assert where.roster.seats[0].state.estimator.learned == 21


def test_a_member_on_probation_does_not_stand_in() -> None:
    where = pool(Member("steady", Says), Member("third", Says))
    run(where, [NAN] * 3)
    add(where.roster, "moody")
    promote(where.roster, "third")
    where.roster.seats[2].state.estimator = Obeys()
    forecast, _ = where.predict(RAISES)
    assert forecast.serving == "steady"


def test_pauses_double_so_that_what_always_fails_costs_little_and_tells_little() -> None:
    where = pool()
    found = run(where, [NAN] * 5_000)
    kinds = [kind for kind, member in changes_of(found) if member == "moody"]
    assert kinds.count("quarantine") == kinds.count("probation") + 1 == kinds.count("failing") <= 8
    assert len(kinds) < 30


def test_failures_that_are_rare_enough_put_nobody_in_quarantine_and_tell_one_event() -> None:
    where = pool()
    found = run(where, [NAN if number % 12 == 0 else WELL for number in range(1_000)])
    assert changes_of(found) == [("failing", "moody")]


@pytest.mark.parametrize("spoiling", [SPOILS])
def test_a_member_that_cannot_learn_is_put_in_quarantine_too(spoiling: dict[str, Any]) -> None:
    found = run(pool(Member("steady", Says)), [spoiling] * 3)
    assert [(c.kind, c.stage) for _, changes in found for c in changes if c.member == "moody"] == [
        ("failing", "learn"),
        ("quarantine", "learn"),
    ]


def test_none_before_the_first_label_is_no_failure_and_after_it_is_one() -> None:
    where = Pool(TASK, PerKey(Member("waits", Waits), tolerance=RULES, monitoring=None), "k", 0)
    forecasts = [where.predict(WELL) for _ in range(30)]
    assert not any(changes for _, changes in forecasts)
    assert {forecast.serving for forecast, _ in forecasts} == {"prior"}
    where.learn(WELL, True, forecasts[0][0], 0.0, 0, "0")
    assert where.predict(WELL)[0].serving == "waits"

    (first, _), *_ = run(pool(), [WELL])
    assert first == "moody"
    assert changes_of(run(pool(), [WELL, {"predict": "none"}])) == [("failing", "moody")]


def test_by_the_command_add_a_quarantine_ends_at_once_with_its_probation() -> None:
    where = pool()
    run(where, [NAN] * 3)
    assert where.serving == "prior"
    assert add(where.roster, "moody").kind == "probation"
    found = run(where, [WELL] * 12)
    assert changes_of(found) == [("return", "moody")]
    assert where.serving == "moody"


def test_a_member_that_is_removed_in_quarantine_stays_out_until_it_is_added() -> None:
    where = pool()
    run(where, [NAN] * 3)
    assert remove(where.roster, "moody") == ModelChange("remove", "moody", "command", "")
    assert not changes_of(run(where, [WELL] * 100))
    assert add(where.roster, "moody").kind == "add"
    assert where.roster.seats[0].state.live


def test_who_was_promoted_meanwhile_goes_on_serving() -> None:
    where = pool(Member("steady", Says), Member("third", Says))
    run(where, [NAN] * 3)
    promote(where.roster, "third")
    assert changes_of(run(where, [WELL] * 80))[-1] == ("recovered", "moody")
    assert where.serving == "third"


def test_where_promotion_is_declared_evidence_decides_whether_it_serves_again() -> None:
    steady = Member("steady", Says)
    models = PerKey(
        Member("moody", Wrong), [steady], tolerance=RULES, monitoring=None, promotion=Promotion(warm_up=0)
    )
    where = Pool(TASK, models, "k", 0)
    found = run(where, [NAN] * 3 + [WELL] * 500)
    assert changes_of(found)[-1] == ("recovered", "moody")
    assert where.serving == "steady"


def test_a_combination_goes_on_with_the_others_and_comes_back_when_all_had_failed() -> None:
    where = Pool(
        TASK,
        PerKey(
            Combination("both"),
            [Member("moody", Obeys), Member("moodier", Obeys)],
            tolerance=RULES,
            monitoring=None,
        ),
        "k",
        0,
    )
    found = run(where, [WELL] * 2 + [NAN] * 3 + [WELL] * 70)
    served = [serving for serving, _ in found]
    assert served[:2] == ["both"] * 2
    assert set(served[2:53]) == {"prior"}
    assert served[-1] == "both"


def test_the_frozen_baseline_that_fails_now_and_then_stays_what_it_was() -> None:
    where = pool(frozen_after=2)
    run(where, [WELL] * 3 + [NAN] * 3)
    frozen = where.roster.seats[1]
    assert not frozen.state.live
    found = run(where, [WELL] * 80)
    assert ("return", "frozen") in changes_of(found)  # the champion is on probation still
    assert frozen.state.estimator.learned == 2


def test_a_first_member_in_quarantine_is_frozen_once_it_is_back() -> None:
    where = pool(frozen_after=5)
    found = run(where, [NAN] * 3 + [WELL] * 60)
    assert changes_of(found).index(("probation", "moody")) < changes_of(found).index(("frozen", "frozen"))


def test_a_pool_restored_amid_failures_goes_on_the_same() -> None:
    requests = [NAN if number % 7 < 2 else SPOILS if number % 11 == 0 else WELL for number in range(300)]
    both = (Member("steady", Says), Combination("mixed"))
    expected = run(pool(*both), requests)
    for cut in range(0, 300, 23):
        half = pool(*both)
        before = run(half, requests[:cut])
        again = pool(*both)
        again.restore(pickle.loads(pickle.dumps(half.state())))
        assert before + run(again, requests[cut:]) == expected


def test_the_reason_of_a_quarantine_is_in_the_report() -> None:
    where = pool()
    run(where, [NAN] * 3)
    entry = merged_report([where])["moody"]
    assert entry["live"] is False
    assert entry["quarantine"] == "NotFinite: p(True) is nan"


def test_too_many_is_counted_within_a_window() -> None:
    failures = Failures()
    assert [failures.add(request, "", RULES) for request in (1, 2, 25, 30, 44)] == [False] * 4 + [True]


@pytest.mark.parametrize(
    "wrong",
    [{"failures": 0}, {"within": 1.5}, {"pause": -1}, {"probation": True}, {"failures": 9, "within": 8}],
)
def test_a_tolerance_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelsError, match="Tolerance"):
        Tolerance(**wrong)
