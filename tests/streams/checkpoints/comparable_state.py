"""The state of a fold in a form that does not depend on where its windows are, or when they were cleaned."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

from driftline.features.state.windows.window import SCALE_BITS, EventWindow
from driftline.features.state.windows.window_columns import attributes_of
from driftline.features.state.windows.window_table import WindowTable
from driftline.streams.fold.processor import ProcessorState

RUNNING = {"totals", "squares", "counts", "weights"}
"""Attributes that are running totals: what they begin with depends on what was dropped before."""


def comparable(state: ProcessorState) -> ProcessorState:
    """The state, with what can be read of its windows in the place of each table."""
    features = state.intake.features
    tables = [contents_of(table) for table in features.tables]
    return state._replace(intake=state.intake._replace(features=replace(features, tables=tables)))


def contents_of(table: WindowTable) -> list[tuple[str, dict[str, Any]]]:
    """The windows that have something to read at the table's watermark, by the text of their key."""
    bound, contents = table.watermark - table.over, {}
    for key, window in table.windows():
        copied: EventWindow = pickle.loads(pickle.dumps(window))
        if copied.retain(bound, table.watermark):
            contents[repr(key)] = _values(copied)
    return sorted(contents.items())


def _values(window: EventWindow) -> dict[str, Any]:
    values = {name: getattr(window, name) for name in attributes_of(window)}
    for name in RUNNING & values.keys():
        values[name] = [total - values[name][0] for total in values[name]]
    bits = values.pop("bits", None)  # whole numbers are kept as such until there is another
    if bits is not None:
        values["totals"] = [total << SCALE_BITS - bits for total in values["totals"]]
    return values
