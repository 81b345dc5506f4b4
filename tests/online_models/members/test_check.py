"""What a member has to be, said before anything is folded with it."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from river import anomaly, compose, ensemble, forest, linear_model, neighbors, preprocessing

from driftline.online_models.combine.combination import Combination
from driftline.online_models.errors import ModelsError
from driftline.online_models.members.check import check_member, check_models
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.tasks.protocol import Task
from driftline.online_models.tasks.task import Anomaly, Binary, Label, Multiclass, Regression
from driftline.streams.declare.events import Event

REQUESTS = [{"a": (7 * n) % 11 / 4, "b": float(n % 3)} for n in range(24)]


class Ask(Event, tag="ask"):
    k: str


LABEL = Label(Ask, on="k", value=lambda event: True, wait=1.0)
BINARY = Binary("b", ask=Ask, label=LABEL)
MULTICLASS = Multiclass("m", ask=Ask, label=LABEL)
REGRESSION = Regression("r", ask=Ask, label=LABEL)
ANOMALY = Anomaly("a", ask=Ask, wait=1.0)


class Fair:
    """An estimator of a user's own, by its methods only."""

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: 0.5}

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        pass


class Global(Fair):
    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: random.random()}


class Own(Fair):
    def __init__(self) -> None:
        self.dice = random.Random()


class Clocked(Fair):
    def __init__(self) -> None:
        self.learned = 0.0

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: self.learned % 1.0}

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        self.learned = time.perf_counter()


class Forgetful(Fair):
    """A model whose pickle lacks what it has learned."""

    def __init__(self) -> None:
        self.n = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"n": 0}

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: self.n / 100}

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        self.n += 1


class Closing(Fair):
    """A model that can be pickled only before it has learned."""

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        self.open = lambda: x


class Failing(Fair):
    """It fails at every second request, and is none the worse for it."""

    def __init__(self) -> None:
        self.count = 0

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        self.count += 1
        if self.count % 2:
            raise ValueError("no answer")
        return {True: float("nan")}


def bagged() -> Any:
    return preprocessing.StandardScaler() | ensemble.BaggingClassifier(linear_model.LogisticRegression())


def nested() -> Any:
    parts = [linear_model.LogisticRegression(), forest.AMFClassifier(n_estimators=2)]
    return ensemble.StackingClassifier(parts, linear_model.LogisticRegression())


REFUSED: list[tuple[Task, Callable[[], Any], str]] = [
    (BINARY, lambda: forest.ARFClassifier(n_models=2), "ARFClassifier.seed is None"),
    (BINARY, lambda: forest.ARFClassifier(n_models=2), "such as ARFClassifier(seed=1)"),
    (BINARY, bagged, "BaggingClassifier.seed is None"),
    (BINARY, nested, "AMFClassifier.seed is None"),
    (BINARY, neighbors.KNNClassifier, "SWINN.seed is None"),
    (ANOMALY, anomaly.HalfSpaceTrees, "HalfSpaceTrees.seed is None"),
    (BINARY, Own, "generators of random numbers in different states"),
    (BINARY, Global, "answer the same requests differently"),
    (BINARY, Clocked, "answer the same requests differently"),
    (BINARY, Forgetful, "restored from its pickle it answers otherwise"),
    (BINARY, Closing, "cannot be pickled"),
    (BINARY, lambda: Fair, "the class Fair, not an estimator: write it with ()"),
    (BINARY, lambda: None, "a NoneType; a Binary task needs"),
    (BINARY, lambda: 1 / 0, "cannot be made: ZeroDivisionError"),
    (BINARY, linear_model.LinearRegression, "a LinearRegression; a Binary task needs"),
    (BINARY, preprocessing.StandardScaler, "a StandardScaler; a Binary task needs"),
    (
        BINARY,
        lambda: preprocessing.StandardScaler() | linear_model.LinearRegression(),
        "a LinearRegression; a Binary task needs an estimator with predict_proba_one(x) and learn_one(x, y)",
    ),
    (REGRESSION, linear_model.LogisticRegression, "a LogisticRegression, which answers with classes"),
    (MULTICLASS, linear_model.LogisticRegression, "river.multiclass.OneVsRestClassifier(LogisticRegression"),
    (ANOMALY, linear_model.LogisticRegression, "an Anomaly task needs an estimator with score_one(x)"),
    (ANOMALY, anomaly.GaussianScorer, "a GaussianScorer; an Anomaly task needs"),
]


@pytest.mark.parametrize(("task", "build", "reason"), REFUSED)
def test_what_cannot_be_run_is_refused_with_the_reason(
    task: Task, build: Callable[[], Any], reason: str
) -> None:
    with pytest.raises(ModelsError, match=f"member 'm'.*{re.escape(reason)}"):
        check_member(Member("m", build), task, REQUESTS)


@pytest.mark.parametrize(
    ("task", "build"),
    [
        (BINARY, Fair),
        (BINARY, Failing),
        (BINARY, lambda: forest.ARFClassifier(n_models=2, seed=1)),
        (BINARY, lambda: preprocessing.MinMaxScaler() | linear_model.LogisticRegression()),
        (MULTICLASS, lambda: neighbors.KNNClassifier(engine=neighbors.LazySearch())),
        (REGRESSION, lambda: compose.Select("not there") | linear_model.LinearRegression()),
        (REGRESSION, lambda: forest.AMFRegressor(seed=1)),
        (ANOMALY, anomaly.LocalOutlierFactor),
    ],
)
def test_what_can_be_run_is_let_through(task: Task, build: Callable[[], Any]) -> None:
    check_member(Member("m", build), task, REQUESTS)


def test_every_member_of_a_case_is_checked() -> None:
    scope = PerKey(Member("fair", Fair), [Combination("both"), Member("dice", Own, reserve=True)])
    with pytest.raises(ModelsError, match="member 'dice'"):
        check_models(scope, BINARY, REQUESTS)


def test_mutable_state_of_a_module_is_found() -> None:
    numbers = itertools.count()

    class Counted(Fair):
        def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
            return {True: next(numbers) / 1_000}

    globals()["Counted"] = Counted
    Counted.__qualname__ = "Counted"
    with pytest.raises(ModelsError, match="answer the same requests differently"):
        check_member(Member("m", Counted), BINARY, REQUESTS)


def test_an_answer_of_another_form_is_refused() -> None:
    class Sampler(Fair):
        def predict_proba_one(self, x: dict[str, Any]) -> Any:
            return {True: 0.5}, True

    globals()["Sampler"] = Sampler
    Sampler.__qualname__ = "Sampler"
    with pytest.raises(ModelsError, match="answers a tuple; a Binary task needs a dict of probabilities"):
        check_member(Member("m", Sampler), BINARY, REQUESTS)
