"""How the report writes figures, durations and the roles of members."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FIGURE_TITLES = {
    "accuracy": "accuracy", "kappa": "kappa", "kappa_temporal": "kappa temporal", "log_loss": "log loss",
    "roc_auc": "ROC AUC", "rmse": "RMSE", "mae": "MAE",
}  # fmt: skip
"""The figures of an evaluation in the order of its tables, and what they are called."""
_SECONDS = re.compile(r"\b(\d+(?:\.\d+)?(?:e\+\d+)?) s\b")
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def figure(value: Any, digits: int = 3) -> str:
    """A number as text; a dash without one."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    # adding 0.0 turns a rounded -0.0 into 0.0
    return f"{value:,}" if isinstance(value, int) else f"{round(value, digits) + 0.0:,.{digits}f}"


def lasting(seconds: float) -> str:
    """A duration in the unit that fits.

    >>> lasting(12.4), lasting(600), lasting(5 * 3600), lasting(72 * 3600)
    ('12 s', '10 min', '5 h', '3 d')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.0f} d"


def in_units(text: str) -> str:
    """A text whose seconds are given in days, hours or minutes where these are whole numbers.

    >>> in_units("ahead of all others by more than max_jump (86400 s)")
    'ahead of all others by more than max_jump (1 day)'
    >>> in_units("2.592e+06 s, 5400 s, 60 s, 61 s and .5 s")
    '30 days, 90 minutes, 60 s, 61 s and .5 s'
    """
    return _SECONDS.sub(_in_unit, text)


def _in_unit(found: re.Match[str]) -> str:
    seconds = float(found[1])
    for unit, name in _UNITS:
        count, left = divmod(seconds, unit)
        if count and not left and seconds > 60:
            return f"{count:,.0f} {name}{'s' if count > 1 else ''}"
    return found[0]


def role_of(name: str, state: Mapping[str, Any]) -> str:
    """champion, challenger, frozen or prior."""
    role = str(state.get("role", ""))
    return name if role == "baseline" else role
