"""The faults by name, each a run's whole course: what is done to the system, and what it must come to.

A fault returns what the run is to be judged by. Instants are drawn from the run's seed as shares of
the predictions, so that a run can be repeated; how far other processes have come by then is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from tests.faults.lab.run import Run


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the last status of the worker that had all partitions at its end, or the
    partitions that had to be refused. `trimmed`: the log has lost its beginning on purpose."""

    status: dict[str, Any] | None = None
    refused: Collection[int] = ()
    trimmed: bool = False


Fault = Callable[[Run], Outcome]


FAULTS: dict[str, Fault] = {}


CASES: dict[str, str] = {}
"""Where a fault is not of the flights: the path of its case."""


def fault(course: Fault) -> Fault:
    """Register a fault under its function's name."""
    FAULTS[course.__name__.replace("_", "-")] = course
    return course


def fault_of(case_path: str) -> Callable[[Fault], Fault]:
    """Register a fault under its function's name, of another case than the flights."""

    def register(course: Fault) -> Fault:
        CASES[course.__name__.replace("_", "-")] = case_path
        return fault(course)

    return register
