"""The models of the flights; River is imported when one is built."""

from __future__ import annotations

from math import copysign, log1p
from typing import Any


def quantities(x: dict[str, Any]) -> dict[str, float]:
    """What can be scaled. The backlog is what should have left and has not; a plane's last delay
    counts by its order of magnitude."""
    numbers = {name: value for name, value in x.items() if name != "carrier"}
    numbers["backlog"] = x["scheduled_2h"] - x["departed_2h"]
    delay = numbers.get("plane_delay")
    if delay is not None:
        numbers["plane_delay"] = copysign(log1p(abs(delay)), delay)
    return numbers


def indicators(x: dict[str, Any]) -> dict[str, float]:
    """What is true or absent: the carrier, and whether the flight has left before its time."""
    flags = {f"carrier {x['carrier']}": 1.0}
    if "left_early" in x:
        flags["left"] = 1.0
    return flags


def logistic(rate: float = 0.05) -> Any:
    """Logistic regression on scaled quantities and plain indicators, with AdaGrad steps of size `rate`.

    AdaGrad (Duchi et al. 2011) gives rare indicators, such as small carriers, larger steps.
    """
    from river import compose, linear_model, optim, preprocessing

    scaled = compose.FuncTransformer(quantities) | preprocessing.StandardScaler()
    return (scaled + compose.FuncTransformer(indicators)) | linear_model.LogisticRegression(
        optim.AdaGrad(rate)
    )
