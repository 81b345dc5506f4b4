"""Progressive metrics: every output is scored before its label is learned from.

Updating only appends to columns; figures are computed from them when asked for. They are exact up
to `EXACT_LABELS`; then the older half is folded into a histogram of 2**16 bins of the probability,
after which AUC and PR-AUC are within the share of pairs that fall in one bin.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

from online_models.task import FLOOR, Task

EXACT_LABELS = 2**20
BINS = 2**16
HALF_LIFE = 1_000.0
FADING_LABELS = 10_000
"""The fading window looks back ten half-lives; what lies before weighs less than 0.1 %."""


class BinaryMetrics:
    """Metrics of p(True) against true or false labels."""

    def __init__(self, task: Task) -> None:
        self._decision = task.decision
        self._threshold = 0.5 if task.decision is None else task.decision.threshold
        self._p = array("d")
        self._y = array("b")
        self._w = array("b")
        self._last: bool | None = None
        self._repeats = 0
        self._pairs = 0
        self._binned: Any = None
        self._recent: list[tuple[Any, Any, Any]] = []  # fading columns of what was merged in

    def update(self, y: bool, p: float) -> None:
        """Score one output."""
        self._p.append(p)
        self._y.append(y)
        self._w.append(1)
        if self._last is not None:
            self._pairs += 1
            self._repeats += y == self._last
        self._last = y
        if len(self._p) >= EXACT_LABELS:
            self._fold_older_half()

    def amend(self, y_old: bool, y_new: bool, p: float) -> None:
        """Replace a label that was scored before."""
        for y, weight in ((y_old, -1), (y_new, 1)):
            self._p.append(p)
            self._y.append(y)
            self._w.append(weight)

    def _fold_older_half(self) -> None:
        import numpy as np

        half = EXACT_LABELS // 2
        p, y, w = (np.array(column[:half]) for column in (self._p, self._y, self._w))
        bins = np.minimum((p * BINS).astype(np.int64), BINS - 1)
        if self._binned is None:
            self._binned = np.zeros((2, BINS))
        for label in (0, 1):
            chosen = y == label
            self._binned[label] += np.bincount(bins[chosen], weights=w[chosen], minlength=BINS)
        for column in (self._p, self._y, self._w):
            del column[:half]

    def merge(self, others: Iterable[BinaryMetrics]) -> None:
        """Add what the others have scored; each fades by its own labels."""
        if not self._recent and self._p:
            self._recent.append(self._fading_columns())
        for other in others:
            self._recent.append(other._fading_columns())
            self._p.extend(other._p)
            self._y.extend(other._y)
            self._w.extend(other._w)
            self._pairs += other._pairs
            self._repeats += other._repeats
            if other._binned is not None:
                self._binned = other._binned.copy() if self._binned is None else self._binned + other._binned

    def _columns(self) -> tuple[Any, Any, Any]:
        """(p, y, weight), the binned part at the middle of its bins."""
        import numpy as np

        p, y, w = np.array(self._p), np.array(self._y, dtype=float), np.array(self._w, dtype=float)
        if self._binned is not None:
            middles = (np.arange(BINS) + 0.5) / BINS
            p = np.concatenate([middles, middles, p])
            y = np.concatenate([np.zeros(BINS), np.ones(BINS), y])
            w = np.concatenate([self._binned[0], self._binned[1], w])
        return p, y, w

    def summary(self) -> dict[str, Any]:
        """Figures over the whole run; None where they are not defined."""
        figures = self._figures(*self._columns())
        accuracy = figures["accuracy"]
        if accuracy is not None and self._pairs and self._repeats < self._pairs:
            no_change = self._repeats / self._pairs
            figures["kappa_temporal"] = (accuracy - no_change) / (1 - no_change)
        else:
            figures["kappa_temporal"] = None
        return figures

    def _fading_columns(self) -> tuple[Any, Any, Any]:
        import numpy as np

        p, y, w = (np.array(column[-FADING_LABELS:], dtype=float) for column in (self._p, self._y, self._w))
        return p, y, w * 0.5 ** (np.arange(len(p))[::-1] / HALF_LIFE)

    def fading(self) -> dict[str, Any]:
        """Figures with weights that halve every `HALF_LIFE` labels."""
        import numpy as np

        columns = self._recent or [self._fading_columns()]
        return self._figures(*(np.concatenate(parts) for parts in zip(*columns, strict=True)))

    def _figures(self, p: Any, y: Any, w: Any) -> dict[str, Any]:
        import numpy as np

        n = float(w.sum())
        names = ("roc_auc", "pr_auc", "log_loss", "brier", "accuracy", "kappa")
        if n <= 0:
            return dict.fromkeys(names) | {"n": 0}
        right = np.where(y > 0, p, 1.0 - p)
        said = p >= self._threshold
        agree = float((w * (said == (y > 0))).sum()) / n
        yes, said_yes = float((w * y).sum()) / n, float((w * said).sum()) / n
        chance = yes * said_yes + (1 - yes) * (1 - said_yes)
        roc_auc, pr_auc = _ranking(p, y, w)
        figures: dict[str, Any] = {
            "roc_auc": roc_auc,
            "pr_auc": pr_auc,
            "log_loss": float(-(w * np.log(np.maximum(right, FLOOR))).sum()) / n,
            "brier": float((w * (p - y) ** 2).sum()) / n,
            "accuracy": agree,
            "kappa": (agree - chance) / (1 - chance) if chance < 1 else None,
            "n": round(n),
        }
        if self._decision is not None:
            wrong = said != (y > 0)
            price = np.where(said, self._decision.false_positive, self._decision.false_negative)
            figures["cost"] = float((w * wrong * price).sum()) / n
        return figures


def _ranking(p: Any, y: Any, w: Any) -> tuple[float | None, float | None]:
    """Exact (ROC AUC, average precision) with ties and weights; None without both labels.

    AUC is the share of (true, false) pairs ranked rightly, ties half (Fawcett 2006); average
    precision is the sum of precision times the step in recall over descending distinct scores.
    """
    import numpy as np

    scores, place = np.unique(p, return_inverse=True)
    positive = np.bincount(place, weights=w * y, minlength=len(scores))
    negative = np.bincount(place, weights=w * (1 - y), minlength=len(scores))
    positives, negatives = positive.sum(), negative.sum()
    if positives <= 0 or negatives <= 0:
        return None, None
    below = np.cumsum(negative) - negative
    auc = float((positive * (below + negative / 2)).sum() / (positives * negatives))
    hits = np.cumsum(positive[::-1])
    said = hits + np.cumsum(negative[::-1])
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    return auc, float((precision * positive[::-1]).sum() / positives)


class RunningMetrics:
    """Metrics of multiclass and regression outputs, as sums over the run and fading sums."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._sums: dict[str, float] = {}
        self._fading: dict[str, float] = {}
        self._last: Any = None

    def update(self, y: Any, output: Any) -> None:
        """Score one output."""
        for name in self._fading:
            self._fading[name] *= 0.5 ** (1 / HALF_LIFE)
        self._add(y, output, 1.0)
        if self._last is not None:
            self._count("pairs", 1.0)
            self._count("repeats", float(y == self._last))
        self._last = y

    def amend(self, y_old: Any, y_new: Any, output: Any) -> None:
        """Replace a label that was scored before."""
        self._add(y_old, output, -1.0)
        self._add(y_new, output, 1.0)

    def merge(self, others: Iterable[RunningMetrics]) -> None:
        """Add what the others have scored."""
        for other in others:
            for name, value in other._sums.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
            for name, value in other._fading.items():
                self._fading[name] = self._fading.get(name, 0.0) + value

    def _count(self, name: str, value: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._fading[name] = self._fading.get(name, 0.0) + value

    def _add(self, y: Any, output: Any, weight: float) -> None:
        self._count("n", weight)
        self._count("loss", weight * self._task.loss(y, output))
        if self._task.kind == "regression":
            self._count("absolute", weight * abs(y - output))
        else:
            point = self._task.point(output)
            self._count("right", weight * (point == y))
            self._count(f"label {y}", weight)
            self._count(f"point {point}", weight)

    def summary(self) -> dict[str, Any]:
        """Figures over the whole run."""
        return self._figures(self._sums)

    def fading(self) -> dict[str, Any]:
        """Figures with weights that halve every `HALF_LIFE` labels."""
        return self._figures(self._fading)

    def _figures(self, sums: dict[str, float]) -> dict[str, Any]:
        n = sums.get("n", 0.0)
        if n <= 0:
            return {"n": 0}
        if self._task.kind == "regression":
            return {"rmse": (sums["loss"] / n) ** 0.5, "mae": sums["absolute"] / n, "n": round(n)}
        accuracy = sums["right"] / n
        labels = [name[6:] for name in sums if name.startswith("label ")]
        chance = sum(sums[f"label {c}"] * sums.get(f"point {c}", 0.0) for c in labels) / n**2
        pairs = sums.get("pairs", 0.0)
        no_change = sums.get("repeats", 0.0) / pairs if pairs else 1.0
        return {
            "log_loss": sums["loss"] / n,
            "accuracy": accuracy,
            "kappa": (accuracy - chance) / (1 - chance) if chance < 1 else None,
            "kappa_temporal": (accuracy - no_change) / (1 - no_change) if no_change < 1 else None,
            "n": round(n),
        }


Metrics = BinaryMetrics | RunningMetrics


def metrics_of(task: Task) -> Metrics:
    """Empty metrics for a task."""
    return BinaryMetrics(task) if task.kind == "binary" else RunningMetrics(task)
