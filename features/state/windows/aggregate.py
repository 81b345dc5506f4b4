"""Which kind of window each aggregate uses, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from driftline.features.declare.declaration import Window
from driftline.features.state.segment_store import SegmentStore
from driftline.features.state.windows.paged_table import PagedBoundedTable, PagedTable
from driftline.features.state.windows.stepped_window import (
    SteppedCountWindow,
    SteppedDecayedWindow,
    SteppedMaxWindow,
    SteppedMinWindow,
    SteppedSquareWindow,
    SteppedSumWindow,
)
from driftline.features.state.windows.window import (
    CountWindow,
    DecayedWindow,
    DistinctWindow,
    EventWindow,
    LatestWindow,
    MaxWindow,
    MinWindow,
    SquareWindow,
    SumWindow,
)
from driftline.features.state.windows.window_table import BoundedTable, WindowTable


class _Aggregate(NamedTuple):
    """The kind of window of an aggregate, and the function that reads it, given the end and the start of the
    window.

    `argument` says which of the two takes the declaration's argument: the window, or the read.
    """

    window: type[EventWindow]
    read: Callable[..., Any]
    argument: Literal["", "window", "read"] = ""


_AGGREGATES = {
    "mean": _Aggregate(SumWindow, SumWindow.mean),
    "sum": _Aggregate(SumWindow, SumWindow.sum),
    "count": _Aggregate(CountWindow, CountWindow.count),
    "rate": _Aggregate(CountWindow, CountWindow.count),
    "std": _Aggregate(SquareWindow, SquareWindow.std),
    "latest": _Aggregate(LatestWindow, LatestWindow.latest),
    "first": _Aggregate(LatestWindow, LatestWindow.first),
    "lag": _Aggregate(LatestWindow, LatestWindow.lag, "read"),
    "decayed": _Aggregate(DecayedWindow, DecayedWindow.mean, "window"),
    "distinct": _Aggregate(DistinctWindow, DistinctWindow.distinct, "window"),
    "newest": _Aggregate(CountWindow, CountWindow.newest),
    "min": _Aggregate(MinWindow, MinWindow.min),
    "max": _Aggregate(MaxWindow, MaxWindow.max),
}

_STEPPED = {
    "mean": _Aggregate(SteppedSumWindow, SteppedSumWindow.mean),
    "sum": _Aggregate(SteppedSumWindow, SteppedSumWindow.sum),
    "count": _Aggregate(SteppedCountWindow, SteppedCountWindow.count),
    "rate": _Aggregate(SteppedCountWindow, SteppedCountWindow.count),
    "std": _Aggregate(SteppedSquareWindow, SteppedSquareWindow.std),
    "decayed": _Aggregate(SteppedDecayedWindow, SteppedDecayedWindow.mean, "window"),
    "min": _Aggregate(SteppedMinWindow, SteppedMinWindow.min),
    "max": _Aggregate(SteppedMaxWindow, SteppedMaxWindow.max),
}


def _aggregate_of(feature: Window) -> _Aggregate:
    return (_AGGREGATES if feature.resolution is None else _STEPPED)[feature.aggregate]


def table_identity(feature: Window) -> tuple[Any, ...]:
    """The identity of the feature's table: features with equal ones share a table, whatever their lengths."""
    return (
        _aggregate_of(feature).window, feature.event, feature.value, feature.by, _window_arguments(feature),
        feature.max_keys, feature.resolution,
    )  # fmt: skip


def new_table(feature: Window, store: SegmentStore) -> WindowTable:
    """An empty table of the windows that the feature is read from. Where the store has a budget, windows may
    leave the memory; those whose number of keys is bounded stay."""
    window, arguments = _aggregate_of(feature).window, _window_arguments(feature)
    is_plain = feature.max_keys is None and window is not DistinctWindow
    if store.budget is None or feature.max_keys is not None:
        return (
            WindowTable(window, arguments) if is_plain else BoundedTable(window, arguments, feature.max_keys)
        )
    paged = PagedTable(window, arguments) if is_plain else PagedBoundedTable(window, arguments, None)
    paged.page(store, store.budget)
    return paged


def reader_of(feature: Window) -> Callable[[Any, float, float], Any]:
    """The function that reads the feature from its window, given the end and the start in seconds."""
    aggregate, argument, over = _aggregate_of(feature), feature.argument, feature.over
    read = aggregate.read
    if aggregate.argument == "read":
        return lambda window, at, since: read(window, at, since, argument)
    if feature.resolution is not None:
        read = _in_steps(read, feature)
    if feature.aggregate == "rate":
        return lambda window, at, since: read(window, at, since) / over
    return read


def _in_steps(read: Callable[..., Any], feature: Window) -> Callable[[Any, float, float], Any]:
    """Read as of the start of the step that contains the time."""
    step, over = feature.step, feature.over
    return lambda window, at, since: read(window, (start := step(at)), start - over)


def _window_arguments(feature: Window) -> tuple[Any, ...]:
    """The arguments of a new window of the feature."""
    return (feature.argument,) if _aggregate_of(feature).argument == "window" else ()
