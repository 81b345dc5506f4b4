"""A combination of a pool's members that follows whichever is best at the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, isfinite, log
from typing import Any, Literal

from online_models.baselines import check_name
from online_models.errors import ModelsError

FADING = 0.999
"""How much of the mean squared error remains at each label; the rate for squared errors is taken from it."""
FARTHEST = 50.0
"""Exponents below it are cut off: a weight of e**-50 is none."""


@dataclass(frozen=True, slots=True)
class Combination:
    """A seat of the pool that answers with the mean of the members' answers, weighted by their losses so far.

    kind "hedge" is exponential weights with fixed share: each label multiplies a member's weight by
    exp(-eta * loss), then every member gets `share` / N of all weight, so that one which was bad can come
    back at once (Herbster and Warmuth 1998, Tracking the best expert).

    Regret: with log loss and eta = 1, over T labels, the loss of the combination exceeds that of the best
    sequence of N members with k changes, chosen in hindsight, by at most
    ln N + k ln(N / share) + (T - k - 1) ln(1 / (1 - share)), whatever the data. Where labels come after
    later requests were answered, weights are as old as the labels, and the bound grows with the number of
    requests that wait (Joulani, Gyorgy and Szepesvari 2013, Online learning under delayed feedback).
    kind "stack" may be better than every member: learned mixtures of the members stand beside them as further
    experts (see `online_models.stacking`), all weighed as above, but by wrong answers, 0 or 1, which are what
    accuracy counts; `eta` is then 0.5 by default. Answering with one expert drawn by weight would err, on
    average, at most (eta L + ln N) / (1 - exp(-eta)) times where the best errs L times and share is 0
    (Freund and Schapire 1997, A decision-theoretic generalization of on-line learning); the mean of their
    answers has no such bound for accuracy, but is measured to be better.

    Squared errors have no such rate: `eta` is by default half the inverse of the combination's own mean
    squared error of late, as if errors were normal, for which no bound is claimed.

    Raises ModelsError for a number out of range.
    """

    name: str
    kind: Literal["hedge", "stack"] = field(default="hedge", kw_only=True)
    share: float = field(default=0.005, kw_only=True)
    eta: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in ("hedge", "stack"):
            raise ModelsError(
                f"combination {self.name!r}: kind must be 'hedge' or 'stack', not {self.kind!r}"
            )
        if not 0 <= self.share < 1:
            raise ModelsError(f"combination {self.name!r}: share must be in [0, 1), not {self.share!r}")
        if self.eta is not None and not (isfinite(self.eta) and self.eta > 0):
            raise ModelsError(f"combination {self.name!r}: eta must be a finite number > 0, not {self.eta!r}")


class Hedge:
    """The weights of one combination of `count` members.

    A member that did not answer has no part in the answer, and its weight is as if it had lost what the
    combination did (Freund, Schapire, Singer and Warmuth 1997, Using and combining predictors that
    specialize).
    """

    __slots__ = ("_error", "_eta", "_share", "weights")

    def __init__(self, count: int, share: float, eta: float | None) -> None:
        self.weights = [1.0 / count] * count
        self._share = share
        self._eta = eta
        self._error = 0.0

    def reborn(self) -> Hedge:
        """A new one, of equal weights."""
        return Hedge(len(self.weights), self._share, self._eta)

    def combined(self, outputs: Sequence[Any]) -> Any:
        """The weighted mean of the outputs (numbers, or probabilities by label); None of none."""
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
            return {label: p / whole for label, p in mixed.items()}
        return sum([weight * output for weight, output in answered]) / whole

    def learn(self, losses: Sequence[float | None], own: float, squared: bool) -> None:
        """Take in what each member lost on one label (None: it had not answered), and the combination."""
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
    """By how many nats a combination's log loss may exceed that of the best sequence of members.

    >>> round(regret_bound(members=4, changes=2, labels=1_000, share=0.005), 1)
    19.8
    """
    switched = changes * log(members / share) if changes else 0.0
    return log(members) + switched - (labels - changes - 1) * log(1.0 - share)
