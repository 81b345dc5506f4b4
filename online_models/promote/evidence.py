"""Evidence that one model has a lower loss than another. It may be checked after every label.

The test is an e-process: a non-negative process that starts at 1 and does not grow in expectation under the
hypothesis. By Ville's inequality, the probability that it ever exceeds 1 / alpha is at most alpha. So
checking it after every label, and stopping at any time, does not inflate the error rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, log1p, pi

LAMBDAS = tuple(0.9 * 0.5**k for k in range(10))
"""The stakes that are mixed, as shares of the largest admissible one. Each is best for one size of gain."""
_PSI = tuple(-log1p(-stake) - stake for stake in LAMBDAS)
_STAKES = tuple(zip(LAMBDAS, _PSI, strict=True))
_MIXED = log(len(LAMBDAS))
CENTRE = 0.1
"""A predicted difference is limited to this share of the bound, which limits the deviations from it."""
HALVINGS = 50
"""The number of bisection steps for an interval. Its precision is 2**-50 of the bound."""


def _log_wealth(total: float, spread: float) -> float:
    """Log of the mean of exp(stake * total - psi(stake) * spread) over the stakes."""
    exponents = [stake * total - psi * spread for stake, psi in _STAKES]
    most = max(exponents)
    return most + log(sum([exp(exponent - most) for exponent in exponents])) - _MIXED


class PairedTest:
    """Tests whether the mean difference of two losses exceeds a margin. Differences are in [-bound, bound].

    Hypothesis: given the past, each difference is expected to be at most its margin. With d for a
    difference, m for its margin, c for a prediction of d made before it, and psi(s) = -log(1 - s) - s,
    each exp(s * sum(d - m) - psi(s) * sum((d - c)**2)), in units in which d - c is at least -1, is a
    supermartingale for every 0 <= s < 1 (Howard, Ramdas, McAuliffe and Sekhon 2021, Time-uniform,
    nonparametric, nonasymptotic confidence sequences; for losses of forecasters: Choe and Ramdas 2024,
    Comparing sequential forecasters). The evidence is their mean over a fixed grid of s, which is also a
    supermartingale. Inverting the test gives a confidence sequence of the mean difference.

    Losses without a bound, such as log loss, must be clipped first: the clipped loss is tested. "The past" is
    what was known when the previous label came. If the order of labels depends on their values (late flights
    arrive late), differences are judged in the order in which they became known.
    """

    __slots__ = ("_centre", "_margins", "_scale", "_spread", "_total", "alpha", "bound", "n")

    def __init__(self, bound: float, alpha: float) -> None:
        self.bound = bound
        self.alpha = alpha
        self.n = 0
        self._centre = CENTRE * bound
        self._scale = bound + self._centre
        self._total = 0.0
        self._margins = 0.0
        self._spread = 0.0

    def update(self, difference: float, margin: float = 0.0) -> None:
        """Add one difference. `margin` must not depend on it."""
        self.extend((difference,), margin)

    def extend(self, differences: Sequence[float], margin: float = 0.0) -> None:
        """Add differences in order. All have the same `margin`, which must not depend on them."""
        total, spread, n, limit = self._total, self._spread, self.n, self._centre
        for difference in differences:
            n += 1
            centre = total / n
            if not -limit <= centre <= limit:
                centre = limit if centre > 0.0 else -limit
            deviation = difference - centre
            spread += deviation * deviation
            total += difference
        self._margins += margin * (n - self.n)
        self._total, self._spread, self.n = total, spread, n

    @property
    def gain(self) -> float:
        """The mean difference; 0 before the first."""
        return self._total / self.n if self.n else 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation of the differences around their predictions; 0 before the first."""
        return float((self._spread / self.n) ** 0.5) if self.n else 0.0

    @property
    def evidence(self) -> float:
        """The natural logarithm of the e-value against the hypothesis."""
        scale = self._scale
        return _log_wealth((self._total - self._margins) / scale, self._spread / scale**2)

    @property
    def is_proven(self) -> bool:
        """Whether the evidence is at least log(1 / alpha) now."""
        beyond = self._total - self._margins
        # psi(s) >= s**2 / 2, so no stake can have won more than this: a cheap check that mostly suffices
        if beyond <= 0.0 or beyond * beyond < -2.0 * log(self.alpha) * self._spread:
            return False
        return self.evidence >= -log(self.alpha)

    def interval(self, alpha: float) -> tuple[float, float]:
        """A confidence interval of the mean expected difference, valid for all numbers of labels at once,
        with error probability `alpha`."""
        return self._least(self._total, alpha), -self._least(-self._total, alpha)

    def _least(self, total: float, alpha: float) -> float:
        """The smallest mean that the one-sided test at alpha / 2 does not reject."""
        n, scale = self.n, self._scale
        spread = self._spread / scale**2
        enough = log(2.0 / alpha)
        refuted, kept = -self.bound, total / n if n else -self.bound
        if _log_wealth((total - n * refuted) / scale, spread) < enough:
            return refuted
        for _ in range(HALVINGS):
            middle = (refuted + kept) / 2.0
            if _log_wealth((total - n * middle) / scale, spread) < enough:
                kept = middle
            else:
                refuted = middle
        return refuted


class AlphaSpending:
    """An error budget for any number of tests: the k-th one gets alpha * 6 / (pi * k)**2.

    The sum over all k is alpha. So the probability that any test ever errs is at most alpha, however often
    tests start again.

    >>> budget = AlphaSpending(0.05)
    >>> [round(budget.next(), 5) for _ in range(3)]
    [0.0304, 0.0076, 0.00338]
    >>> round(budget.spent, 5)
    0.04137
    """

    __slots__ = ("alpha", "spent", "tests")

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.spent = 0.0
        self.tests = 0

    def next(self) -> float:
        """The error probability of one more test."""
        self.tests += 1
        share = self.alpha * 6.0 / (pi * self.tests) ** 2
        self.spent += share
        return share


def e_value(evidence: float) -> float:
    """The e-value of a logarithm, at most the largest float."""
    return exp(evidence) if evidence < 709.0 else 1.7e308
