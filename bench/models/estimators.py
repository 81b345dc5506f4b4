"""Tries every classifier, regressor and anomaly detector of the installed River as a member.

`python -m driftline.bench.models.estimators` writes docs/estimators.md; with --json it prints the results
instead.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import pickle
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import river
from river import bandit, base, linear_model, metrics, optim, stats, tree
from river.anomaly import HalfSpaceTrees
from river.neighbors import SWINN

from driftline.online_models.errors import ModelsError
from driftline.online_models.members.check import SEEDS, check_member
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.pool import Pool
from driftline.online_models.tasks.protocol import Task
from driftline.online_models.tasks.task import Anomaly, Binary, Label, Multiclass, Regression
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.events import Event

PAGE = Path(__file__).resolve().parents[2] / "docs" / "estimators.md"
EXAMPLES = 150
ASIDE = {"api", "base", "checks", "compat", "compose", "datasets"}
"""Modules of River without estimators, or whose estimators need arguments."""
_RANDOM = 4711


class Request(Event, tag="request"):
    k: str


class EstimatorTrial(msgspec.Struct, frozen=True):
    """The result of an estimator as the only member of a task: `refused` with a reason, or the digest of its
    answers and the number of requests and labels on which it failed, with the last reason."""

    estimator: str
    task: str
    refused: str | None = None
    digest: str | None = None
    failures: int = 0
    reason: str | None = None


def _lr() -> Any:
    return linear_model.LogisticRegression()


def _linear() -> Any:
    return linear_model.LinearRegression(optimizer=optim.SGD(0.01))


def _tree() -> Any:
    return tree.HoeffdingTreeClassifier(grace_period=50)


def _identity(y: float) -> float:
    return y


def _detector() -> Any:
    return HalfSpaceTrees(seed=1)


MADE: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "ADWINBaggingClassifier": lambda: {"model": _tree()},
    "ADWINBoostingClassifier": lambda: {"model": _tree()},
    "AdaBoostClassifier": lambda: {"model": _tree()},
    "BOLEClassifier": lambda: {"model": _tree()},
    "BaggingClassifier": lambda: {"model": _tree()},
    "BaggingRegressor": lambda: {"model": _linear()},
    "BanditClassifier": lambda: {
        "models": [_tree(), _tree()],
        "metric": metrics.Accuracy(),
        "policy": bandit.EpsilonGreedy(0.1, seed=1),
    },
    "BanditRegressor": lambda: {
        "models": [_linear(), _linear()],
        "metric": metrics.MAE(),
        "policy": bandit.EpsilonGreedy(0.1, seed=1),
    },
    "ChebyshevOverSampler": lambda: {"regressor": _linear()},
    "ChebyshevUnderSampler": lambda: {"regressor": _linear()},
    "DriftRetrainingClassifier": lambda: {"model": _tree()},
    "EWARegressor": lambda: {"models": [_linear(), _linear()]},
    "EntropySampler": lambda: {"classifier": _lr()},
    "GreedyRegressor": lambda: {"models": [_linear(), _linear()]},
    "HardSamplingClassifier": lambda: {"classifier": _lr(), "size": 20, "p": 0.1},
    "HardSamplingRegressor": lambda: {"regressor": _linear(), "size": 20, "p": 0.1},
    "KNNClassifier": lambda: {"engine": SWINN(seed=1)},
    "KNNRegressor": lambda: {"engine": SWINN(seed=1)},
    "LeveragingBaggingClassifier": lambda: {"model": _tree()},
    "OneVsOneClassifier": lambda: {"classifier": _lr()},
    "OneVsRestClassifier": lambda: {"classifier": _lr()},
    "OutputCodeClassifier": lambda: {"classifier": _lr(), "code_size": 5},
    "PredClipper": lambda: {"regressor": _linear(), "y_min": -10, "y_max": 10},
    "PredictiveAnomalyDetection": lambda: {},
    "QuantileFilter": lambda: {"anomaly_detector": _detector(), "q": 0.9},
    "RandomOverSampler": lambda: {"classifier": _lr(), "desired_dist": {True: 0.5, False: 0.5}},
    "RandomSampler": lambda: {"classifier": _lr(), "desired_dist": {True: 0.5, False: 0.5}},
    "RandomUnderSampler": lambda: {"classifier": _lr(), "desired_dist": {True: 0.5, False: 0.5}},
    "RegressionJackknife": lambda: {"regressor": _linear()},
    "StackingClassifier": lambda: {"models": [_tree(), _lr()], "meta_classifier": _lr()},
    "StatisticRegressor": lambda: {"statistic": stats.Mean()},
    "SuccessiveHalvingClassifier": lambda: {
        "models": [_tree(), _tree()],
        "metric": metrics.Accuracy(),
        "budget": 100,
    },
    "SuccessiveHalvingRegressor": lambda: {
        "models": [_linear(), _linear()],
        "metric": metrics.MAE(),
        "budget": 100,
    },
    "TargetMinMaxScaler": lambda: {"regressor": _linear()},
    "TargetStandardScaler": lambda: {"regressor": _linear()},
    "TargetTransformRegressor": lambda: {
        "regressor": _linear(),
        "func": _identity,
        "inverse_func": _identity,
    },
    "ThresholdFilter": lambda: {"anomaly_detector": _detector(), "threshold": 0.5},
    "VotingClassifier": lambda: {"models": [_tree(), _lr()]},
}
"""Arguments for estimators that need some, or that have parts that need a seed."""

LABEL = Label(Request, on="k", value=lambda event: True, wait=1.0)
TASKS: Mapping[str, Task] = {
    "Binary": Binary("zoo", ask=Request, label=LABEL),
    "Multiclass": Multiclass("zoo", ask=Request, label=LABEL),
    "Regression": Regression("zoo", ask=Request, label=LABEL),
    "Anomaly": Anomaly("zoo", ask=Request, wait=1.0),
}


class Candidate(NamedTuple):
    """An estimator of River, and the task that it is tried on."""

    cls: type
    task: str

    @property
    def name(self) -> str:
        """The name with its module: `forest.ARFClassifier`."""
        return f"{self.cls.__module__.split('.')[1]}.{self.cls.__name__}"

    def build(self) -> Any:
        """A new estimator with its defaults, and a seed if it takes one."""
        parameters = inspect.signature(self.cls).parameters
        arguments = dict(MADE.get(self.cls.__name__, dict)())
        return self.cls(**arguments, **{name: 1 for name in SEEDS if name in parameters})


def zoo() -> Iterator[Candidate]:
    """Every estimator of River that a task could use."""
    found: dict[type, None] = {}
    for module in pkgutil.iter_modules(river.__path__):
        if module.ispkg and module.name not in ASIDE:
            own = vars(importlib.import_module(f"river.{module.name}"))
            found |= dict.fromkeys(cls for _, cls in sorted(own.items()) if inspect.isclass(cls))
    for cls in found:
        if inspect.isabstract(cls) or not issubclass(cls, base.Base):
            continue
        if issubclass(cls, base.Classifier):
            yield from (Candidate(cls, "Binary"), Candidate(cls, "Multiclass"))
        elif issubclass(cls, base.Regressor):
            yield Candidate(cls, "Regression")
        elif hasattr(cls, "score_one"):
            yield Candidate(cls, "Anomaly")


def _numbers() -> Iterator[int]:
    """Pseudo-random numbers that are the same in every process and need no library."""
    state = _RANDOM
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 40


def examples(task: str) -> list[tuple[dict[str, float], Any]]:
    """Requests with three features, none below 0, and labels that depend on two of them."""
    numbers = _numbers()
    found = []
    for _ in range(EXAMPLES):
        x = {name: next(numbers) / 2**24 for name in ("a", "b", "c")}
        labels = {
            "Binary": x["a"] > x["b"],
            "Multiclass": "xyz"[int(3 * x["a"])],
            "Regression": x["a"] + 2 * x["b"],
            "Anomaly": False,
        }
        found.append((x, labels[task]))
    return found


def tried(candidate: Candidate) -> EstimatorTrial:
    """Fold examples with the estimator as the only member, restored from its pickle half way."""
    task, given = TASKS[candidate.task], examples(candidate.task)
    member = Member("it", candidate.build)
    try:
        check_member(member, task, [x for x, _ in given[:24]])
    except ModelsError as error:
        reason = str(error).removeprefix("member 'it': ").removeprefix("member 'it' ")
        return EstimatorTrial(candidate.name, candidate.task, refused=reason)
    scope = PerKey(member, baselines=False, metrics=False, monitoring=None)
    pool = Pool(task, scope, "k", 0)
    answers = []
    for number, (x, y) in enumerate(given):
        if number == EXAMPLES // 2:
            state = pickle.dumps(pool.state())
            pool = Pool(task, scope, "k", 0)
            pool.restore(pickle.loads(state))  # bytes that were pickled here just now
        forecast, _ = pool.predict(dict(x), str(number))
        answers.append((forecast.serving, forecast.output))
        pool.learn(dict(x), y, forecast, float(number), number, str(number))
    failures = pool.roster.seats[0].state.failures
    return EstimatorTrial(
        candidate.name,
        candidate.task,
        digest=hashlib.sha256(repr(answers).encode()).hexdigest(),
        failures=0 if failures is None else failures.total,
        reason=None if failures is None else failures.reason,
    )


def page(found: list[EstimatorTrial]) -> str:
    """The results as a page."""
    lines = [
        "# River's estimators as members",
        "",
        f"Every classifier, regressor and anomaly detector of River {version('river')}, with its "
        "defaults (and a seed, where it takes one),",
        f"as the only member of a task: it answers and learns from {EXAMPLES} examples, restored from its "
        "pickle half way, and gives",
        "the same answers under every hash seed that the command was started with. Made by "
        "`python -m driftline.bench.models.estimators`.",
        "",
        f"{sum(one.refused is None for one in found)} work, "
        f"{sum(one.refused is not None for one in found)} are refused when the case starts.",
        "",
        "| estimator | task | result |",
        "|---|---|---|",
    ]
    for one in found:
        result = "works" if one.refused is None else f"refused: {one.refused}"
        if one.failures:
            result += f"; {one.failures} failures ({one.reason}), answered by the next in line"
        lines.append(f"| `{one.estimator}` | {one.task} | {result} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Try all estimators."""
    found = [tried(candidate) for candidate in zoo()]
    if "--json" in sys.argv[1:]:
        print(json.dumps([msgspec.to_builtins(one) for one in found]))
    else:
        PAGE.write_text(page(found))


if __name__ == "__main__":
    pin()
    main()
