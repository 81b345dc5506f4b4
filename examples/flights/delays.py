"""How late will the flight be? A second question at the same moment, on the same log.

Delays are limited to a bound, as in the features: beyond it, as for a flight of the next day, the value is
chance.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from driftline import HOUR, Label, Member, PerKey, Regression

from . import bounded_delay, flights
from .events import Arrived, Cancelled, Scheduled
from .models import indicators, quantities


def linear() -> Any:
    """Straight lines on the same quantities and indicators as for the chance of being late."""
    from river import compose, linear_model, optim, preprocessing

    scaled = compose.FuncTransformer(quantities) | preprocessing.StandardScaler()
    return (scaled + compose.FuncTransformer(indicators)) | linear_model.LinearRegression(optim.AdaGrad(0.5))


minutes = Regression(
    "minutes",
    ask=Scheduled,
    label=Label(Arrived, on="flight", value=bounded_delay, wait=36 * HOUR, void=[Cancelled]),
    coverage=0.8,
)

flights_and_delays = replace(
    flights,
    tasks=[flights.task, minutes],
    models={flights.task.name: flights.models, minutes.name: PerKey(champion=Member("linear", linear))},
)
