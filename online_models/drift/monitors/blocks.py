"""Blocks of values as the monitors measure them: matrices of numbers, counts of texts, rows of rates."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from math import nan
from operator import itemgetter
from typing import Any

import numpy as np

from driftline.online_models.drift.monitors.windows import BLOCK, MEAN, SQUARE, TOTAL, WEIGHT, Array


def columns_of(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """The values of each name in all rows; nan if a row has none."""
    if not names:
        return ()
    of_row, blank, most = itemgetter(*names), dict.fromkeys(names, nan), len(names)
    try:
        picked = [of_row(x if len(x) >= most else blank | x) for x in rows]
    except KeyError:  # a row lacks one name, and has another that is not watched
        picked = [of_row(blank | x) for x in rows]
    return zip(*picked, strict=True) if most > 1 else (tuple(picked),)  # of one name, `of_row` gives no tuple


def complete_rates(rates: Array) -> None:
    """Fill the rows of monitors of rates, whose totals are known."""
    rates[MEAN] = rates[SQUARE] = rates[TOTAL] * (1.0 / BLOCK)
    rates[WEIGHT] = BLOCK


def counted(values: Sequence[Any]) -> Counter[Any]:
    """How often each value came in a block of texts."""
    try:
        return Counter(values)
    except TypeError:  # values that cannot be hashed are not texts
        return Counter(value if isinstance(value, (str, bool)) else "" for value in values)


def matrix(columns: Sequence[Sequence[Any]]) -> Array:
    """Streams x `BLOCK` floats; nan if a value is missing or not a number."""
    flat: list[Any] = []
    for column in columns:
        flat += column
    try:
        values = array("d", flat)
    except (TypeError, OverflowError):
        values = array("d", [number_or_nan(value) for value in flat])
    return np.frombuffer(values).reshape(len(columns), BLOCK)


def number_or_nan(value: Any) -> float:
    """The value as a float; nan if it is not a number."""
    if not isinstance(value, (int, float)):
        return nan
    try:
        return float(value)
    except OverflowError:
        return nan
