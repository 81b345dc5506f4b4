"""Folds a case beside the code that serves it, each partition in a process of its own."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from driftline import logs
from driftline.infra.processes.jobs import Report, in_processes
from driftline.infra.processes.signals import until_signal
from driftline.infra.serving.plan_verdict import OnlyPlanned, refuse_losses
from driftline.infra.settings import Settings
from driftline.streams.declare.usecase import UseCase, load_case

if TYPE_CHECKING:
    from driftline.streams.owner.deployment import Deployment
    from driftline.streams.owner.upgrade.standby import Standby
    from driftline.streams.owner.upgrade.upgrade_plan import UpgradePlan

log = logging.getLogger("driftline.worker")

PROGRESS_EVERY = 5.0


class _Job(NamedTuple):
    """One partition to fold, as its process gets it."""

    case_path: str
    partitions: int
    settings: Settings
    partition: int
    rows: bool


class Approached(NamedTuple):
    """Every partition that other code serves, folded by this code close behind it, and what taking them
    over would do."""

    standbys: dict[int, Standby]
    plan: UpgradePlan


def approached(
    case_path: str, deployment: Deployment, settings: Settings, *, rows: bool, accept_refused: bool
) -> dict[int, Standby] | None:
    """What is to be taken over, once its plan is logged; None when SIGTERM or SIGINT came first.

    `rows` says whether online rows are kept for the take-over.
    Raises UpgradeStopped where this code refuses records that the other had accepted, unless that is
    accepted.
    """
    approach = asyncio.run(until_signal(_approach(case_path, deployment, settings, rows=rows)))
    if approach is None:
        return None
    if not approach.standbys:
        log.warning("nothing to upgrade: this code has published last; it continues to serve")
    refuse_losses(approach.plan, accept_refused=accept_refused)
    return approach.standbys


def planned(case_path: str, case: UseCase, settings: Settings) -> UpgradePlan:
    """What an upgrade would do, without doing it."""
    from driftline.infra.local.bootstrap import bootstrap_of
    from driftline.infra.serving.deploy import deploy
    from driftline.streams.archive.parts import Archive
    from driftline.streams.transport.kafka_broker import KafkaBroker

    if case.plan.is_chain:
        from driftline.infra.serving.serve import run_worker

        try:
            run_worker(case, settings, upgrade_path=case_path, plan_only=True)
        except OnlyPlanned as planned:
            return planned.plan
        return UpgradePlan()
    logs.begin()
    settings = settings.model_copy(update={"bootstrap": bootstrap_of(settings)})
    broker = KafkaBroker(str(settings.bootstrap), Archive(settings.archive_uri(case.name)))
    return asyncio.run(_approach(case_path, deploy(case, settings, broker), settings, rows=False)).plan


async def _approach(case_path: str, deployment: Deployment, settings: Settings, *, rows: bool) -> Approached:
    from driftline.streams.owner.upgrade.standby import CLOSE_BEHIND, Standby, to_upgrade
    from driftline.streams.owner.upgrade.upgrade_plan import UpgradePlan

    case = deployment.case
    try:
        partitions = await to_upgrade(deployment)
        plan = UpgradePlan()
        if not partitions:
            return Approached({}, plan)
        log.warning(
            "upgrade: the past of partitions %s is folded beside the code that serves them",
            ", ".join(map(str, partitions)),
        )
        jobs = [_Job(case_path, case.partitions, settings, number, rows) for number in partitions]
        standbys = {}
        folded = await in_processes(_fold, jobs, _log_line)
        for number, aside in zip(partitions, folded, strict=True):
            standbys[number] = Standby.restored(deployment, number, aside.snapshot, rows=rows)
            plan.add(aside.plan)
        # what came on while states were handed over; each pass is as long as the other code came on during
        # the one before
        while max([await standby.approach() for standby in standbys.values()]) > CLOSE_BEHIND:
            pass
        return Approached(standbys, plan)
    finally:
        await deployment.broker.close()


class _Aside(NamedTuple):
    """The result of a process that folds one partition: its standby's state, and its part of the plan."""

    snapshot: bytes
    plan: UpgradePlan


def _log_line(_: _Job, line: str) -> None:
    log.warning("upgrade: %s", line)


def _fold(job: _Job, report: Report[str]) -> _Aside:
    """In a process of its own: fold one partition close behind the code that serves it."""
    from driftline.infra.serving.deploy import deploy
    from driftline.streams.archive.parts import Archive
    from driftline.streams.transport.kafka_broker import KafkaBroker

    settings = job.settings
    case: UseCase = replace(load_case(job.case_path), partitions=job.partitions)
    broker = KafkaBroker(str(settings.bootstrap), Archive(settings.archive_uri(case.name)))
    return asyncio.run(_close_behind(deploy(case, settings, broker), job, report))


async def _close_behind(deployment: Deployment, job: _Job, report: Report[str]) -> _Aside:
    from driftline.streams.owner.upgrade.standby import CLOSE_BEHIND, Standby

    standby = Standby(deployment, job.partition, rows=job.rows)
    telling = asyncio.create_task(_tell_of(standby, str(deployment.log(job.partition)), report))
    try:
        while await standby.approach() > CLOSE_BEHIND:
            pass
        return _Aside(standby.snapshot(), await standby.plan())
    finally:
        telling.cancel()
        await deployment.broker.close()


async def _tell_of(standby: Standby, place: str, report: Report[str]) -> None:
    """Report every few seconds how far the fold beside the other code has come, and how fast it is."""
    before = 0
    while True:
        await asyncio.sleep(PROGRESS_EVERY)
        folded = standby.processor.next_offset
        rate = (folded - before) / PROGRESS_EVERY
        before = folded
        report(
            f"{place} folded beside the code that serves up to {folded:,} of {standby.log_end:,} "
            f"({rate:,.0f}/s)"
        )
