"""A combination that may be better than every member: learned mixtures of them stand beside the members."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any

from driftline.online_models.combine.hedge import Hedge

RATES = (0.003, 0.02)
"""Steps of the two learned mixtures, for slow and for fast change."""
MARGIN_OF_CERTAINTY = 0.01
"""Probabilities are kept this far from 0 and 1, so that one member cannot dominate all others."""
ETA = 0.5
"""Exponent of a wrong answer."""


def _log_odds(p: float) -> float:
    p = min(max(p, MARGIN_OF_CERTAINTY), 1.0 - MARGIN_OF_CERTAINTY)
    return log(p / (1.0 - p))


def _log(p: float) -> float:
    return log(max(p, MARGIN_OF_CERTAINTY))


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + exp(-z)) if z >= 0.0 else 1.0 - 1.0 / (1.0 + exp(z))


class BinaryMixture:
    """Logistic regression on the members' log odds, by gradient steps (Wolpert 1992, Stacked generalization;
    Mattern 2012, Mixing strategies in data compression). A member that did not answer has odds of 1."""

    __slots__ = ("_rate", "weights")

    def __init__(self, count: int, rate: float) -> None:
        self.weights = [1.0 / count] * count
        self._rate = rate

    def answer(self, outputs: Sequence[float | None]) -> float:
        """p(True)."""
        pairs = zip(self.weights, outputs, strict=True)
        return _sigmoid(sum([w * _log_odds(p) for w, p in pairs if p is not None]))

    def learn(self, y: bool, outputs: Sequence[float | None]) -> None:
        """A step down the gradient of log loss."""
        step = self._rate * (self.answer(outputs) - y)
        self.weights = [
            w if p is None else w - step * _log_odds(p) for w, p in zip(self.weights, outputs, strict=True)
        ]


class ClassesMixture:
    """The same for several labels: a label's score is the weighted sum of its log probabilities."""

    __slots__ = ("_rate", "weights")

    def __init__(self, count: int, rate: float) -> None:
        self.weights = [1.0 / count] * count
        self._rate = rate

    def answer(self, outputs: Sequence[dict[str, float] | None]) -> dict[str, float]:
        """Probabilities by label; empty when no member has seen one."""
        labels = sorted({label for output in outputs for label in output or ()})
        pairs = [(w, output) for w, output in zip(self.weights, outputs, strict=True) if output is not None]
        scores = {label: sum([w * _log(output.get(label, 0.0)) for w, output in pairs]) for label in labels}
        most = max(scores.values(), default=0.0)
        odds = {label: exp(score - most) for label, score in scores.items()}
        whole = sum(odds.values())
        return {label: odd / whole for label, odd in odds.items()}

    def learn(self, y: str, outputs: Sequence[dict[str, float] | None]) -> None:
        """A step down the gradient of log loss; nothing is learned from a label that no member has seen."""
        said = self.answer(outputs)
        if y not in said:
            return
        weights = []
        for w, output in zip(self.weights, outputs, strict=True):
            if output is not None:
                slope = sum([(p - (label == y)) * _log(output.get(label, 0.0)) for label, p in said.items()])
                w -= self._rate * slope
            weights.append(w)
        self.weights = weights


class NumbersMixture:
    """The members' mean, moved along their differences from it by normalised steps (NLMS; Haykin 2002,
    Adaptive filter theory, chapter 6), so that the unit of the numbers does not matter."""

    __slots__ = ("_rate", "weights")

    def __init__(self, count: int, rate: float) -> None:
        self.weights = [0.0] * count
        self._rate = rate

    def _apart(self, outputs: Sequence[float | None]) -> tuple[float, list[float]]:
        answered = [output for output in outputs if output is not None]
        mean = sum(answered) / len(answered)
        return mean, [0.0 if output is None else output - mean for output in outputs]

    def answer(self, outputs: Sequence[float | None]) -> float:
        """The number; at least one member must have answered."""
        mean, apart = self._apart(outputs)
        return mean + sum([w * d for w, d in zip(self.weights, apart, strict=True)])

    def learn(self, y: float, outputs: Sequence[float | None]) -> None:
        """A normalised step down the gradient of the squared error."""
        mean, apart = self._apart(outputs)
        size = sum([d * d for d in apart])
        if size > 0.0:
            missed = y - mean - sum([w * d for w, d in zip(self.weights, apart, strict=True)])
            step = self._rate * missed / size
            self.weights = [w + step * d for w, d in zip(self.weights, apart, strict=True)]


_MIXTURES = {"binary": BinaryMixture, "multiclass": ClassesMixture, "regression": NumbersMixture}


class Stack:
    """Exponential weights over the members and over two learned mixtures of them, by wrong answers.

    The loss of a member or mixture is a wrong answer (for numbers the squared error): by log loss, a member
    that is right but too sure would lose to one that is wrong but cautious. A mixture is judged by its answer
    with its present weights, which include later labels if labels come late.
    """

    __slots__ = ("_hedge", "_kind", "_mixtures")

    def __init__(self, count: int, share: float, eta: float | None, kind: str) -> None:
        self._kind = kind
        self._mixtures: list[Any] = [_MIXTURES[kind](count, rate) for rate in RATES]
        if eta is None and kind != "regression":
            eta = ETA
        self._hedge = Hedge(count + len(RATES), share, eta)

    @property
    def weights(self) -> list[float]:
        """Of the members, then of the mixtures."""
        return self._hedge.weights

    def _experts(self, outputs: Sequence[Any]) -> list[Any]:
        return [*outputs, *(mixture.answer(outputs) for mixture in self._mixtures)]

    def combined(self, outputs: Sequence[Any]) -> Any:
        """The weighted mean of members and mixtures; None when no member answered."""
        if all(output is None for output in outputs):
            return None
        return self._hedge.combined(self._experts(outputs))

    def learn(self, y: Any, outputs: Sequence[Any]) -> None:
        """Learn from one label and the answers of the members (None: no answer)."""
        if all(output is None for output in outputs):
            return
        experts = self._experts(outputs)
        missed = [None if output is None else self._missed(y, output) for output in experts]
        own = self._missed(y, self._hedge.combined(experts))
        self._hedge.learn(missed, own, self._kind == "regression")
        for mixture in self._mixtures:
            mixture.learn(y, outputs)

    def _missed(self, y: Any, output: Any) -> float:
        if self._kind == "regression":
            return float((y - output) ** 2)
        if self._kind == "binary":
            return float((output >= 0.5) != y)
        return float(not output or max(output, key=output.__getitem__) != y)
