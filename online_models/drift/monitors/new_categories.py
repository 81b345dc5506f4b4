"""New categories: values of a text that almost never occurred, and now are frequent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from driftline.online_models.drift.monitors.slow_changes import STRIDE
from driftline.online_models.drift.monitors.windows import BLOCK

NEWCOMER_COUNT = 16
"""Of the 1,024 values of a stride, as many make a value a newcomer."""
TIMES = 8
"""A newcomer must be so many times as frequent as in all the strides before."""
KNOWN_AFTER = 12
"""Strides after which the usual values are known."""
MOST_VALUES = 512
"""Values that are counted; where there are more, the half that is rarer is forgotten."""


class Newcomers:
    """Looks for newcomers among the values that have no monitor of their own.

    A value that begins to take a twentieth of a long tail moves the share of all others by much less than
    chance does: it shows only when counted alone. Counts of forgotten values are bounded by the largest one
    forgotten (Misra and Gries 1982, Finding repeated elements).
    """

    __slots__ = ("_blocks", "_counts", "_forgotten", "_stride", "_strides")

    def __init__(self) -> None:
        self._counts: Counter[Any] = Counter()
        self._forgotten = 0
        self._stride: Counter[Any] = Counter()
        self._blocks = 0
        self._strides = 0

    def update(self, counts: Mapping[Any, int], watched: Sequence[Any]) -> list[tuple[Any, float]]:
        """Add the counts of a block, those `watched` left out; newcomers, each with its share of the values
        before."""
        if len(counts) > len(watched) or any(value not in watched for value in counts):
            for value, count in counts.items():
                if value not in watched:
                    self._stride[value] += count
        self._blocks += 1
        if self._blocks < STRIDE:
            return []
        stride, self._stride, self._blocks = self._stride, Counter(), 0
        newcomers = self._newcomers(stride) if self._strides >= KNOWN_AFTER else []
        self._strides += 1
        self._counts.update(stride)
        if len(self._counts) > MOST_VALUES:
            ordered = sorted(self._counts.items(), key=lambda item: (-item[1], str(item[0])))
            self._forgotten = max(self._forgotten, ordered[MOST_VALUES // 2][1])
            self._counts = Counter(dict(ordered[: MOST_VALUES // 2]))
        return newcomers

    def _newcomers(self, stride: Mapping[Any, int]) -> list[tuple[Any, float]]:
        newcomers = []
        for value, count in stride.items():
            if count >= NEWCOMER_COUNT and value is not None and value == value:
                before = max(self._counts.get(value, 0), self._forgotten) / self._strides
                if count >= TIMES * before:
                    newcomers.append((value, before / (STRIDE * BLOCK)))
        return sorted(newcomers, key=lambda newcomer: str(newcomer[0]))
