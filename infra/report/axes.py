"""Where the ticks of an axis are, and how they are named."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

TicksOf = Callable[[float, float, int], list[tuple[float, str]]]
"""Ticks in [start, end], about so many, each with its name."""


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers covering [low, high], about so many.

    >>> nice_ticks(0.41, 0.58)
    [0.4, 0.45, 0.5, 0.55, 0.6]
    """
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def time_ticks(start: float, end: float, about: int = 12) -> list[tuple[float, str]]:
    """(seconds since the epoch, label) at round moments within [start, end]."""
    span = end - start
    if span > 70 * 86_400:
        return _month_ticks(start, end, about)
    steps = [60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 2 * 86_400, 7 * 86_400]
    step = next((s for s in steps if span / s <= about), steps[-1])
    form = "%-d %b" if step >= 86_400 else "%-d %b %H:%M" if span > 86_400 else "%H:%M"
    first = math.ceil(start / step) * step
    return [
        (float(at), datetime.fromtimestamp(at, UTC).strftime(form))
        for at in range(int(first), int(end) + 1, step)
    ]


def _month_ticks(start: float, end: float, about: int) -> list[tuple[float, str]]:
    months = max(1, math.ceil((end - start) / (30.5 * 86_400) / about))
    moment = datetime.fromtimestamp(start, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ticks = []
    while moment.timestamp() <= end:
        if moment.timestamp() >= start and (moment.month - 1) % months == 0:
            form = "%b %Y" if moment.month == 1 or months >= 12 else "%b"
            ticks.append((moment.timestamp(), moment.strftime(form)))
        moment = (moment + timedelta(days=32)).replace(day=1)
    return ticks


def count_ticks(start: float, end: float, about: int = 12) -> list[tuple[float, str]]:
    """(number, label) at round numbers within [start, end].

    >>> count_ticks(0, 3000, 3)
    [(0.0, '0'), (1000.0, '1,000'), (2000.0, '2,000'), (3000.0, '3,000')]
    """
    return [(tick, f"{tick:,.0f}") for tick in nice_ticks(start, end, about) if start <= tick <= end]


def decimals(ticks: Sequence[float]) -> int:
    """How many decimals distinguish the ticks."""
    return max(len(f"{tick:.6f}".rstrip("0").partition(".")[2]) for tick in ticks)
