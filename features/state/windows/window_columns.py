"""Many windows of one kind as a few columns. States are written and read in this form: window by window, a
state of a million keys would take seconds.

Windows keep their types: totals that were an array of machine words, or a list, are restored as such.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate as running
from itertools import chain, pairwise
from typing import Any, NamedTuple

from driftline.features.state.windows.window import EventWindow


class WindowColumn(NamedTuple):
    """One attribute of many windows, their values joined. `lengths` is the number of values of each window;
    None if the attribute is a single value. `listed` has a byte for each window, 1 if it has a list where a
    new window has an array; it is empty if no window has."""

    values: Sequence[Any]
    lengths: array[int] | None
    listed: bytes = b""


def as_columns(empty: EventWindow, windows: Iterable[EventWindow]) -> dict[str, WindowColumn]:
    """The columns of windows of one kind. `empty` is a new window of it."""
    all_of_them = list(windows)
    return {name: _column(name, getattr(empty, name), all_of_them) for name in attributes_of(empty)}


def from_columns(empty: EventWindow, columns: dict[str, WindowColumn], count: int) -> list[EventWindow]:
    """The `count` windows of the columns. `empty` is a new window of their kind."""
    kind = type(empty)
    windows: list[EventWindow] = [kind.__new__(kind) for _ in range(count)]
    for name, column in columns.items():
        for window, value in zip(windows, _parts(column, getattr(empty, name)), strict=True):
            setattr(window, name, value)
    return windows


def attributes_of(window: EventWindow) -> list[str]:
    """The names of all that a window has."""
    return [name for kind in type(window).__mro__ for name in getattr(kind, "__slots__", ())]


def _column(name: str, example: Any, windows: Sequence[EventWindow]) -> WindowColumn:
    parts = [getattr(window, name) for window in windows]
    if not isinstance(example, list | array):
        return WindowColumn(parts, None)
    lengths = array("Q", map(len, parts))
    if isinstance(example, list):
        return WindowColumn(list(chain.from_iterable(parts)), lengths)
    listed = bytes(isinstance(part, list) for part in parts)
    return WindowColumn(_joined(example, parts), lengths, listed if any(listed) else b"")


def _joined(example: array[Any], parts: list[Any]) -> Sequence[Any]:
    joined: array[Any] = array(example.typecode)
    try:
        for part in parts:
            joined.extend(part if isinstance(part, array) else array(example.typecode, part))
    except OverflowError:  # totals beyond a machine word
        return list(chain.from_iterable(parts))
    return joined


def _parts(column: WindowColumn, example: Any) -> Iterable[Any]:
    values, lengths, listed = column
    if lengths is None:
        return values
    cut = (values[low:high] for low, high in pairwise(running(lengths, initial=0)))
    if not listed:
        return cut
    return (
        list(part) if is_listed else array(example.typecode, part)
        for part, is_listed in zip(cut, listed, strict=True)
    )
