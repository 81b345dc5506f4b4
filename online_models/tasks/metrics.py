"""Progressive metrics: every output is scored before its label is learned from.

An update only appends to columns; figures are computed on demand. Every figure is exact up to `EXACT_LABELS`
labels. Then the older half is added to sums, which stay exact, and to a histogram of the probability with
2**16 bins. From then on only AUC and PR-AUC are approximate: pairs in one bin count as ties, so the error of
AUC is at most half the share of (true, false) pairs in one bin.

A label has a *row*, its number among the labels of its pool. A corrected label replaces its row, so all
figures, also fading ones, are as if the label had been correct at once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from copy import copy, deepcopy
from typing import Any

from driftline.online_models.tasks.probabilities import FLOOR
from driftline.online_models.tasks.protocol import Task

EXACT_LABELS = 2**20
BINS = 2**16
HALF_LIFE = 1_000.0
FADING_LABELS = 10_000
"""The labels of fading figures: ten half-lives. Older ones would weigh less than 0.1 %."""
FADE = 0.5 ** (1.0 / HALF_LIFE)
NOT_SCORED = -1
"""The entry in the column of labels if the member gave no output, or the label was withdrawn."""


class BinaryMetrics:
    """Metrics of p(True) against true or false labels. Takes at most 9 bytes x `EXACT_LABELS`."""

    def __init__(self, task: Task) -> None:
        self._decision = task.decision
        self._threshold = 0.5 if task.decision is None else task.decision.threshold
        self._p = array("d")
        self._y = array("b")
        self._folded_rows = 0
        self._folded: Any = None  # (sums, histogram by label) of the folded rows
        self._others: list[BinaryMetrics] = []

    def update(self, y: bool, p: float) -> None:
        """Score one output, as the next row."""
        self._p.append(p)
        self._y.append(y)
        if len(self._p) >= EXACT_LABELS:
            self._fold_older_half()

    def skip(self) -> None:
        """Add the next row without a score: this member did not answer the request."""
        self.update(NOT_SCORED, 0.0)  # type: ignore[arg-type]

    def amend(self, y_old: bool | None, y_new: bool | None, p: float, row: int) -> None:
        """Replace the label of a row. None means no label.

        The pairs of neighbours of a folded row (kappa_temporal) do not change.
        """
        index = row - self._folded_rows
        if index >= 0:
            self._p[index] = p
            self._y[index] = NOT_SCORED if y_new is None else y_new
            return
        sums, bins = self._folded
        for y, sign in ((y_old, -1.0), (y_new, 1.0)):
            if y is not None:
                sums += sign * self._sums(*_arrays([p], [y]))
                bins[int(y), min(int(p * BINS), BINS - 1)] += sign

    def _fold_older_half(self) -> None:
        import numpy as np

        half = EXACT_LABELS // 2
        p, y = np.array(self._p[: half + 1]), np.array(self._y[: half + 1])
        if self._folded is None:
            self._folded = (np.zeros(8), np.zeros((2, BINS)))
        sums, histogram = self._folded
        scored = y[:half] != NOT_SCORED
        sums += self._sums(*_arrays(p[:half][scored], y[:half][scored]))
        sums[6:] += _neighbours(y, np.ones(len(y)))  # the pair across the boundary counts as folded
        bins = np.minimum((p[:half] * BINS).astype(np.int64), BINS - 1)
        for label in (0, 1):
            histogram[label] += np.bincount(bins[y[:half] == label], minlength=BINS)
        self._folded_rows += half
        del self._p[:half], self._y[:half]

    def merge(self, others: Iterable[BinaryMetrics]) -> None:
        """Add what the others have scored so far. Their later scores do not change this one."""
        for other in others:
            for part in other._parts():
                copied = copy(part)
                copied._p, copied._y, copied._others = part._p[:], part._y[:], []
                copied._folded = deepcopy(part._folded)
                self._others.append(copied)

    def _parts(self) -> Iterator[BinaryMetrics]:
        yield self
        yield from self._others

    def summary(self) -> dict[str, Any]:
        """Figures over the whole run. Undefined ones are None."""
        import numpy as np

        columns, pairs = self._columns(None)
        sums = self._sums(*columns)
        sums[6:] = pairs
        for part in self._parts():
            if part._folded is not None:
                sums += part._folded[0]
                columns = tuple(
                    np.concatenate(both) for both in zip(columns, _binned(part._folded[1]), strict=True)
                )
        return self._figures(columns, sums)

    def fading(self) -> dict[str, Any]:
        """Figures with weights that halve every `HALF_LIFE` labels. Merged metrics each count their own
        labels."""
        columns, pairs = self._columns(HALF_LIFE)
        sums = self._sums(*columns)
        sums[6:] = pairs
        return self._figures(columns, sums)

    def _columns(self, half_life: float | None) -> tuple[tuple[Any, ...], Any]:
        """(p, y, weight) of the scored rows that are not folded, and the weights of (pairs, repeats) among
        neighbours."""
        import numpy as np

        columns, pairs = [], np.zeros(2)
        for part in self._parts():
            newest = slice(None) if half_life is None else slice(-FADING_LABELS, None)
            p, y = np.array(part._p[newest], dtype=float), np.array(part._y[newest], dtype=float)
            w = np.ones(len(y))
            if half_life is not None:
                w = 0.5 ** (np.arange(len(y))[::-1] / half_life)
            scored = y != NOT_SCORED
            columns.append((p[scored], y[scored], w[scored]))
            pairs += _neighbours(y, w)
        return tuple(np.concatenate(parts) for parts in zip(*columns, strict=True)), pairs

    def _sums(self, p: Any, y: Any, w: Any) -> Any:
        """Sums of: n, labels true, decided true, both, log loss, squared error, and two zeros for pairs and
        repeats."""
        import numpy as np

        said = w * (p >= self._threshold)
        loss = -np.log(np.maximum(np.where(y > 0, p, 1.0 - p), FLOOR))
        squares = (p - y) ** 2
        parts = (w, w * y, said, said * y, w * loss, w * squares)
        return np.array([*(float(part.sum()) for part in parts), 0.0, 0.0])

    def _figures(self, columns: tuple[Any, ...], sums: Any) -> dict[str, Any]:
        n, yes, said, hits, loss, squares, pairs, repeats = (float(value) for value in sums)
        names = ("roc_auc", "pr_auc", "log_loss", "brier", "accuracy", "kappa", "kappa_temporal")
        if n <= 0:
            return dict.fromkeys(names) | {"n": 0}
        accuracy = (n - yes - said + 2 * hits) / n
        roc_auc, pr_auc = _ranking(*columns)
        figures: dict[str, Any] = {
            "roc_auc": roc_auc,
            "pr_auc": pr_auc,
            "log_loss": loss / n,
            "brier": squares / n,
            "accuracy": accuracy,
            "kappa": _better_than(accuracy, (yes * said + (n - yes) * (n - said)) / n**2),
            "kappa_temporal": _better_than(accuracy, repeats / pairs) if pairs > 0 else None,
            "n": round(n),
        }
        if self._decision is not None:
            wrongly_said, missed = said - hits, yes - hits
            cost = self._decision.false_positive * wrongly_said + self._decision.false_negative * missed
            figures["cost"] = cost / n
        return figures


def _arrays(p: Any, y: Any) -> tuple[Any, Any, Any]:
    import numpy as np

    return np.asarray(p, dtype=float), np.asarray(y, dtype=float), np.ones(len(p))


def _neighbours(y: Any, w: Any) -> Any:
    """Weights of (pairs of neighbouring labels, pairs of equal ones). Unscored rows are left out."""
    import numpy as np

    scored = y != NOT_SCORED
    y, w = y[scored], w[scored]
    return np.array([float(w[1:].sum()), float((w[1:] * (y[1:] == y[:-1])).sum())])


def _binned(histogram: Any) -> tuple[Any, Any, Any]:
    """(p, y, weight) of a histogram, at the centres of its bins."""
    import numpy as np

    middles = (np.arange(BINS) + 0.5) / BINS
    y = np.repeat([0.0, 1.0], BINS)
    return np.concatenate([middles, middles]), y, histogram.ravel()


def _better_than(accuracy: float, chance: float) -> float | None:
    """Kappa: of the share that chance (or repeating the last class) gets wrong, the part that is right (Cohen
    1960; Zliobaite et al. 2015, Evaluation methods and decision theory for classification of streaming data
    with temporal dependence)."""
    return (accuracy - chance) / (1.0 - chance) if chance < 1.0 - 1e-12 else None


def _ranking(p: Any, y: Any, w: Any) -> tuple[float | None, float | None]:
    """Exact (ROC AUC, average precision) with ties and weights; None unless both labels occur.

    AUC is the share of (true, false) pairs that are ranked correctly, with ties counted half (Fawcett 2006).
    Average precision is the sum, over descending distinct scores, of precision times the step in recall.
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
    """Metrics of multiclass and regression outputs, as sums over the run and fading sums.

    A corrected label is removed with the weight that it has by then. The pairs of neighbours (kappa_temporal)
    do not change.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._sums: dict[str, float] = {}
        self._fading: dict[str, float] = {}
        self._last: Any = None
        self._rows = 0

    def __getstate__(self) -> dict[str, Any]:
        """The state without the task, whose functions may not be picklable. `Pool.restore` sets it again."""
        return {name: value for name, value in vars(self).items() if name != "_task"}

    def of(self, task: Task) -> None:
        """Set the task after a restore."""
        self._task = task

    def update(self, y: Any, output: Any) -> None:
        """Score one output, as the next row."""
        self.skip()
        self._add(y, output, 1.0, 1.0)
        if self._last is not None:
            self._count("pairs", 1.0, 1.0)
            repeat = float(y == self._last)
            self._count("repeats", repeat, repeat)
        self._last = y

    def skip(self) -> None:
        """Add the next row without a score: this member did not answer the request."""
        self._rows += 1
        fading = self._fading
        for name in fading:
            fading[name] *= FADE

    def amend(self, y_old: Any, y_new: Any, output: Any, row: int) -> None:
        """Replace the label of a row. None means no label."""
        faded = FADE ** (self._rows - 1 - row)
        if y_old is not None:
            self._add(y_old, output, -1.0, -faded)
        if y_new is not None:
            self._add(y_new, output, 1.0, faded)

    def merge(self, others: Iterable[RunningMetrics]) -> None:
        """Add what the others have scored so far."""
        for other in others:
            for name in other._sums:
                self._count(name, other._sums[name], other._fading[name])

    def _count(self, name: str, value: float, faded: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._fading[name] = self._fading.get(name, 0.0) + faded

    def _add(self, y: Any, output: Any, weight: float, faded: float) -> None:
        loss = self._task.loss(y, output)
        self._count("n", weight, faded)
        self._count("loss", weight * loss, faded * loss)
        if self._task.kind == "regression":
            error = abs(y - output)
            self._count("absolute", weight * error, faded * error)
            return
        point = self._task.point(output)
        right = float(point == y)
        square = 1.0 - 2.0 * output.get(y, 0.0) + sum(p * p for p in output.values())
        self._count("right", weight * right, faded * right)
        self._count("squares", weight * square, faded * square)
        self._count(f"label {y}", weight, faded)
        self._count(f"point {point}", weight, faded)

    def summary(self) -> dict[str, Any]:
        """Figures over the whole run."""
        return self._figures(self._sums)

    def fading(self) -> dict[str, Any]:
        """Figures with weights that halve every `HALF_LIFE` labels."""
        return self._figures(self._fading)

    def _figures(self, sums: dict[str, float]) -> dict[str, Any]:
        n = sums.get("n", 0.0)
        if n <= 1e-9:  # all labels were withdrawn, up to rounding
            return {"n": 0}
        loss = max(sums["loss"], 0.0) / n  # after corrections, a sum may round below 0
        if self._task.kind == "regression":
            return {"rmse": loss**0.5, "mae": max(sums["absolute"], 0.0) / n, "n": round(n)}
        accuracy = sums["right"] / n
        labels = [name[6:] for name in sums if name.startswith("label ")]
        chance = sum(sums[f"label {c}"] * sums.get(f"point {c}", 0.0) for c in labels) / n**2
        pairs = sums.get("pairs", 0.0)
        return {
            "log_loss": loss,
            "brier": max(sums["squares"], 0.0) / n,
            "accuracy": accuracy,
            "kappa": _better_than(accuracy, chance),
            "kappa_temporal": _better_than(accuracy, sums.get("repeats", 0.0) / pairs) if pairs else None,
            "n": round(n),
        }


Metrics = BinaryMetrics | RunningMetrics


def metrics_of(task: Task) -> Metrics:
    """Empty metrics for a task."""
    return BinaryMetrics(task) if task.kind == "binary" else RunningMetrics(task)
