"""A combination of a pool's members that follows whichever is best at the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, Literal

from driftline.declaration_check import check
from driftline.online_models.combine.hedge import Hedge
from driftline.online_models.combine.stacking import Stack
from driftline.online_models.errors import ModelDeclarationError
from driftline.online_models.tasks.baselines import check_name


@dataclass(frozen=True, slots=True)
class Combination:
    """A seat of the pool that answers with the mean of the members' answers, weighted by their losses so far.

    Parameters
    ----------
    name
        The combination's name, which predictions have.
    kind
        "hedge": a weighted mean of the members. "stack": learned mixtures of the members are further experts
        (see `driftline.online_models.combine.stacking`), which may be better than every member.
    share
        The share of all weight that is spread evenly at each label, so that a member that was bad can
        recover.
    eta
        The learning rate of the weights. None: 1 for log loss, 0.5 for "stack", and for numbers half the
        inverse of the combination's own recent mean squared error.

    "hedge" is exponential weights with fixed share: each label multiplies a member's weight by exp(-eta *
    loss), then every member gets `share` / N of all weight (Herbster and Warmuth 1998, Tracking the best
    expert).

    Regret: with log loss and eta = 1, over T labels, the loss of the combination exceeds that of the best
    sequence of N members with k changes, chosen in hindsight, by at most
    ln N + k ln(N / share) + (T - k - 1) ln(1 / (1 - share)), whatever the data. Where labels come after
    later requests were answered, weights are as old as the labels, and the bound grows with the number of
    requests that wait (Joulani, Gyorgy and Szepesvari 2013, Online learning under delayed feedback).

    "stack" weighs its experts in the same way, but by wrong answers, 0 or 1, which accuracy counts. Answering
    with one expert drawn by weight would err, on average, at most (eta L + ln N) / (1 - exp(-eta)) times if
    the best one errs L times and share is 0 (Freund and Schapire 1997, A decision-theoretic generalization of
    on-line learning). The mean of their answers has no such bound for accuracy, but is measured to be better.
    For squared errors no bound is claimed: the default `eta` treats them as normal.

    Raises ModelDeclarationError for a number out of range.

    >>> from driftline import Member, PerKey
    >>> pool = PerKey(champion=Combination("hedged"), challengers=[Member("a", object), Member("b", object)])
    >>> pool.champion.name
    'hedged'
    """

    name: str
    kind: Literal["hedge", "stack"] = field(default="hedge", kw_only=True)
    share: float = field(default=0.005, kw_only=True)
    eta: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError, self.name)
        check_name(self.name)
        if not 0 <= self.share < 1:
            raise ModelDeclarationError(
                f"combination {self.name!r}: share must be in [0, 1), not {self.share!r}"
            )
        if self.eta is not None and not (isfinite(self.eta) and self.eta > 0):
            raise ModelDeclarationError(
                f"combination {self.name!r}: eta must be a finite number > 0, not {self.eta!r}"
            )


LEAST_LABELS = 30
"""Labels after which the range of the numbers counts as known."""


class Combiner:
    """A combination at work, of `count` members.

    If a member's number is outside the range of all labels so far, by more than its width, it is cut to that
    bound: a member that diverges must not move the mean, however small its weight.
    """

    __slots__ = ("_count", "_declared", "_high", "_labels", "_low", "_task", "_weights")

    def __init__(self, declared: Combination, count: int, task: str) -> None:
        """`task` is its kind: "binary", "multiclass" or "regression"."""
        self._declared = declared
        self._count = count
        self._task = task
        self._labels = 0
        self._low, self._high = inf, -inf
        self._weights: Hedge | Stack = (
            Stack(count, declared.share, declared.eta, task)
            if declared.kind == "stack"
            else Hedge(count, declared.share, declared.eta)
        )

    @property
    def weights(self) -> list[float]:
        """The weights of the members in their order, then of the learned mixtures if there are any; their sum
        is 1."""
        return self._weights.weights

    def reborn(self) -> Combiner:
        """A new combination, in its initial state."""
        return Combiner(self._declared, self._count, self._task)

    def combined(self, outputs: Sequence[Any]) -> Any:
        """The answer from the members' answers (None: no answer); None when no member answered."""
        return self._weights.combined(self._confined(outputs))

    def learn(self, y: Any, outputs: Sequence[Any], losses: Sequence[float | None], own: float) -> None:
        """Learn from a label: the answer and loss of each member, and the combination's loss."""
        is_number = self._task == "regression"
        if is_number:
            outputs = self._confined(outputs)
        if isinstance(self._weights, Stack):
            self._weights.learn(y, outputs)
        else:
            if is_number:
                losses = [None if output is None else (y - output) ** 2 for output in outputs]
            self._weights.learn(losses, own, is_number)
        if is_number:
            self._labels += 1
            self._low, self._high = min(self._low, y), max(self._high, y)

    def _confined(self, outputs: Sequence[Any]) -> Sequence[Any]:
        if self._labels < LEAST_LABELS or self._low == self._high:
            return outputs
        width = self._high - self._low
        low, high = self._low - width, self._high + width
        return [None if output is None else min(max(output, low), high) for output in outputs]
