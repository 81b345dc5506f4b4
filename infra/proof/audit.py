"""Runs the audit of a case: each partition in a process of its own, over Kafka and the archive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple, Self

import msgspec

from driftline.infra.errors import InfraError
from driftline.infra.local.bootstrap import bootstrap_of
from driftline.infra.processes.jobs import Report, in_processes
from driftline.infra.proof.stage_audit import audit_stages, refuse_parts
from driftline.infra.serving.serve import open_history
from driftline.infra.settings import Settings
from driftline.streams.archive.epochs import recorded_epochs
from driftline.streams.archive.topic_history import Past
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.owner.deployment import code_of
from driftline.streams.proof.audit import AuditedRange, PartitionAudit, PublishedTopic, audit_partition
from driftline.streams.proof.lineage import find_prediction
from driftline.streams.proof.refold import Refold
from driftline.streams.proof.stage_audit import StageAudit
from driftline.streams.records.difference import Difference
from driftline.streams.records.outputs import KINDS

PROGRESS_REPORTED_EVERY = 2.0
"""Seconds between lines of progress."""

Tell = Callable[[str], None]


class StageCounts(msgspec.Struct, frozen=True):
    """The result of the audit of one stage: records of its topic that were folded, and, of its outputs and
    the records for later stages, those compared and those equal."""

    stage: str
    folded: int
    checked: int
    equal: int

    @classmethod
    def of(cls, stage: str, audits: Sequence[PartitionAudit]) -> Self:
        """Added over its partitions."""
        counts = [(audit.folded, audit.checked, audit.equal) for audit in audits]
        return cls(stage, *map(sum, zip(*counts, strict=True)))

    def __str__(self) -> str:
        """One line for people."""
        equal = "all equal" if self.equal == self.checked else f"{self.equal:,} equal"
        return f"{self.stage}: {self.folded:,} records folded, {self.checked:,} compared, {equal}"


class AuditReport(msgspec.Struct, frozen=True):
    """The result of the audit of a case. `unchecked_reasons` counts by reason; `events` are the log's.
    `stages` are those of a case of several; what they sent to each other is compared too.

    `undeclared` counts the offsets in each partition of the log beyond those that the case declares: no
    worker answers what lies there.
    """

    case: str
    checked: int
    equal: int
    unchecked: int
    unchecked_reasons: Mapping[str, int]
    first_difference: Difference | None
    events: int
    seconds: float
    events_per_second: float
    undeclared: Mapping[int, int]
    stages: Sequence[StageCounts] = ()

    @property
    def exit_code(self) -> int:
        """0 when all that was compared is equal, 1 at a difference and where records lie in partitions that
        the case does not declare, 2 when nothing was compared."""
        if self.first_difference is not None or any(self.undeclared.values()):
            return 1
        return 0 if self.checked else 2

    def as_json(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(self).decode()

    def __str__(self) -> str:
        """Lines for people."""
        compared = f"{self.case}: {self.checked:,} records compared, {self.equal:,} equal"
        folded = f"; {self.events:,} events folded in {self.seconds:.1f} s ({self.events_per_second:,.0f}/s)"
        lines = [compared + (folded if self.events else "")]
        lines += [f"  {stage}" for stage in self.stages]
        lines += [f"{count:,} unchecked: {reason}" for reason, count in self.unchecked_reasons.items()]
        lines += [
            f"partition {number} of the log is not among those that the case declares: {count:,} offsets in "
            "it get no answer (partitions were added: `driftline worker` says what to do)"
            for number, count in self.undeclared.items()
        ]
        if self.first_difference is not None:
            lines += [f"first difference: {self.first_difference}", self.first_difference.causes]
        elif not self.checked:
            lines.append("nothing could be compared")
        return "\n".join(lines)


class _Job(NamedTuple):
    """The audit of one partition, as its process gets it."""

    case_path: str
    partitions: int
    settings: Settings
    partition: int
    kinds: Sequence[str]
    selection: AuditedRange


def audit(
    case_path: str,
    case: UseCase,
    settings: Settings,
    partition: int | None,
    selection: AuditedRange,
    tell: Tell,
) -> AuditReport:
    """Audit a case, or one partition of it; `tell` gets lines of progress. Raises StreamsError if a part of
    the log is in neither Kafka nor the archive, and for an unknown prediction.
    """
    started = time.perf_counter()
    if case.plan.is_chain:
        refuse_parts(case, partition, selection)
    numbers: Sequence[int] = range(case.partitions) if partition is None else (partition,)
    kinds: Sequence[str] = KINDS
    with open_history(case, settings) as history:
        log = case.topics(settings.namespace).log
        if not any(history.end(log, number) for number in range(case.partitions)):
            raise InfraError(f"neither Kafka nor the archive holds anything of {log}")
        undeclared = {
            number: history.end(log, number) - history.begin(log, number)
            for number in history.partitions(log)
            if number >= case.partitions
        }
        if selection.prediction is not None:
            topic = case.topics(settings.namespace).predictions
            prediction = find_prediction(history, topic, numbers, selection.prediction)
            begin = max(selection.begin, prediction.source[0])
            selection = msgspec.structs.replace(selection, begin=begin)
            numbers, kinds = (prediction.partition,), ("predictions", "outcomes")
    # what a child process is given is resolved here, once
    settings = settings.model_copy(update={"bootstrap": bootstrap_of(settings)})
    if case.plan.is_chain:
        found = asyncio.run(_in_stages(case_path, case, settings, tell))
        audits = [one.audit for one in found]
        first = [one.audit for one in found if one.target.stage == 0]
        report = _report(case, audits, first, time.perf_counter() - started, undeclared)
        return msgspec.structs.replace(report, stages=_by_stage(case, found))
    jobs = [_Job(case_path, case.partitions, settings, number, kinds, selection) for number in numbers]
    audits = asyncio.run(_in_processes(jobs, tell))
    return _report(case, audits, audits, time.perf_counter() - started, undeclared)


def _by_stage(case: UseCase, found: Sequence[StageAudit]) -> list[StageCounts]:
    """The counts of each stage."""
    return [
        StageCounts.of(stage.topic, [one.audit for one in found if one.target.stage == number])
        for number, stage in enumerate(case.plan.stages)
    ]


def _report(
    case: UseCase,
    audits: Sequence[PartitionAudit],
    of_the_log: Sequence[PartitionAudit],
    seconds: float,
    undeclared: Mapping[int, int],
) -> AuditReport:
    reasons: dict[str, int] = {}
    for audit in audits:
        for reason, count in audit.unchecked.items():
            reasons[reason] = reasons.get(reason, 0) + count
    events = sum(audit.folded for audit in of_the_log)
    return AuditReport(
        case.name,
        sum(audit.checked for audit in audits),
        sum(audit.equal for audit in audits),
        sum(reasons.values()),
        reasons,
        next((audit.first_difference for audit in audits if audit.first_difference is not None), None),
        events,
        round(seconds, 3),
        round(events / seconds, 1),
        undeclared,
    )


async def _in_processes(jobs: Sequence[_Job], tell: Tell) -> list[PartitionAudit]:
    """The jobs' results in their order; all end when one fails."""
    async with _progress(tell) as folded:
        return await in_processes(_audit_one, jobs, lambda job, count: folded.update({job.partition: count}))


