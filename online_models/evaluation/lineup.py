"""Members by name that work on any stream, with numbers, text and missing values.

River is imported when a member is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from driftline.online_models.combine.combination import Combination
from driftline.online_models.errors import ModelsError
from driftline.online_models.evaluation.stream import LabelKind
from driftline.online_models.members.member import Member, PerKey

Build = Callable[[], Any]


def quantities(x: dict[str, Any]) -> dict[str, float]:
    """The numeric features."""
    return {name: value for name, value in x.items() if value.__class__ is not str}


def indicators(x: dict[str, Any]) -> dict[str, float]:
    """A feature with value 1 for each text value, named after feature and value."""
    return {f"{name}={value}": 1.0 for name, value in x.items() if value.__class__ is str}


def _scaled(last: Any) -> Any:
    from river import compose, preprocessing

    numbers = compose.FuncTransformer(quantities) | preprocessing.StandardScaler()
    return (numbers + compose.FuncTransformer(indicators)) | last


def _logistic() -> Any:
    from river import linear_model, optim

    return _scaled(linear_model.LogisticRegression(optim.AdaGrad(0.1)))


def _softmax() -> Any:
    from river import linear_model, optim

    return _scaled(linear_model.SoftmaxRegression(optim.AdaGrad(0.1)))


def _numeric(last: Any) -> Any:
    from river import compose

    return (compose.FuncTransformer(quantities) + compose.FuncTransformer(indicators)) | last


def _bayes() -> Any:
    from river import naive_bayes

    return _numeric(naive_bayes.GaussianNB())


def _tree() -> Any:
    from river import tree

    return tree.HoeffdingTreeClassifier(grace_period=100)


def _adaptive_tree() -> Any:
    from river import tree

    return tree.HoeffdingAdaptiveTreeClassifier(grace_period=100, seed=1)


def _arf() -> Any:
    from river import forest

    return forest.ARFClassifier(n_models=10, seed=1)


def _srp() -> Any:
    from river import ensemble

    return ensemble.SRPClassifier(n_models=10, seed=1)


def _leveraging() -> Any:
    from river import ensemble, tree

    return ensemble.LeveragingBaggingClassifier(tree.HoeffdingTreeClassifier(), n_models=10, seed=1)


def _adwin_bagging() -> Any:
    from river import ensemble, tree

    return ensemble.ADWINBaggingClassifier(tree.HoeffdingTreeClassifier(), n_models=10, seed=1)


def _retraining() -> Any:
    from river import drift, tree

    return drift.DriftRetrainingClassifier(tree.HoeffdingTreeClassifier(), drift.binary.DDM())


def _nearest() -> Any:
    from river import neighbors

    return _scaled(neighbors.KNNClassifier(n_neighbors=5, engine=neighbors.LazySearch(window_size=500)))


def _linear() -> Any:
    from river import linear_model, optim

    return _scaled(linear_model.LinearRegression(optim.AdaGrad(0.5), intercept_lr=0.1))


def _regression_tree() -> Any:
    from river import tree

    return _scaled(tree.HoeffdingTreeRegressor(grace_period=100))


def _adaptive_regression_tree() -> Any:
    from river import tree

    return _scaled(tree.HoeffdingAdaptiveTreeRegressor(grace_period=100, seed=1))


def _arf_regressor() -> Any:
    from river import forest

    return _scaled(forest.ARFRegressor(n_models=10, seed=1))


def _reacting(name: str, build: Build) -> dict[str, Build]:
    """The model alone, and wrapped in each reaction to drift, by name."""

    def around(reaction: str) -> Build:
        def made() -> Any:
            from driftline.online_models.members import reactions

            return getattr(reactions, reaction)(build())

        return made

    reacting = {f"{name}-{r.lower()}": around(r) for r in ("Reset", "Background", "Recurring", "Boosted")}
    return {name: build, **reacting}


_CLASSES = {
    **_reacting("bayes", _bayes),
    **_reacting("tree", _tree),
    "adaptive-tree": _adaptive_tree,
    "nearest": _nearest,
    "arf": _arf,
    "srp": _srp,
    "leveraging-bagging": _leveraging,
    "adwin-bagging": _adwin_bagging,
    "drift-retraining": _retraining,
}
SPECS: dict[LabelKind, dict[str, Build]] = {
    "binary": _reacting("logistic", _logistic) | _CLASSES,
    "multiclass": _reacting("logistic", _softmax) | _CLASSES,
    "regression": {
        **_reacting("linear", _linear),
        **_reacting("tree", _regression_tree),
        "adaptive-tree": _adaptive_regression_tree,
        "arf": _arf_regressor,
    },
}
_CLASSIFIERS = (
    "logistic", "logistic-boosted", "logistic-recurring", "tree", "tree-background", "tree-recurring",
    "tree-boosted", "adaptive-tree", "nearest",
)  # fmt: skip
DEFAULT: dict[LabelKind, tuple[str, ...]] = {
    "binary": _CLASSIFIERS,
    "multiclass": _CLASSIFIERS,
    "regression": (
        "linear", "linear-boosted", "linear-recurring", "tree", "tree-background", "tree-recurring",
        "adaptive-tree",
    ),
}  # fmt: skip
"""The default members by kind of task. The first one is the default single model."""


COMBINED = Combination("combined", kind="stack", share=0.0002)
"""The default champion. Its share was tuned on other seeds of the generated streams than those reported."""


def members_named(kind: LabelKind, names: Sequence[str]) -> list[Member]:
    """The members of those names. Raises ModelsError for a name that is unknown or given twice."""
    specs = SPECS[kind]
    for name in names:
        if name not in specs:
            raise ModelsError(f"no model {name!r} for a {kind} task: there are {', '.join(specs)}")
    return [Member(name, specs[name]) for name in names]


def scope_of(kind: LabelKind, names: Sequence[str] = ()) -> PerKey:
    """A pool of the named members, or of the default ones. If there are several, their combination serves."""
    first, *others = members_named(kind, names or DEFAULT[kind])
    return PerKey(COMBINED, [first, *others]) if others else PerKey(first)
