"""The baseline that needs no features."""

from __future__ import annotations

from typing import Any

from driftline.online_models.errors import ModelDeclarationError


def check_name(name: str) -> None:
    """Raise ModelDeclarationError if a member cannot have this name."""
    if name in ("prior", "frozen") or not name:
        raise ModelDeclarationError(f"a member cannot be named {name!r}: prior and frozen are the baselines")


class RunningPrior:
    """Answers with the shares of the labels so far, counting from one each (Laplace); for numbers, with their
    mean."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.counts: dict[Any, int] = {True: 1, False: 1} if kind == "binary" else {}
        self.total = 0.0
        self.n = 0

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        """Count one label."""
        self.n += 1
        if self.kind == "regression":
            self.total += y
        else:
            self.counts[y] = self.counts.get(y, 0) + 1

    def predict_proba_one(self, x: dict[str, Any]) -> dict[Any, float]:
        """The label shares."""
        if self.kind == "binary":  # both labels always exist; called for every request, so without a loop
            true, false = self.counts[True], self.counts[False]
            return {True: true / (true + false), False: false / (true + false)}
        everything = sum(self.counts.values())
        return {label: count / everything for label, count in self.counts.items()}

    def shares(self) -> list[float]:
        """The label shares, without the labels."""
        return list(self.predict_proba_one({}).values())

    def score_one(self, x: dict[str, Any]) -> float:
        """The share of anomalies among the labels; 0.5 without any."""
        return self.predict_proba_one(x)[True]

    def predict_one(self, x: dict[str, Any]) -> float:
        """The mean; 0 before the first label."""
        return self.total / self.n if self.n else 0.0
