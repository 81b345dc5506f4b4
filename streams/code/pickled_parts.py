"""Descriptions of objects that are neither functions, classes nor plain data."""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable, Iterable
from itertools import chain
from pickle import PicklingError
from typing import Any

from driftline.streams.code.state_hash import state_hash
from driftline.streams.errors import NoCanonicalForm


def parameters_of(value: Any) -> Any:
    """The parameters of a River estimator; those of estimators within it as (class, parameters). None for any
    other object."""
    base = sys.modules.get("river.base")
    if base is None or not isinstance(value, base.Base):
        return None
    return value._get_params()


def learned_state(estimator: Any) -> str:
    """The hash of what an estimator had learned before it was declared. Empty when it had learned nothing,
    and when two new ones differ (they draw numbers without a seed), so that it cannot be determined."""
    fresh, again = _hash(estimator.clone()), _hash(estimator.clone())
    state = _hash(estimator)
    return state if fresh == again != state else ""


def _hash(value: Any) -> str:
    try:
        return state_hash(value)
    except NoCanonicalForm:  # a parameter is a function without a name; parameters are described separately
        return ""


def pickled_parts(value: Any) -> Iterable[Any]:
    """The parts that pickle would write for an object. Raises TypeError if it cannot be pickled."""
    reduce: Callable[[Any], Any] | None = copyreg.dispatch_table.get(type(value))
    try:
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
    except PicklingError as error:
        raise TypeError(str(error)) from error
    if isinstance(reduced, str):
        return [reduced]
    make, arguments, state, items, pairs, *_ = tuple(reduced) + (None,) * 5
    if type(state) is dict:
        state = dict(sorted(state.items()))
    # arguments often begin with the class, which has been described already
    return [make, arguments, state, list(items or ()), list(chain(pairs or ()))]
