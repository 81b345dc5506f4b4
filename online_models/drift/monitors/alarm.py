"""The alarm of a monitor."""

from __future__ import annotations

from typing import Literal, NamedTuple

from driftline.online_models.drift.drift_report import Side

Aspect = Literal["mean", "spread", "missing", "frozen", "categories", "calendar", "delay"]


class Alarm(NamedTuple):
    """A monitor's alarm: the level of `aspect` of `stream` before, and in the last `blocks` blocks.

    `category` is the value whose frequency changed. `scale` is the stream's center and width before, if mean
    and spread are both watched. `column` is its place in the panel until the next block.
    """

    stream: str
    aspect: Aspect
    category: str
    evidence: float
    before: Side
    after: Side
    blocks: int
    scale: tuple[float, float] | None
    column: int

    @property
    def subject(self) -> str:
        """The subject of the alarm, as text."""
        what = {"missing": "missing rate", "categories": f"share of {self.category}"}
        return f"{self.stream}: {what.get(self.aspect, self.aspect)}"
