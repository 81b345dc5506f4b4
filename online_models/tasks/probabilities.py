"""Checks and loss of probabilities and of true or false labels."""

from __future__ import annotations

from math import log
from typing import Any

from driftline.online_models.errors import NotFinite
from driftline.online_models.tasks.anomaly_scores import TOLERANCE

FLOOR = 1e-15
"""Probabilities are clipped to it in the log loss."""


def clipped(label: Any, p: Any) -> float:
    """A probability outside [0, 1] by a rounding error, clipped to it. Raises NotFinite for any other."""
    if -TOLERANCE <= p <= 1.0 + TOLERANCE:
        return 0.0 if p < 0.0 else 1.0
    raise NotFinite(f"p({label}) is {p!r}")


def true_or_false(y: Any) -> bool:
    """The label as a bool; 0 and 1 are accepted. Raises ValueError."""
    if y in (0, 1):
        return bool(y)
    raise ValueError(f"{y!r} is not true or false")


def log_loss(y: Any, p: float) -> float:
    """The log loss in nats of p(True) = `p`, given the label."""
    given = p if y else 1.0 - p
    return -log(given if given > FLOOR else FLOOR)
