"""Parts of what drift detection reports: pools give them, and the topics carry them as they are."""

from __future__ import annotations

import msgspec


class Side(msgspec.Struct, frozen=True):
    """One side of a change: the mean over `count` values."""

    mean: float
    count: int


class Toll(msgspec.Struct, frozen=True):
    """Mean losses on the `labels` that came while an incident lasted, from its confirmation to its end: of
    what was served, and of each member and baseline that had answered them all."""

    labels: int
    served: float
    members: dict[str, float]


class Estimate(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The expected performance of the newest `predictions`, whose labels are unknown, from `labels` of
    earlier ones.

    `loss` is the task's, `accuracy` the share of right answers; `withheld` says why there is neither.
    """

    predictions: int
    labels: int
    loss: float | None = None
    accuracy: float | None = None
    withheld: str = ""
