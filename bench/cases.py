"""The measured cases."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from driftline.examples.flights.models import logistic
from driftline.online_models.members.member import Member
from driftline.online_models.promote.promotion import Promotion
from driftline.streams.declare.usecase import UseCase, load_case

FLIGHTS = "driftline.examples.flights:flights"
PAYMENTS = "driftline.examples.payments:payments"
CHALLENGERS = tuple(Member(f"logistic {rate}", partial(logistic, rate)) for rate in (0.02, 0.1, 0.2))
"""Linear challengers: the champion with other step sizes."""


def without_extras(case: UseCase, **extras: Any) -> UseCase:
    """The case with its champion alone, and with the given fields of its pools."""
    off: dict[str, Any] = {
        "challengers": (), "baselines": False, "metrics": False, "monitoring": None, "promotion": None,
        "budget": None,
    }  # fmt: skip
    return replace(case, models=replace(case.models, **(off | extras)))


def by_default(case: UseCase) -> UseCase:
    """The champion with the defaults of a pool: baselines, metrics, monitoring."""
    return without_extras(case, baselines=True, metrics=True, monitoring=case.models.monitoring)


def challenged(case: UseCase) -> UseCase:
    """The champion with three linear challengers, without promotion and monitoring."""
    return without_extras(case, challengers=CHALLENGERS)


def adapting(case: UseCase) -> UseCase:
    """The champion with three linear challengers, monitoring, promotion, and the baselines that it needs."""
    return without_extras(
        case,
        challengers=CHALLENGERS,
        baselines=True,
        monitoring=case.models.monitoring,
        promotion=Promotion(),
    )


_OF_FLIGHTS = {"champion_alone": without_extras, "everything": by_default}
_OF_PAYMENTS = {"payments_on_1": 1, "payments_on_4": 4}
"""The number of partitions of each case whose champion is measured alone, by the name of that case."""


def __getattr__(name: str) -> UseCase:
    if name in _OF_FLIGHTS:
        return _OF_FLIGHTS[name](load_case(FLIGHTS))
    if name in _OF_PAYMENTS:
        return replace(without_extras(load_case(PAYMENTS)), partitions=_OF_PAYMENTS[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
