"""The models of the flights; River is imported when one is built."""

from __future__ import annotations

from collections.abc import Callable
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


def apart(scaled: dict[str, float]) -> dict[str, float]:
    """Scaled quantities, and once more for flights that have left: what matters to those is another thing."""
    if "left_early" not in scaled:
        return scaled
    return scaled | {f"{name}, left": value for name, value in scaled.items()}


def steps(x: dict[str, Any]) -> dict[str, float]:
    """Indicators, and one for the step of each quantity that matters in no straight line: the hour, how early
    it left, how late the plane was, how many left late in the last hour, how far one sees."""
    flags = indicators(x)
    flags[f"hour {int(x['hour'])}"] = 1.0
    if "left_early" in x:
        flags[f"carrier {x['carrier']}, left"] = 1.0
    for name, least, most, width in STEPS:
        value = x.get(name)
        if value is not None:
            flags[f"{name} {int(min(max(value, least), most) // width)}"] = 1.0
    return flags


STEPS = (
    ("left_early", -15.0, 60.0, 3.0),
    ("plane_delay", -40.0, 120.0, 10.0),
    ("late_1h", 0.0, 1.0, 0.1),
    ("visibility", 0.0, 10.0, 2.0),
)
"""Quantity, smallest and largest value that is distinguished, width of a step."""


def _linear(scaled: Any, flags: Callable[..., Any], rate: float) -> Any:
    """Logistic regression on scaled quantities and on indicators, with AdaGrad steps of size `rate`.

    AdaGrad (Duchi et al. 2011) gives rare indicators, such as small carriers, larger steps.
    """
    from river import compose, linear_model, optim

    return (scaled + compose.FuncTransformer(flags)) | linear_model.LogisticRegression(optim.AdaGrad(rate))


def _scaled() -> Any:
    from river import compose, preprocessing

    return compose.FuncTransformer(quantities) | preprocessing.StandardScaler()


def logistic(rate: float = 0.05) -> Any:
    """Straight lines."""
    return _linear(_scaled(), indicators, rate)


def stepped() -> Any:
    """Straight lines, other ones for flights that have left, and steps."""
    from river import compose

    return _linear(_scaled() | compose.FuncTransformer(apart), steps, 0.05)


def trees() -> Any:
    """A Hoeffding tree that replaces branches which err more than they did (Bifet and Gavalda 2009)."""
    from river import tree

    return tree.HoeffdingAdaptiveTreeClassifier(grace_period=200, seed=1)
