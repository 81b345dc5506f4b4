"""What a pool reports: changes of what serves."""

from __future__ import annotations

from dataclasses import dataclass

from driftline.online_models.promote.promotion import Evidence


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A change of what serves or learns, or one that was due but withheld; the evidence where it rests on
    some."""

    kind: str
    member: str
    stage: str
    reason: str
    evidence: Evidence | None = None


def refused(name: str, reason: str) -> ModelChange:
    """What an operator wanted and cannot have."""
    return ModelChange("refused", name, "command", reason)
