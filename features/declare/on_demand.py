"""Features computed from others at the read: in the fold, by Feast, and by `FeatureClient`. All three run the
same function over a row of values, so the results are the same. Feast keeps that function in its registry, by
value: it consists of nested functions that need no module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple, get_type_hints

from driftline.features.declare.declaration import (
    Derived,
    Elapsed,
    Feature,
    OnDemand,
    RequestField,
    View,
    Window,
    kind_in,
    stored_name,
)
from driftline.features.declare.field_types import field_types
from driftline.features.errors import FeatureDeclarationError

AT = "at"
"""Name under which a request's own time is given, in seconds since the epoch."""

Evaluate = Callable[..., dict[str, Any]]
"""From values by name to those computed; see `evaluation`."""


class OnDemandStep(NamedTuple):
    """One feature to compute: `compute` of the values of `of` returns None or a value that can become a
    `kind`. A number outside [low, high] is dropped unless `keeps`. A `lenient` step returns nothing, instead
    of failing, if its result is too large.
    """

    name: str
    of: tuple[str, ...]
    compute: Callable[..., Any]
    kind: str
    low: float
    high: float
    keeps: bool
    lenient: bool


@dataclass(frozen=True, slots=True)
class OnDemandView:
    """On-demand features with the same inputs: `sources` are names of features by view, `request` are the
    kinds of the values that the caller must give, by name. `unseen` are values of keys that have no row."""

    name: str
    keys: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]]
    request: Mapping[str, type]
    features: Mapping[str, OnDemand | Elapsed]
    steps: tuple[OnDemandStep, ...]
    unseen: Mapping[str, Any]


def on_demand_views(
    case: str, features: Mapping[str, Feature], views: list[View], ask: type
) -> list[OnDemandView]:
    """The on-demand features of a case, grouped by the keys and the fields of the request that
    they need, in the order of declaration.

    Raises FeatureDeclarationError for inputs that are not declared before them, or of an unknown type.
    """
    homes = {name: view for view in views for name in view.features}
    grouped: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    leaves = {
        name: _leaves(name, features)
        for name, feature in features.items()
        if isinstance(feature, (OnDemand, Elapsed))
    }
    for name, needed in leaves.items():
        # the view's name shows its inputs: Feast takes two views of one name for one
        keys = tuple(dict.fromkeys(key for leaf in needed if leaf in homes for key in homes[leaf].keys))
        request = tuple(leaf for leaf in needed if leaf not in homes)
        grouped.setdefault((keys, request), []).append(name)
    return [
        _view(case, names, features, homes, ask, {name: leaves[name] for name in names})
        for names in grouped.values()
    ]


def step(name: str, feature: OnDemand | Elapsed) -> OnDemandStep:
    """How a feature is computed."""
    note = feature.note
    bounds, keeps = note.bounds, note.outside == "keep"
    if isinstance(feature, Elapsed):
        of = (AT, stored_name(name))
        return OnDemandStep(name, of, _elapsed(feature.window.over), "float", *bounds, keeps, True)
    kind = feature.kind.__name__
    if feature.function is not None:
        return OnDemandStep(name, feature.of, _by_value(feature.function), kind, *bounds, keeps, False)
    compute = _ratio() if feature.operation == "ratio" else _difference()
    return OnDemandStep(name, feature.of, compute, kind, *bounds, keeps, True)


def evaluation(steps: tuple[OnDemandStep, ...], unseen: Mapping[str, Any]) -> Evaluate:
    """The function from values by name to the values that the steps compute, missing ones absent.

    Its second argument is called with a feature's name, its value and the error, for a value outside its
    range and for code that failed. Without it, such values are missing and errors are raised.
    """
    # tuples, as Feast would need our module for an OnDemandStep
    plan: list[tuple[Any, ...]] = [tuple(one) for one in steps]
    defaults = dict(unseen)

    plain = _plain_values()

    def evaluate(values: Any, problem: Any = None) -> dict[str, Any]:
        known = dict(defaults)
        for name, value in values.items():
            if value is not None:
                known[name] = value
        computed: dict[str, Any] = {}
        for name, of, compute, kind, low, high, keeps, lenient in plan:
            inputs = [known.get(one) for one in of]
            if None in inputs:
                continue
            try:
                value = plain(compute(*inputs), kind, lenient)
            except BaseException as error:
                if problem is None or isinstance(error, KeyboardInterrupt):
                    raise
                problem(name, None, error)
                continue
            if value is None:
                continue
            if kind != "str" and not low <= value <= high:
                if problem is not None:
                    problem(name, value, None)
                if not keeps:
                    continue
            known[name] = computed[name] = value
        return computed

    return evaluate


def _plain_values() -> Callable[[Any, str, bool], Any]:
    """The function from a value, its kind and whether it may be missing to Python's own value. It is a nested
    function, as `evaluate` is: Feast stores those by their code.
    """

    def plain(value: Any, kind: str, lenient: bool) -> Any:
        if value is None:
            return None
        if hasattr(value, "item"):  # numpy's
            value = value.item()
        if kind == "str" and isinstance(value, str):
            return value
        if kind == "bool" and isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            finite = -1e15 <= value <= 1e15
            if finite and kind == "float":
                return float(value) + 0.0  # no negative zero
            if finite and kind == "int" and value == int(value):
                return int(value)
            if lenient and not finite:
                return None
        raise ValueError(f"{value!r:.100} is no {kind} that is finite and within 1e15")

    return plain


