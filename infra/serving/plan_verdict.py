"""What becomes of an upgrade, by its plan."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from driftline.infra.errors import InfraError

if TYPE_CHECKING:
    from driftline.streams.owner.upgrade.upgrade_plan import UpgradePlan

log = logging.getLogger("driftline.worker")


class UpgradeStopped(InfraError):
    """The new code would lose some of the past; the old code still serves."""


class OnlyPlanned(InfraError):
    """The plan was asked for, and nothing else; the old code still serves."""

    def __init__(self, plan: UpgradePlan) -> None:
        super().__init__("the upgrade was only planned")
        self.plan = plan


def refuse_losses(plan: UpgradePlan, *, accept_refused: bool) -> None:
    """Log the plan. Raises UpgradeStopped where this code refuses records that the other had accepted, unless
    that is accepted."""
    if plan.records:
        log.warning("upgrade: %s", plan)
    if plan.newly_refused and not accept_refused:
        raise UpgradeStopped(
            "the upgrade stopped, and the old code still serves: the new code refuses "
            f"{plan.newly_refused:,} records of the past, and would not learn from them. Declare "
            'removed fields, such as class Asked(Event, tag="asked", retired=("colour",)), or continue '
            "without these records by --accept-refused"
        )
