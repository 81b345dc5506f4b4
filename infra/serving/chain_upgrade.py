"""Takes a chain over from other code: all stages run beside it, in this process, until the last is close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from driftline.infra.errors import InfraError
from driftline.infra.serving.late_rows import LateRows
from driftline.infra.serving.plan_verdict import OnlyPlanned, UpgradeStopped, refuse_losses
from driftline.infra.topics.administration import remove_topics
from driftline.streams.owner.deployment import Deployment
from driftline.streams.owner.upgrade.chain_standby import newest_epochs
from driftline.streams.owner.upgrade.handover import Handover
from driftline.streams.owner.upgrade.upgrade_plan import UpgradePlan

log = logging.getLogger("driftline.worker")


def upgrade_chain(
    deployment: Deployment,
    bootstrap: str,
    serve: Callable[[Handover | None], None],
    *,
    accept_refused: bool,
    plan_only: bool,
) -> None:
    """Serve a chain, after it is taken over if other code serves it.

    Raises UpgradeStopped where this code would lose some of the past, and OnlyPlanned when nothing but the
    plan was wanted; then the topics of this code are removed again.
    """
    if deployment.itinerary is not None and deployment.itinerary.is_replicated:
        raise UpgradeStopped(
            f"{deployment.case.name} has replicas, which this version does not hand to other code: serve the "
            "new code in another namespace, into which its history is produced"
        )

    async def decide(plan: UpgradePlan) -> bool:
        if plan_only:
            raise OnlyPlanned(plan)
        refuse_losses(plan, accept_refused=accept_refused)
        if isinstance(deployment.rows, LateRows):
            await deployment.rows.open()
        return True

    handover = Handover(deployment, decide)
    if not asyncio.run(_is_others(deployment, handover)):
        log.warning("nothing to upgrade: this code has published last; it continues to serve")
        if plan_only:
            return
        if isinstance(deployment.rows, LateRows):
            deployment.rows.open_now()
        serve(None)
        return
    log.warning("upgrade: the past is folded beside the code that serves")
    try:
        serve(handover)
    except (UpgradeStopped, OnlyPlanned):
        own = {spec.name for spec in deployment.topics.between(deployment.places.label)}
        with suppress(InfraError):  # what could not be removed now is deleted by its retention
            remove_topics(bootstrap, own.__contains__)
        raise


async def _is_others(deployment: Deployment, handover: Handover) -> bool:
    """Whether other code serves the case, in some of its partitions at least."""
    try:
        newest = await newest_epochs(deployment)
    finally:
        await deployment.broker.close()
    return any(epoch is not None for epoch in newest) and not all(map(handover.is_taken, newest))
