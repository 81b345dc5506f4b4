"""Blocks of values, as the monitors get them."""

from __future__ import annotations

from math import isnan
from typing import Any

import pytest

from driftline.online_models.drift.monitors.blocks import columns_of

COMPLETE = {"a": 1.0, "b": "x"}


def columns_by_name(rows: list[dict[str, Any]], *names: str) -> list[list[Any]]:
    """The columns, with None for nan: nan equals nothing."""
    columns = columns_of(rows, names)
    return [[None if isinstance(v, float) and isnan(v) else v for v in column] for column in columns]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (COMPLETE, [1.0, "x"]),
        ({"b": "x", "a": 1.0}, [1.0, "x"]),
        ({"a": 1.0, "b": "x", "unwatched": 2.0}, [1.0, "x"]),
        ({"b": "x"}, [None, "x"]),
        ({"b": "x", "unwatched": 2.0}, [None, "x"]),
        ({}, [None, None]),
    ],
)
def test_a_value_comes_in_the_column_of_its_name_wherever_it_stands(
    row: dict[str, Any], expected: list[Any]
) -> None:
    columns = columns_by_name([COMPLETE, row, COMPLETE], "a", "b")
    assert columns == [[1.0, expected[0], 1.0], ["x", expected[1], "x"]]


def test_one_name_has_one_column_and_none_has_none() -> None:
    assert columns_by_name([{"a": 1.0, "b": 2.0}, {"b": 2.0}, {}], "a") == [[1.0, None, None]]
    assert columns_by_name([COMPLETE], *()) == []
