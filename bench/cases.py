"""The cases that are measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from streams.usecase import UseCase, load_case

FLIGHTS = "examples.flights:flights"


def without_extras(case: UseCase, **flags: Any) -> UseCase:
    """The case with its champion alone, or with those of baselines, metrics, monitoring that are named."""
    off: dict[str, Any] = {"challengers": (), "baselines": False, "metrics": False, "monitoring": None}
    return replace(case, models=replace(case.models, **(off | flags)))


def __getattr__(name: str) -> UseCase:
    if name == "champion_alone":
        return without_extras(load_case(FLIGHTS))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
