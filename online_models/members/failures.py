"""Failures of a member: how many are tolerated, quarantine and probation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from driftline.declaration_check import AT_LEAST_1, check
from driftline.online_models.errors import ModelDeclarationError

MOST_DOUBLINGS = 6
"""A pause is doubled so many times, and no more."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How often a member may fail before it is put in quarantine, and how it returns.

    A member fails when it raises, or when its answer is not a finite number. The next member in line then
    answers that request; the failed one still learns from its label. Counts are requests of the pool.

    Parameters
    ----------
    failures, within
        `failures` failures within `within` requests put the member in quarantine.
    pause
        The length of the first quarantine, in which the member neither answers nor learns. Each further one
        is twice as long, up to 64 times.
    probation
        The examples that the member, starting anew, must learn from after a quarantine before it may serve.

    Raises ModelDeclarationError for a number out of range.

    >>> Tolerance(failures=3, within=100).pause
    1000
    >>> Tolerance(failures=0)
    Traceback (most recent call last):
        ...
    driftline.online_models.errors.ModelDeclarationError: Tolerance: failures: it must be at least 1, not 0
    """

    failures: Annotated[int, AT_LEAST_1] = 10
    within: Annotated[int, AT_LEAST_1] = 200
    pause: Annotated[int, AT_LEAST_1] = 1_000
    probation: Annotated[int, AT_LEAST_1] = 500

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError)
        if self.failures > self.within:
            raise ModelDeclarationError(
                f"Tolerance(failures={self.failures}, within={self.within}): a member is asked once a "
                "request, so it cannot fail more often than that"
            )


class Failures(msgspec.Struct):
    """Those of one member so far; requests are numbers of its pool's, counted from 1.

    `recent` are the requests of the run of failures that lasts, `total` counts all. `returns` is the request
    at which a quarantine ends, -1 outside of one; `trial` is from how many examples it has still to learn on
    probation.
    """

    recent: list[int] = []
    total: int = 0
    quarantines: int = 0
    returns: int = -1
    trial: int = 0
    reason: str = ""

    def add(self, request: int, reason: str, rules: Tolerance) -> bool:
        """Count a failure; returns whether there are too many."""
        self.total += 1
        self.reason = reason
        self.recent = [*self.recent, request][-rules.failures :]
        return len(self.recent) == rules.failures and request - self.recent[0] < rules.within

    def confine(self, request: int, rules: Tolerance) -> int:
        """A quarantine begins; returns how many requests it lasts."""
        pause = rules.pause << min(self.quarantines, MOST_DOUBLINGS)
        self.quarantines += 1
        self.recent = []
        self.trial = 0
        self.returns = request + pause
        return pause

    def release(self, trial: int) -> None:
        """The quarantine is over; on probation for so many examples (0: on none)."""
        self.returns = -1
        self.trial = trial

    @property
    def is_confined(self) -> bool:
        """Whether it is in quarantine."""
        return self.returns >= 0

    def is_over(self, request: int, rules: Tolerance) -> bool:
        """Whether the run of failures has ended: there was none for as long as they are counted."""
        return bool(self.recent) and request - self.recent[-1] >= rules.within
