"""The plan of an upgrade, reported before it is done: which past records the new code refuses, and how many
predictions it would have answered differently."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from driftline.streams.errors import REPORT_ONLY, UPGRADE, Refused

REASONS = 12
"""Kinds of reason that are counted separately; rarer ones are counted together."""
OTHER_REASONS = "other reasons"
_VARYING = re.compile(r"[-+]?\d[\w:.+-]*|'[^']*'|\"[^\"]*\"")


_COUNTS = (
    "records",
    "refused_before",
    "kept_refused",
    "unknown",
    "answers",
    "other_answers",
    "other_points",
)


class RefusalReason(msgspec.Struct):
    """Why records are refused: how many, and the first of them, by its offset in the log."""

    stage: str
    reason: str
    records: int
    partition: int
    first: int

    def __str__(self) -> str:
        """One line for people."""
        first = f"first: partition {self.partition}, offset {self.first}"
        return f"{self.records:,} {self.stage}: {self.reason} ({first})"


class UpgradePlan(msgspec.Struct):
    """Counts of the records of a log that the new code has folded.

    `refused` are those that the old code had accepted, grouped by similar reasons; `refused_before` those
    that both refuse; `kept_refused` requests that the old code had not answered, which stay refused; for
    `unknown` ones it is no longer known what the old code did with them. `answers` are
    published predictions to which the new code has an answer of its own, `other_answers` those where that
    differs, `other_points` those where the prediction itself differs.
    """

    records: int = 0
    refused: dict[str, RefusalReason] = msgspec.field(default_factory=dict)
    refused_before: int = 0
    kept_refused: int = 0
    unknown: int = 0
    answers: int = 0
    other_answers: int = 0
    other_points: int = 0

    @property
    def newly_refused(self) -> int:
        """Records that the old code had accepted."""
        return sum(reason.records for reason in self.refused.values())

    def refuse(self, partition: int, offset: int, refused: Refused, times: int = 1) -> None:
        """Count records that only the new code refuses."""
        kind = f"{refused.stage}: {_VARYING.sub('…', refused.reason)}"
        if kind not in self.refused and len(self.refused) >= REASONS:
            kind, refused = OTHER_REASONS, Refused("", OTHER_REASONS)
        known = self.refused.get(kind)
        if known is None:
            self.refused[kind] = RefusalReason(refused.stage, refused.reason, times, partition, offset)
        else:
            known.records += times

    def add(self, other: UpgradePlan) -> None:
        """Add the result of another partition."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason in other.refused.values():
            self.refuse(reason.partition, reason.first, Refused(reason.stage, reason.reason), reason.records)

    def __str__(self) -> str:
        """Lines for people."""
        unknown = f"; of {self.unknown:,} it is not known any more" if self.unknown else ""
        other_points = f", {self.other_points:,} of them another answer" if self.other_points else ""
        reasons = sorted(self.refused.values(), key=lambda reason: -reason.records)
        lines = [
            f"of {self.records:,} records of the past, the new code refuses {self.newly_refused:,} that the "
            f"code which serves accepted ({self.refused_before:,} are refused by both{unknown})",
            *(f"  {reason}" for reason in reasons),
        ]
        if self.kept_refused:
            lines.append(
                f"{self.kept_refused:,} requests of the past that the code which serves did not answer would "
                "be answered now: they stay refused (`driftline dead-letters retry` sends them again)"
            )
        if self.answers:
            lines.append(
                f"of {self.answers:,} published predictions, {self.other_answers:,} would be "
                f"others{other_points}; what is published stays"
            )
        return "\n".join(lines)


class Planner:
    """Observes a partition's fold by new code, and counts in a plan. `before` are the offsets of the records
    that the old code had refused; below `known_from` some of them are no longer known.
    """

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self.plan = UpgradePlan()
        self.before: set[int] = set()
        self.known_from = 0

    def refused(self, offset: int, refused: Refused, *, published: bool) -> None:
        """The new code refuses a record; in a warm-up nothing is `published`."""
        if refused.stage in REPORT_ONLY:
            return
        if refused.stage == UPGRADE:
            self.plan.kept_refused += 1
        elif offset in self.before:
            self.plan.refused_before += 1
        # a warm-up's records were checked before they were sent: this one could be decoded then
        elif offset < self.known_from or (not published and refused.stage != "decode"):
            self.plan.unknown += 1
        else:
            self.plan.refuse(self._partition, offset, refused)

    def answered(self, own: Any, published: Any, *, same_point: bool) -> None:
        """The new code has an answer of its own to a request whose published answer stands."""
        self.plan.answers += 1
        self.plan.other_answers += own != published
        self.plan.other_points += not same_point
