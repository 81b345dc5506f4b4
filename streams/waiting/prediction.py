"""A prediction until its label can no longer change.

Thousands wait at a time and none is part of a cycle: they are structs that the garbage collector does not
walk through (`gc=False`).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from driftline.online_models.pool.pool import Forecast

PredictionStatus = Literal["open", "labelled", "unlabelled", "void"]


class PendingPrediction(msgspec.Struct, eq=False, gc=False):
    """One prediction until its label can no longer change.

    `forecast` and `prediction` are the learner's answer, once it has handled the request. `closed_at` is the
    event time of what closed it last; `answered_by` are the ids of the events that answered it, the label
    first and then its corrections. A `silent` one was never published, so its outcome is not published
    either. Without features `x` it is from other code, on a request that was refused here: there is nothing
    to learn from it. `number` counts the predictions that began to wait before it.
    """

    prediction_id: str
    event_id: str
    at: float
    key: str
    label_key: Any
    keys: dict[str, Any]
    x: dict[str, Any] | None
    deadline: float
    forecast: Forecast | None = None
    prediction: Any = None
    status: PredictionStatus = "open"
    label: Any = None
    learned: bool = False
    revision: int = -1
    closed_at: float = 0.0
    silent: bool = False
    answered_by: tuple[str, ...] = ()
    number: int = -1


def in_order_of_time(pending: PendingPrediction) -> tuple[float, int]:
    """The order of requests: by time, and at equal times in the log's order."""
    return pending.at, pending.number


def in_order_of_deadlines(pending: PendingPrediction) -> tuple[float, int]:
    """The order of deadlines; predictions of one deadline are in the order of their requests."""
    return pending.deadline, pending.number
