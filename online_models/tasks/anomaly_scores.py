"""Anomaly scores of any range, mapped to [0, 1]."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from math import isfinite
from typing import Any

from driftline.online_models.errors import NotFinite

NEWEST_SCORES = 1_000
"""The number of newest scores among which a score is ranked."""
TOLERANCE = 1e-9
"""Numbers outside [0, 1] by at most this are rounding errors, and are clipped."""
RANKED = (
    f"a score is outside [0, 1]: from here on each is given as its rank among the newest {NEWEST_SCORES:,}"
)
"""The message when scores are published as ranks from now on."""


class Calibrated:
    """An anomaly detector whose scores are in [0, 1].

    Scores are given unchanged while all of them are in [0, 1]. From the first one outside, each is given as
    its rank among the newest 1,000 raw scores since then: the share of lower ones, with ties counted half
    (mid-rank, as in the probability integral transform). So .99 means: more unusual than 99 of 100 recent
    requests. Ranks keep the order of scores of about the same time, which the ranking metrics judge.
    """

    __slots__ = ("_newest", "_ordered", "detector", "is_ranked")

    def __init__(self, detector: Any) -> None:
        self.detector = detector
        self.is_ranked = False
        self._newest: deque[float] = deque()
        self._ordered: list[float] = []

    def learn_one(self, x: dict[str, Any]) -> None:
        """Let the detector learn."""
        self.detector.learn_one(x)

    def score_one(self, x: dict[str, Any]) -> float | None:
        """The score, in [0, 1]; None if the detector has none yet. Raises NotFinite."""
        raw = self.detector.score_one(x)
        if raw is None:
            return None
        score = float(raw)
        if not isfinite(score):
            raise NotFinite(f"the anomaly score is {score!r}")
        if not self.is_ranked:
            if -TOLERANCE <= score <= 1.0 + TOLERANCE:
                return min(max(score, 0.0), 1.0)
            self.is_ranked = True
        return self._rank(score)

    def _rank(self, score: float) -> float:
        ordered = self._ordered
        below, through = bisect_left(ordered, score), bisect_right(ordered, score)
        rank = (0.5 * (below + through) + 0.5) / (len(ordered) + 1)
        insort(ordered, score)
        self._newest.append(score)
        if len(ordered) > NEWEST_SCORES:
            del ordered[bisect_left(ordered, self._newest.popleft())]
        return rank
