"""Exponential weights: the weight of each of several experts follows from its losses so far."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any

FADING = 0.999
"""Share of the mean squared error that remains at each label; the rate for squared errors follows from it."""
FARTHEST = 50.0
"""Largest exponent: a weight of e**-50 counts as 0."""


class Hedge:
    """The weights of one combination of `count` members.

    A member that did not answer has no part in the answer, and its weight changes as if its loss were the
    combination's (Freund, Schapire, Singer and Warmuth 1997, Using and combining predictors that specialize).
    """

    __slots__ = ("_error", "_eta", "_share", "weights")

    def __init__(self, count: int, share: float, eta: float | None) -> None:
        self.weights = [1.0 / count] * count
        self._share = share
        self._eta = eta
        self._error = 0.0

    def combined(self, outputs: Sequence[Any]) -> Any:
        """The weighted mean of the outputs (numbers, or probabilities by label); None without any."""
        answered = [
            (weight, output)
            for weight, output in zip(self.weights, outputs, strict=True)
            if output is not None
        ]
        whole = sum([weight for weight, _ in answered])
        if not answered:
            return None
        if isinstance(answered[0][1], dict):
            mixed: dict[str, float] = {}
            for weight, output in answered:
                for label, p in output.items():
                    mixed[label] = mixed.get(label, 0.0) + weight * p
            return {label: mixed[label] / whole for label in sorted(mixed)}
        return sum([weight * output for weight, output in answered]) / whole

    def learn(self, losses: Sequence[float | None], own: float, squared: bool) -> None:
        """Learn from the loss of each member on one label (None: it had not answered), and that of the
        combination."""
        answered = [index for index, loss in enumerate(losses) if loss is not None]
        rate = self._rate(own, squared)
        if not answered:
            return
        weights = self.weights
        before = sum([weights[index] for index in answered])
        least = min(loss for loss in losses if loss is not None)
        for index in answered:
            exponent = rate * ((losses[index] or 0.0) - least)
            weights[index] *= exp(-exponent) if exponent < FARTHEST else exp(-FARTHEST)
        after = sum([weights[index] for index in answered])
        for index in answered:
            weights[index] *= before / after
        self._share_out()

    def _rate(self, own: float, squared: bool) -> float:
        if self._eta is not None:
            return self._eta
        if not squared:
            return 1.0
        self._error = FADING * self._error + (1.0 - FADING) * own if self._error else own
        return 0.5 / self._error if self._error > 0.0 else 0.0

    def _share_out(self) -> None:
        kept, given = 1.0 - self._share, self._share / len(self.weights)
        weights = [kept * weight + given for weight in self.weights]
        whole = sum(weights)  # 1 but for rounding
        self.weights = [weight / whole for weight in weights]


def regret_bound(members: int, changes: int, labels: int, share: float) -> float:
    """The nats by which a combination's log loss may exceed that of the best sequence of members.

    >>> round(regret_bound(members=4, changes=2, labels=1_000, share=0.005), 1)
    19.8
    """
    switched = changes * log(members / share) if changes else 0.0
    return log(members) + switched - (labels - changes - 1) * log(1.0 - share)
