"""What an object is, where it is neither a function, a class nor plain data."""

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
    """The parameters of a River estimator, those of the estimators within it as (class, parameters); None
    for anything else."""
    base = sys.modules.get("river.base")
    if base is None or not isinstance(value, base.Base):
        return None
    return value._get_params()


def learned_state(estimator: Any) -> str:
    """The hash of what an estimator has learned before it was declared; empty when that is nothing, and
    where two new ones are not alike (it draws numbers without a seed), so that nothing can be said."""
    fresh, again = _hash(estimator.clone()), _hash(estimator.clone())
    state = _hash(estimator)
    return state if fresh == again != state else ""


def _hash(value: Any) -> str:
    try:
        return state_hash(value)
    except NoCanonicalForm:  # its parameters hold a function without a name, and are described by themselves
        return ""


def pickled_parts(value: Any) -> Iterable[Any]:
    """What pickle would write of an object; raises TypeError for one that cannot be pickled."""
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
    # arguments often begin with the class, which has been described
    return [make, arguments, state, list(items or ()), list(chain(pairs or ()))]
