"""How a model ranks the few answers whose label is of a rare class."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any

import numpy as np

from driftline.online_models.drift.alarm_budget import evidence_for
from driftline.online_models.drift.drift_report import Side
from driftline.online_models.drift.monitors.alarm import Alarm
from driftline.online_models.drift.monitors.windows import Array

RANKING_OF_RARE = "ranking loss of rare labels"
"""Of an answer whose label is of the rare class, the share of other answers that rank it wrongly: their mean
is 1 - ROC AUC. It does not depend on how rare the class is, or on how far the model has learned that."""
RARE_BLOCK = 8
"""Rare labels between two tests."""
RARE_WINDOWS = (8, 16, 32, 64)
"""Rare labels of a window."""
RARE_HISTORY = 48
"""Rare labels before a window, and no fewer than it has, that it can be compared with."""
RARE_KEPT = 512
"""Rare labels that are remembered."""
OTHERS = (64, 512)
"""Answers of the other class among which one is ranked: at least, and at most the newest so many."""
STEPS = 12
_MOST_ALIKE = 0.98


class RareRanks:
    """A change detector over the labels of a rare class alone, in blocks of `RARE_BLOCK` of them.

    Among all labels a few are lost: of 4,096 at a rate of .2 % eight are. The ranking losses of the newest w
    are compared with those of the n before, by their midranks among all of them, in [0, 1]: if nothing
    changed, any w of the n + w are as likely, and the chance that their mean is m or more is at most
    exp(-w * (t m - K(t))) for any t > 0, where K is the logarithm of the mean of exp(t * midrank) (Hoeffding
    1963, section 6). w is reduced by (1-r) / (1+r), with r the correlation of neighbours before. Nothing is
    assumed of the losses, and ties do no harm, so that n and w may be small. Only rises alarm. The evidence
    is that of an event as improbable, over all `RARE_WINDOWS`, in a block of labels: there are fewer tests
    than those blocks while the class is rarer than one in `RARE_BLOCK`.

    An answer is compared with those labelled about when it is, so labels have to come in the order of their
    requests, as they do when they are learned at their deadline.
    """

    __slots__ = ("_blocks", "_losses", "_now", "_others", "_untested")

    def __init__(self) -> None:
        self._others = np.zeros(0)  # newest answers of the other class
        self._losses: list[float] = []
        self._blocks: list[int] = []  # the block of labels of each
        self._now = 0
        self._untested = 0

    def update(self, labels: Sequence[Any], scores: Sequence[float], rare: bool, least: float) -> list[Alarm]:
        """Take a block of labels and the p(True) of their answers; the alarms of `least` evidence or more."""
        self._now += 1
        values = np.array(scores)
        is_rare = np.array([label == rare for label in labels])
        others = np.concatenate([self._others, values[~is_rare]])[-OTHERS[1] :]
        self._others = others
        if len(others) < OTHERS[0]:
            return []
        for score in values[is_rare].tolist():
            above = float((others > score).mean())
            tied = float((others == score).mean())
            self._losses.append((above if rare else 1.0 - above - tied) + tied / 2.0)
            self._blocks.append(self._now)
            self._untested += 1
        del self._losses[:-RARE_KEPT], self._blocks[:-RARE_KEPT]
        if self._untested < RARE_BLOCK:
            return []
        self._untested = 0
        return [alarm for alarm in (self._tested(),) if alarm is not None and alarm.evidence >= least]

    def restart(self) -> None:
        """Forget the losses so far: later ones are compared with those from here on."""
        self._losses.clear()
        self._blocks.clear()
        self._untested = 0

    def _tested(self) -> Alarm | None:
        """The window with the most evidence of a rise."""
        losses = np.array(self._losses)
        ranks = midranks(losses)
        best: Alarm | None = None
        for size in RARE_WINDOWS:
            n = len(losses) - size
            if n < max(RARE_HISTORY, size):
                break
            before, after = float(losses[:n].mean()), float(losses[n:].mean())
            r = _likeness(ranks[:n])
            improbable = size * (1.0 - r) / (1.0 + r) * rarity(ranks, float(ranks[n:].mean()))
            evidence = evidence_for(exp(max(improbable - log(len(RARE_WINDOWS)), 0.0)))
            if after > before and (best is None or evidence > best.evidence):
                best = Alarm(
                    RANKING_OF_RARE, "mean", "", evidence, Side(before, n), Side(after, size),
                    self._now - self._blocks[-size] + 1, None, 0,
                )  # fmt: skip
        return best


def midranks(values: Array) -> Array:
    """The share of the values that is smaller than each, and half of the share that is equal to it.

    >>> import numpy as np
    >>> midranks(np.array([0.5, 0.1, 0.5, 9.0])).tolist()
    [0.5, 0.125, 0.5, 0.875]
    """
    ordered = np.sort(values)
    places = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    ranks: Array = places / (2.0 * len(values))
    return ranks


def rarity(values: Array, mean: float) -> float:
    """x, where the mean of w values in [0, 1] drawn from these is that large with a chance of at most
    exp(-w x); at least 0.

    >>> import numpy as np
    >>> round(rarity(np.array([0.0] * 9 + [1.0]), 0.8), 3)  # .8 ln(.8 / .1) + .2 ln(.2 / .9)
    1.363
    """
    t, best = 1.0, 0.0
    for _ in range(STEPS):  # of Newton, towards the t for which x is largest; any other gives a bound too
        weights = np.exp(t * (values - 1.0))
        total = float(weights.sum())
        center = float((weights * values).sum()) / total
        best = max(best, t * (mean - 1.0) - log(total / len(values)))
        slope = float((weights * values * values).sum()) / total - center * center
        step = (mean - center) / slope if slope > 0.0 else 0.0
        t = min(max(t + step, t / 4.0), 4.0 * t)
    return best


def _likeness(ranks: Array) -> float:
    """How like one is to the next, in [0, .98]: their correlation."""
    centered = ranks - ranks.mean()
    square = float((centered * centered).sum())
    r = float((centered[1:] * centered[:-1]).sum()) / square if square else 0.0
    r += (1.0 + 4.0 * r) / len(ranks)  # an estimate falls short
    return min(max(r, 0.0), _MOST_ALIKE)