def columns_function(view: OnDemandView) -> Callable[[Any], dict[str, list[Any]]]:
    """The view's evaluation for Feast: from columns of inputs to columns of its features."""
    evaluate = evaluation(view.steps, view.unseen)
    outputs = tuple(view.features)
    inputs = (*view.request, *(name for names in view.sources.values() for name in names))

    def compute(columns: Any) -> dict[str, list[Any]]:
        rows = [
            evaluate(dict(zip(inputs, row, strict=True)))
            for row in zip(*[columns[name] for name in inputs], strict=True)
        ]
        return {name: [row.get(name) for row in rows] for name in outputs}

    return compute


def value_kind(name: str, features: Mapping[str, Feature], ask: type) -> type:
    """The kind of a feature's values: float, int, bool or str. Raises FeatureDeclarationError if it is not
    known."""
    feature = features[name]
    if isinstance(feature, Window):
        return int if feature.is_whole else float
    if isinstance(feature, Elapsed):
        return float
    if isinstance(feature, OnDemand):
        return feature.kind
    if isinstance(feature, Derived):
        has_hints = bool(getattr(feature.function, "__annotations__", None))
        hint = get_type_hints(feature.function).get("return") if has_hints else None
    else:
        owner, field = (
            (ask, feature.name) if isinstance(feature, RequestField) else (feature.event, feature.field)
        )
        hint = field_types(owner)[field]
    kind = kind_in(hint)
    if kind is not None:
        return kind
    remedy = "annotate what its function returns" if isinstance(feature, Derived) else "declare one type"
    raise FeatureDeclarationError(
        f"feature {name!r} is an input of an on-demand feature, but it is not known to be a float, int, bool "
        f"or str: {remedy}"
    )


def _view(
    case: str,
    names: list[str],
    features: Mapping[str, Feature],
    homes: Mapping[str, View],
    ask: type,
    leaves: Mapping[str, tuple[str, ...]],
) -> OnDemandView:
    needed = tuple(dict.fromkeys(leaf for name in names for leaf in leaves[name]))
    sources: dict[str, tuple[str, ...]] = {}
    keys: dict[str, None] = {}
    for leaf in needed:
        if leaf in homes:
            home = homes[leaf]
            sources[home.name] = (*sources.get(home.name, ()), leaf)
            keys.update(dict.fromkeys(home.keys))
    request = {
        leaf: float if leaf == AT else value_kind(leaf, features, ask) for leaf in needed if leaf not in homes
    }
    suffix = f"_by_{'_'.join(keys)}" if keys else ""
    asked = f"_of_{'_'.join(request)}" if request else ""
    wanted = {name for one in names for name in _needed(one, features)}
    steps = tuple(
        step(name, feature)
        for name, feature in features.items()
        if name in wanted and isinstance(feature, (OnDemand, Elapsed))
    )
    unseen = {
        leaf: value
        for leaf in needed
        if leaf in homes and (value := homes[leaf].features[leaf].empty) is not None
    }
    declared = {name: feature for name in names if isinstance(feature := features[name], (OnDemand, Elapsed))}
    return OnDemandView(
        f"{case}_on_demand{suffix}{asked}", tuple(keys), sources, request, declared, steps, unseen
    )


def _needed(name: str, features: Mapping[str, Feature]) -> list[str]:
    """The feature and all its inputs, down to those that are no on-demand features."""
    feature = features[name]
    return (
        [name, *(each for one in feature.of for each in _needed(one, features))]
        if isinstance(feature, OnDemand)
        else [name]
    )


def _leaves(name: str, features: Mapping[str, Feature]) -> tuple[str, ...]:
    """The stored or requested values that a feature is finally computed from."""
    feature = features[name]
    if isinstance(feature, Elapsed):
        return (AT, stored_name(name))
    if isinstance(feature, OnDemand):
        return tuple(dict.fromkeys(leaf for one in feature.of for leaf in _leaves(one, features)))
    return (name,)


def check_inputs(name: str, features: Mapping[str, Feature], ask: type) -> None:
    """Raises FeatureDeclarationError where an input is not declared before an on-demand feature, is of a
    wrong type, or has the name of another."""
    feature = features[name]
    if isinstance(feature, Elapsed):
        taken = [one for one in (AT, stored_name(name)) if one in features]
        if taken:
            raise FeatureDeclarationError(
                f"feature {name!r} needs the name {taken[0]!r}: rename that feature"
            )
    if not isinstance(feature, OnDemand):
        return
    before = list(features)[: list(features).index(name)]
    for one in feature.of:
        if one not in before:
            raise FeatureDeclarationError(f"feature {name!r} needs {one!r}, which is not declared before it")
        if value_kind(one, features, ask) is str and feature.function is None:
            raise FeatureDeclarationError(
                f"feature {name!r}: {one!r} is text, and a {feature.operation} is of numbers"
            )


def _ratio() -> Callable[..., Any]:
    def ratio(numerator: Any, denominator: Any) -> Any:
        return None if denominator == 0 else numerator / denominator

    return ratio


def _difference() -> Callable[..., Any]:
    def difference(minuend: Any, subtrahend: Any) -> Any:
        return minuend - subtrahend

    return difference


def _elapsed(over: float) -> Callable[..., Any]:
    def elapsed(at: Any, newest: Any) -> Any:
        return at - newest if at - over < newest <= at else None

    return elapsed


def _by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as Feast's own decorator makes it: written to the registry whole, not as a name."""
    if not isinstance(function, FunctionType):
        return function
    copied = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    copied.__module__ = "__main__"
    return copied
