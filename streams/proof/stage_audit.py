"""The audit of a case of several stages: each partition of each stage is folded again from its own topic. A
topic between stages holds the order in which its writers met, so it is folded in its recorded order. The
outputs are compared with the published ones, and the records for other stages with those that the readers
received. Together that proves the way from the log to the answers, each step within one partition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from driftline.streams.archive.epochs import Code
from driftline.streams.archive.topic_history import Past
from driftline.streams.between.activations import Sealing
from driftline.streams.between.stage_record import Writer
from driftline.streams.declare.usecase import UseCase
from driftline.streams.proof.audit import AuditedRange, PartitionAudit, PartitionAuditor, PublishedTopic
from driftline.streams.proof.published_pools import PoolsSent, Publications, SentPool, compare_pools
from driftline.streams.proof.sent_records import Arrivals, Received, SentComparison
from driftline.streams.proof.stage_refold import StageRefold, stage_epochs
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.records.ports import Place, StoredRecord
from driftline.streams.stages.places import StagePlaces

ReceivedBy = dict[Writer, dict[Target, Received]]
"""The records that readers received, by writer."""


class StageAudit(msgspec.Struct):
    """The result of one partition of a stage: `audit` counts its records, its outputs and what it sent;
    `received` are the records that it received, for the audits of its writers, `pools_sent` and
    `pools_received` are what a learner sends to its replicas."""

    target: Target
    audit: PartitionAudit
    received: dict[Writer, Received] = {}
    pools_sent: dict[Target, list[SentPool]] = {}
    pools_received: list[SentPool] = []


class StageAuditor:
    """Audits one partition of a stage; `received` are the records that each of its readers received from
    it."""

    def __init__(
        self,
        case: UseCase,
        places: StagePlaces,
        code: Code,
        past: Past,
        target: Target,
        received: Mapping[Target, Received],
        seal: Sealing | None = None,
    ) -> None:
        itinerary = places.itinerary
        assert itinerary is not None
        self._past, self._input = past, places.input(target)
        # ends of the outputs first: what they hold by then was caused by what the topic holds afterwards
        published = {kind: _published(past, place) for kind, place in places.outputs(target).items()}
        epochs = stage_epochs(places, past, target)
        self._end = past.end(*self._input)
        self._fold = StageRefold(case, places, code, past, target, seal)
        self._pools = self._publications = None
        if itinerary.is_replicated and seal is not None:
            if target.stage == itinerary.serving:
                self._pools = PoolsSent(case.name, seal)
            if target.stage == itinerary.last:
                self._publications = Publications(case.name, seal)
        self._arrivals = Arrivals(self._pools) if target.stage else None
        self._auditor = PartitionAuditor(
            target.partition,
            code,
            epochs,
            published,
            self._step,
            AuditedRange(),
            number=places.number,
            first_position=self._fold.first_position,
        )
        self._sent = SentComparison(places, target, received, self._auditor.audit)
        self._target = target

    def run(self) -> Iterator[StageAudit]:
        """The result so far after each piece, and at the end. Raises StreamsError if a part of the topic is
        missing."""
        auditor = self._auditor
        if not auditor.has_own:
            auditor.leave_all()
        else:
            for records in self._past.records(*self._input, 0, self._end):
                auditor.folded(records)
                yield StageAudit(self._target, auditor.audit)
            auditor.finish()
            self._sent.finish(self._end)
        yield StageAudit(
            self._target,
            auditor.audit,
            self._arrivals.received() if self._arrivals is not None else {},
            self._publications.content() if self._publications is not None else {},
            self._pools.content if self._pools is not None else [],
        )

    def _step(self, records: Sequence[StoredRecord]) -> Outputs:
        out = self._fold.step(records)
        if self._arrivals is not None:
            self._arrivals.take(records)
        if self._publications is not None:
            self._publications.take(out.sends)
        else:
            self._sent.take(out.sends)
        return out


def compare_published(places: StagePlaces, audits: Sequence[StageAudit]) -> None:
    """Compare the pools that a learner sends with those that its replicas received, when all are audited."""
    received = {audit.target: audit.pools_received for audit in audits if audit.pools_received}
    for learner in audits:
        if learner.pools_sent:
            compare_pools(places, learner.target, learner.pools_sent, received, learner.audit)


def by_writer(audits: Sequence[StageAudit]) -> ReceivedBy:
    """The records that the partitions of later stages received, for the audits of their writers."""
    found: ReceivedBy = {}
    for audit in audits:
        for writer, received in audit.received.items():
            found.setdefault(writer, {})[audit.target] = received
    return found


def _published(past: Past, place: Place) -> PublishedTopic:
    begin, end = past.begin(*place), past.end(*place)
    return PublishedTopic(place.topic, begin, past.records(*place, begin, end), place.partition)
