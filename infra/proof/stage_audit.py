"""Runs the audit of a case of several stages: stage by stage from the last, each partition in a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from driftline.infra.errors import InfraError
from driftline.infra.processes.jobs import Report, in_processes
from driftline.infra.serving.deploy import seal_of, stage_places
from driftline.infra.serving.serve import open_history
from driftline.infra.settings import Settings
from driftline.streams.between.stage_record import Writer
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.owner.deployment import code_of
from driftline.streams.proof.audit import AuditedRange
from driftline.streams.proof.sent_records import Received
from driftline.streams.proof.stage_audit import StageAudit, StageAuditor, by_writer, compare_published
from driftline.streams.records.outputs import Target


class StageJob(NamedTuple):
    """The audit of one partition of a stage, as its process gets it."""

    case_path: str
    partitions: int
    settings: Settings
    target: Target
    received: Mapping[Target, Received]

    @property
    def partition(self) -> int:
        """Its number in its stage."""
        return self.target.partition


def refuse_parts(case: UseCase, partition: int | None, selection: AuditedRange) -> None:
    """Raises InfraError where a part of a case of several stages is asked for: an offset of the log is of one
    stage, and what follows from it is in others."""
    if partition is not None or selection != AuditedRange():
        raise InfraError(
            f"{case.name} has {len(case.plan.stages)} stages, which are audited as a whole: leave out "
            "--partition, --from, --to and --prediction"
        )


async def audit_stages(
    case_path: str, case: UseCase, settings: Settings, reported: Callable[[StageJob, int], None]
) -> list[StageAudit]:
    """The audits of all partitions of all stages, those of the log first; `reported` is called with the
    records that a job has folded.

    The last stage comes first: what its topic holds by then was caused by what those before it hold later.
    """
    done: list[StageAudit] = []
    for number, stage in reversed(list(enumerate(case.plan.stages))):
        received = by_writer(done)
        jobs = [
            StageJob(case_path, case.partitions, settings, target, received.get(Writer(*target), {}))
            for target in (Target(number, partition) for partition in range(stage.partitions))
        ]
        done = [*await in_processes(audit_one, jobs, reported), *done]
    with open_history(case, settings) as history:
        compare_published(stage_places(case, settings, history), done)
    return done


def audit_one(job: StageJob, report: Report[int]) -> StageAudit:
    """What the process of one partition does."""
    case = replace(load_case(job.case_path), partitions=job.partitions)
    code = code_of(case)
    # pools for replicas are sealed with the key of the checkpoints, without which none is unpickled
    seal = seal_of(job.settings) if case.plan.is_replicated else None
    with open_history(case, job.settings) as history:
        places = stage_places(case, job.settings, history)
        for audit in StageAuditor(case, places, code, history, job.target, job.received, seal).run():
            report(audit.audit.folded)
    return audit
