"""The estimated performance of the serving model now, before its labels are known."""

from __future__ import annotations

from collections import deque

import numpy as np

from driftline.online_models.drift.drift_report import Estimate
from driftline.online_models.drift.monitors.windows import BLOCK, Array

STRATA = 16
RECENT = 4
"""Blocks of requests that are estimated."""
BLOCK_FADE = 1.0 - 1.0 / 128.0
"""Weight that a block of labels keeps when the next one comes: half after 5,700 labels."""


class Performance:
    """Expected loss and accuracy by confidence: the labels so far, weighted as the newest scores fall.

    Scores are cut into strata at their own quantiles. In each, labels tell what the score was really worth
    (a recalibration by histogram; Zadrozny and Elkan 2001, Obtaining calibrated probability estimates), and
    the newest requests' scores tell how common it is now: as long as P(y | score) stands, the weighted mean
    is the performance of today, whatever happened to the inputs. A change of P(y | x) breaks that.
    """

    __slots__ = ("_edges", "_labels", "_recent", "_sums", "_warming")

    def __init__(self) -> None:
        self._edges: Array | None = None
        self._warming: list[float] = []
        self._recent: deque[Array] = deque(maxlen=RECENT)
        self._sums = np.zeros((3, STRATA))  # faded: labels, losses, right answers
        self._labels = 0

    def forget(self) -> None:
        """Forget the labels so far: they no longer apply."""
        self._sums[:] = 0.0
        self._labels = 0

    def requests(self, scores: Array) -> None:
        """A block of answers."""
        if self._edges is None:
            self._warming += scores.tolist()
            if len(self._warming) < RECENT * BLOCK:
                return
            ordered = sorted(self._warming)
            self._edges = np.array([ordered[len(ordered) * cut // STRATA] for cut in range(1, STRATA)])
            self._warming = []
        self._recent.append(scores)

    def labels(self, scores: Array, losses: Array, right: Array) -> None:
        """A block of labels: what was answered, its loss, and whether it was right."""
        if self._edges is None:
            return
        strata = np.searchsorted(self._edges, scores)
        self._sums *= BLOCK_FADE
        for row, weights in zip(self._sums, (None, losses, right), strict=True):
            row += np.bincount(strata, weights, minlength=STRATA)
        self._labels += len(scores)

    def estimate(self, least: int, invalid: str, classes: bool) -> Estimate:
        """The estimate; withheld where it is `invalid`, or rests on fewer than `least` labels."""
        predictions = BLOCK * len(self._recent)
        withheld = invalid or (f"fewer than {least} labels" if self._labels < least else "")
        if withheld or not predictions:
            return Estimate(predictions, self._labels, withheld=withheld or "no predictions")
        assert self._edges is not None
        scores = np.concatenate(list(self._recent))
        now = np.bincount(np.searchsorted(self._edges, scores), minlength=STRATA)
        count, losses, right = self._sums
        whole = np.add.reduce(self._sums, 1)
        known = np.maximum(count, 1e-9)
        loss = np.where(count > 0.5, losses / known, whole[1] / whole[0])
        accuracy = np.where(count > 0.5, right / known, whole[2] / whole[0])
        expected = (float(np.add.reduce(now * part)) / predictions for part in (loss, accuracy))
        expected_loss, expected_accuracy = expected
        return Estimate(predictions, self._labels, expected_loss, expected_accuracy if classes else None)