async def _in_stages(case_path: str, case: UseCase, settings: Settings, tell: Tell) -> list[StageAudit]:
    """The audits of all partitions of all stages; all end when one fails."""
    async with _progress(tell) as folded:
        return await audit_stages(
            case_path, case, settings, lambda job, count: folded.update({job.target: count})
        )


@asynccontextmanager
async def _progress(tell: Tell) -> AsyncIterator[dict[Any, int]]:
    """Report how many records the jobs have folded until they end; the caller enters each job's count."""
    folded: dict[Any, int] = {}
    telling = asyncio.create_task(_tell_progress(folded, tell))
    try:
        yield folded
    finally:
        telling.cancel()


async def _tell_progress(folded: Mapping[Any, int], tell: Tell) -> None:
    """Report every few seconds how many records of all partitions are folded."""
    began, reported = time.monotonic(), 0
    while True:
        await asyncio.sleep(PROGRESS_REPORTED_EVERY)
        if (count := sum(folded.values())) > reported:  # none while its processes load the case, or compare
            reported = count
            tell(f"{count:,} events folded and compared, {count / (time.monotonic() - began):,.0f}/s")


def _audit_one(job: _Job, report: Report[int]) -> PartitionAudit:
    case = replace(load_case(job.case_path), partitions=job.partitions)
    topics = case.topics(job.settings.namespace)
    with open_history(case, job.settings) as history:
        # ends of the outputs first: what they hold by then was caused by records that the log holds
        # afterwards
        published = {kind: _published(history, getattr(topics, kind), job.partition) for kind in job.kinds}
        epochs = recorded_epochs(history, topics.models, job.partition)
        end = history.end(topics.log, job.partition)
        if job.selection.end is not None:
            end = min(end, job.selection.end)
        code = code_of(case)
        refold = Refold(case, history, topics, job.partition, code, epochs)
        audit = PartitionAudit(job.partition)
        for audit in audit_partition(
            job.partition,
            code,
            epochs,
            history.records(topics.log, job.partition, 0, end),
            published,
            refold.step,
            job.selection,
        ):
            report(audit.folded)
    return audit


def _published(history: Past, topic: str, partition: int) -> PublishedTopic:
    begin, end = history.begin(topic, partition), history.end(topic, partition)
    return PublishedTopic(topic, begin, history.records(topic, partition, begin, end))
