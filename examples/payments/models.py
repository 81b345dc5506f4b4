"""The models of the payments; River is imported when one is built."""

from __future__ import annotations

from math import log1p
from typing import Any


def orders_of_magnitude(x: dict[str, Any]) -> dict[str, float]:
    """Amounts and counts by their logarithm, and the amount by what the card and the merchant are used to."""
    logs = {name: log1p(value) for name, value in x.items() if name != "hour"}
    for usual in ("card_amount_7d", "merchant_amount_1d"):
        if usual in logs:
            logs[f"amount by {usual}"] = logs["amount"] - logs[usual]
    return logs


def logistic() -> Any:
    """Logistic regression on scaled quantities."""
    from river import compose, linear_model, preprocessing

    return (
        compose.FuncTransformer(orders_of_magnitude)
        | preprocessing.StandardScaler()
        | linear_model.LogisticRegression()
    )


def trees() -> Any:
    """A Hoeffding tree that replaces the branches which have become worse."""
    from river import tree

    return tree.HoeffdingAdaptiveTreeClassifier(grace_period=100, seed=7)
