"""Reactions to drift: what they do at a change, that they are River estimators, and that they replay."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from river import base, drift, dummy, ensemble, linear_model, naive_bayes, preprocessing, stats, tree

from driftline.online_models.members.member import Member, PerKey, accepts_weight
from driftline.online_models.members.reactions import Background, Boosted, ErrorAlarm, Recurring, Reset
from driftline.online_models.pool.pool import Pool
from driftline.online_models.tasks.task import Binary, Label, Regression
from driftline.streams.code.state_hash import state_hash

LABEL = Label(object, on="id", value=id, wait=1.0)

Examples = list[tuple[dict[str, float], Any]]


def bayes() -> Any:
    return naive_bayes.GaussianNB()


def logistic() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def running_mean() -> Any:
    return dummy.StatisticRegressor(stats.Mean())


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "Reset": lambda: Reset(bayes()),
    "Background": lambda: Background(bayes()),
    "Recurring": lambda: Recurring(bayes(), kept=2),
    "Boosted": lambda: Boosted(logistic()),
    "nested": lambda: Boosted(Recurring(logistic())),
    "of a tree": lambda: Recurring(tree.HoeffdingTreeClassifier(grace_period=50)),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "Reset": lambda: Reset(running_mean()),
    "Background": lambda: Background(running_mean()),
    "Recurring": lambda: Recurring(running_mean()),
    "Boosted": lambda: Boosted(running_mean()),
}


def regimes(*signs: int, each: int = 900, seed: int = 3) -> Iterator[tuple[dict[str, float], bool]]:
    """`signs` in turn say whether a large `a` means True or False."""
    rng = random.Random(seed)
    for sign in signs:
        for _ in range(each):
            x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
            yield x, (x["a"] + 0.4 * rng.gauss(0, 1) > 0) == (sign > 0)


def accuracy(model: Any, examples: Any) -> float:
    right = n = 0
    for x, y in examples:
        right += model.predict_one(x) == y
        n += 1
        model.learn_one(x, y)
    return right / n


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_reaction_does_better_than_the_bare_model_where_the_rule_is_turned_round(name: str) -> None:
    bare = bayes() if name in ("Reset", "Background", "Recurring", "of a tree") else logistic()
    assert accuracy(CLASSIFIERS[name](), regimes(1, -1)) > accuracy(bare, regimes(1, -1)) + 0.01


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_reaction_goes_on_the_same_after_a_pickle_and_has_one_canonical_hash(name: str) -> None:
    model, again = CLASSIFIERS[name](), CLASSIFIERS[name]()
    for examples in (list(regimes(1, -1, 1, seed=4)), list(regimes(1, -1, seed=5))):
        for x, y in examples:
            model.learn_one(x, y)
            again.learn_one(x, y)
        assert state_hash(model) == state_hash(again)
        model = pickle.loads(pickle.dumps(model, protocol=5))
    assert state_hash(model) == state_hash(again)


@pytest.mark.parametrize("name", REGRESSORS)
@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e6])
def test_a_regressor_reacts_whatever_the_unit(name: str, unit: float) -> None:
    rng = random.Random(6)
    model, bare = REGRESSORS[name](), running_mean()
    reacted = plain = 0.0
    for i in range(4000):
        x = {"a": 1.0}
        y = unit * ((1 if i < 2000 else -1) + 0.2 * rng.gauss(0, 1))
        if i >= 2000:
            reacted += abs(model.predict_one(x) - y)
            plain += abs(bare.predict_one(x) - y)
        model.learn_one(x, y)
        bare.learn_one(x, y)
    assert reacted < plain * 0.8
    assert isinstance(model, base.Regressor)
    assert not isinstance(model, base.Classifier)


def test_an_earlier_model_is_taken_up_again() -> None:
    examples = list(regimes(1, -1, 1, -1, 1, -1))
    model = Recurring(bayes())
    assert accuracy(model, examples) > accuracy(bayes(), examples) + 0.1
    assert model.fresh >= 1
    assert model.reused >= 3


def test_no_more_models_are_kept_than_declared() -> None:
    model = Recurring(bayes(), kept=2, margin=-1.0)
    for x, y in regimes(*([1, -1] * 6), each=800):
        model.learn_one(x, y)
        assert len(model._earlier) <= 2
    assert model.fresh + model.reused > 4


def test_the_gate_keeps_a_model_that_a_fresh_one_cannot_beat() -> None:
    rng = random.Random(8)
    # noise comes and goes: no fresh model can do anything about it
    noisy = [(x, y != (900 <= i < 1800 and rng.random() < 0.3)) for i, (x, y) in enumerate(regimes(1, 1, 1))]
    gated, always = Background(bayes(), margin=0.1), Background(bayes(), margin=-1.0)
    for x, y in noisy:
        gated.learn_one(x, y)
        always.learn_one(x, y)
    assert always.fresh >= 1
    assert gated.fresh == 0


def test_a_model_that_gets_better_is_left_alone() -> None:
    alarm = ErrorAlarm(None, drift.ADWIN(delta=0.01))
    rng = random.Random(9)
    signals = [alarm.update(float(rng.random() < (0.5 if i < 2000 else 0.1))) for i in range(4000)]
    assert set(signals) == {"none"}
    signals = [alarm.update(float(rng.random() < 0.6)) for _ in range(1000)]
    assert "drift" in signals


@pytest.mark.parametrize(
    "detector", [drift.ADWIN(), drift.PageHinkley(), drift.binary.DDM(), drift.binary.HDDMW()]
)
def test_any_detector_of_river_will_do(detector: Any) -> None:
    model = Background(bayes(), detector)
    for x, y in regimes(1, -1):
        model.learn_one(x, y)
    assert model.fresh >= 1
    assert model.detector is detector
    assert detector.drift_detected is False  # a copy of it was fed


def test_they_are_river_estimators() -> None:
    for make in CLASSIFIERS.values():
        model = make()
        assert isinstance(model, base.Classifier)
        assert not isinstance(model, base.Regressor)
        for x, y in regimes(1, -1, each=300):
            model.learn_one(x, y)
        fresh = model.clone()
        assert fresh.predict_proba_one({"a": 3.0, "b": 0.0}) == make().predict_proba_one({"a": 3.0, "b": 0.0})
    bagged = ensemble.BaggingClassifier(
        preprocessing.StandardScaler() | Reset(linear_model.LogisticRegression()), 3, seed=1
    )
    assert accuracy(bagged, regimes(1, -1)) > 0.6


def test_a_weight_reaches_the_wrapped_model_where_it_takes_one() -> None:
    assert accepts_weight(Reset(linear_model.LogisticRegression()))
    assert accepts_weight(preprocessing.StandardScaler() | Reset(linear_model.LogisticRegression()))
    assert not accepts_weight(Reset(bayes()))
    light, heavy = Reset(linear_model.LogisticRegression()), Reset(linear_model.LogisticRegression())
    light.learn_one({"a": 1.0}, True)
    heavy.learn_one({"a": 1.0}, True, w=5.0)
    assert heavy.predict_proba_one({"a": 1.0})[True] > light.predict_proba_one({"a": 1.0})[True]


def test_they_are_members_of_a_pool() -> None:
    for task, builds, sign in (
        (Binary("b", ask=object, label=LABEL), CLASSIFIERS, lambda y: y),
        (Regression("r", ask=object, label=LABEL), REGRESSORS, float),
    ):
        champion, *others = [Member(name, build) for name, build in builds.items()]
        pool = Pool(task, PerKey(champion, others), "k", 0)
        for offset, (x, y) in enumerate(regimes(1, -1, each=400)):
            forecast, changes = pool.predict(x)
            learned = pool.learn(x, sign(y), forecast, 0.0, offset, str(offset))
            assert not [change for change in (*changes, *learned.changes) if change.kind == "quarantine"]
        state_hash(pool.state())
