"""Where in time and in the log the newest blocks are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from driftline.online_models.drift.monitors.slow_changes import STRIDE, WINDOW_STRIDES
from driftline.online_models.drift.monitors.windows import LEVELS


class BlockSpan(NamedTuple):
    """From one position to another: event time in seconds, offset in the log."""

    first_at: float
    first_offset: int
    last_at: float
    last_offset: int


def joined(spans: Sequence[BlockSpan]) -> BlockSpan:
    """From the first position of all to the last."""
    first = min(spans, key=lambda span: span.first_offset)
    last = max(spans, key=lambda span: span.last_offset)
    return BlockSpan(first.first_at, first.first_offset, last.last_at, last.last_offset)


class Spans:
    """The spans of the newest blocks, as many as a window has: one by one, and by strides the older ones.

    A block may have several, such as that of its requests and that of their labels.
    """

    __slots__ = ("_blocks", "_now", "_strides")

    def __init__(self) -> None:
        self._now = 0
        self._blocks: list[tuple[BlockSpan, ...]] = []
        self._strides: list[tuple[BlockSpan, ...]] = []

    def add(self, *spans: BlockSpan) -> None:
        """Those of one more block."""
        self._now += 1
        self._blocks.append(spans)
        if self._now % STRIDE == 0:
            self._strides.append(self._joined(self._blocks[-STRIDE:]))
            del self._strides[: -WINDOW_STRIDES[-1]]
        del self._blocks[: -(2 ** (LEVELS - 1))]

    def newest(self, blocks: int) -> tuple[BlockSpan, ...]:
        """The joined spans of so many blocks; where they are many, of the whole strides that hold them."""
        if blocks <= len(self._blocks):
            return self._joined(list(islice(reversed(self._blocks), blocks)))
        return self._joined([self._blocks[-1], *islice(reversed(self._strides), -(-blocks // STRIDE))])

    @staticmethod
    def _joined(spans: Sequence[tuple[BlockSpan, ...]]) -> tuple[BlockSpan, ...]:
        return tuple(joined(of_blocks) for of_blocks in zip(*spans, strict=True))
