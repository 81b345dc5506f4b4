"""What a monitor finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Aspect = Literal["mean", "spread", "missing", "frozen", "categories", "calendar", "delay"]


@dataclass(frozen=True, slots=True)
class Level:
    """A mean over `count` values."""

    mean: float
    count: int


class Alarm(NamedTuple):
    """What a monitor found: the level of `aspect` of `stream` before, and in the last `blocks` blocks.

    `category` is the value whose frequency changed. `scale` is the stream's center and width
    before, where mean and spread are both watched.
    `column` is its place in the panel until the next block.
    """

    stream: str
    aspect: Aspect
    category: str
    evidence: float
    before: Level
    after: Level
    blocks: int
    scale: tuple[float, float] | None
    column: int

    @property
    def subject(self) -> str:
        """What the alarm is about, in words."""
        what = {"missing": "missing rate", "categories": f"share of {self.category}"}
        return f"{self.stream}: {what.get(self.aspect, self.aspect)}"
