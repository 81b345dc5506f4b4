"""Audits a case for as long as it is served: folds its log beside production, and compares what it publishes.

A partition is compared up to its workers' commit: the outputs of the log before that are published.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, Protocol

from kafka.errors import KafkaError

from driftline.features.online.transient_failures import Outage
from driftline.infra.local.bootstrap import bootstrap_of
from driftline.infra.processes.metrics_server import serve_metrics
from driftline.infra.proof.audit_metrics import AuditMetrics
from driftline.infra.serving.deploy import stage_places
from driftline.infra.serving.serve import open_history
from driftline.infra.settings import Settings
from driftline.infra.topics.committed_offsets import folded_offsets, worker_groups
from driftline.streams.archive.epochs import is_epoch, recorded_epochs
from driftline.streams.archive.parts import ArchivedRecord
from driftline.streams.archive.topic_history import Past
from driftline.streams.connection import clients
from driftline.streams.declare.topics import Topics
from driftline.streams.declare.usecase import UseCase
from driftline.streams.owner.deployment import code_of
from driftline.streams.proof.audit import AuditedRange, PartitionAuditor, PublishedTopic
from driftline.streams.proof.refold import Refold
from driftline.streams.proof.stage_follow import OFFSETS_AT_ONCE, EpochAdded, StageFollowers
from driftline.streams.records.difference import Difference
from driftline.streams.records.outputs import KINDS
from driftline.streams.records.ports import Place

log = logging.getLogger("driftline.audit")

AUDIT_EVERY = 5.0
"""Seconds between looks at what was published."""


class Follower(Protocol):
    """The audit of one partition, which goes on as its topic does."""

    @property
    def name(self) -> str: ...
    @property
    def place(self) -> Place: ...
    @property
    def next_offset(self) -> int: ...
    @property
    def verified(self) -> int: ...
    @property
    def difference(self) -> Difference | None: ...
    @property
    def counts(self) -> tuple[int, int, int]: ...
    def look(self, folded: int) -> bool: ...


class PartitionFollower:
    """The audit of one partition, which goes on as its log does."""

    def __init__(self, case: UseCase, past: Past, topics: Topics, partition: int) -> None:
        self._case = case
        self._past = past
        self._topics = topics
        self.partition = partition
        self.name, self.place = str(partition), Place(topics.log, partition)
        self._begin()

    def _begin(self) -> None:
        """From the start of the log, with the code epochs that there are by now."""
        number, past, topics = self.partition, self._past, self._topics
        names = {kind: getattr(topics, kind) for kind in KINDS}
        self._read = {kind: past.begin(name, number) for kind, name in names.items()}
        # what they hold by now is read with its epochs; those that come later are noticed
        ends = {kind: past.end(name, number) for kind, name in names.items()}
        epochs = recorded_epochs(past, topics.models, number)
        code = code_of(self._case)
        published = {
            kind: PublishedTopic(
                name, self._read[kind], past.records(name, number, self._read[kind], ends[kind])
            )
            for kind, name in names.items()
        }
        self._read = ends
        refold = Refold(self._case, past, topics, number, code, epochs)
        self._auditor = PartitionAuditor(
            number, code, epochs, published, refold.step, AuditedRange(), is_complete=True
        )
        self.next_offset = 0

    @property
    def verified(self) -> int:
        """The offset of the log before which all that was published is proved, or is of other code."""
        found = self.difference
        return self.next_offset if found is None else found.log_offset

    @property
    def difference(self) -> Difference | None:
        """The first one."""
        return self._auditor.audit.first_difference

    @property
    def counts(self) -> tuple[int, int, int]:
        """Records compared, those of them that differ, and those that other code has published."""
        found = self._auditor.audit
        return found.checked, found.checked - found.equal, sum(found.unchecked.values())

    def look(self, folded: int) -> bool:
        """Compare what the log gives before the offset `folded`, a piece of it at most; whether all is done.

        Starts again when a code epoch has been added: it may say that this code took over from other code.
        """
        until = min(folded, self.next_offset + OFFSETS_AT_ONCE)
        if until <= self.next_offset:
            return True
        number, past = self.partition, self._past
        for kind in KINDS:
            name, begin = getattr(self._topics, kind), self._read[kind]
            self._read[kind] = end = past.end(name, number)
            published: Iterable[list[ArchivedRecord]] = past.records(name, number, begin, end)
            if kind == "models":
                published = list(published)
                if any(is_epoch(record) for chunk in published for record in chunk):
                    self._begin()
                    return False
            self._auditor.published(kind, published)
        for records in past.records(self._topics.log, number, self.next_offset, until):
            self._auditor.folded(records)
        self.next_offset = until
        return until == folded


def follow(
    case: UseCase,
    settings: Settings,
    address: tuple[str, int] | None,
    stop: threading.Event,
) -> int:
    """Audit a case until `stop` is set; returns the number of differences. Metrics are served at `address`.

    A broker that is away is waited for; the audit then starts again.
    """
    metrics = AuditMetrics(case.name)
    if address is not None:
        serve_metrics(address, metrics.registry)
    outage = Outage(f"auditing {case.name}")
    reported: set[Difference] = set()
    while not stop.is_set():
        try:
            with (
                open_history(case, settings) as past,
                closing(clients.admin(bootstrap_of(settings))) as admin,
            ):
                _follow(case, settings, past, admin, stop, metrics, outage, reported)
        except EpochAdded:
            continue  # from the start, with the epochs that there are by now
        except (KafkaError, OSError) as error:
            stop.wait(outage.failed(error))
    return len(reported)


def _follow(
    case: UseCase,
    settings: Settings,
    past: Past,
    admin: Any,
    stop: threading.Event,
    metrics: AuditMetrics,
    outage: Outage,
    reported: set[Difference],
) -> None:
    """Audit a case from its start, until `stop` is set."""
    topics = case.topics(settings.namespace)
    followers: Sequence[Follower]
    stages: StageFollowers | None = None
    if case.plan.is_chain:
        stages = StageFollowers(case, stage_places(case, settings), code_of(case), past)
        followers = list(stages)
    else:
        followers = [PartitionFollower(case, past, topics, n) for n in range(case.partitions)]
    names = dict.fromkeys(follower.place.topic for follower in followers)
    while not stop.is_set():
        groups = worker_groups(admin, topics.readers, serving_only=False)
        folded = {name: folded_offsets(admin, name, groups) for name in names}
        done = [
            _look(each, folded[each.place.topic].get(each.place.partition, 0), metrics) for each in followers
        ]
        if all(done) and stages is not None:
            stages.rest()
        outage.ended()
        for each in followers:
            if each.difference is not None and each.difference not in reported:
                reported.add(each.difference)
                log.error("difference: %s\n%s", each.difference, each.difference.causes)
        if all(done):
            stop.wait(AUDIT_EVERY)


def _look(follower: Follower, folded: int, metrics: AuditMetrics) -> bool:
    done = follower.look(folded)
    checked, differences, unchecked = follower.counts
    metrics.set(
        follower.name,
        verified_offset=follower.verified,
        lag_records=max(0, folded - follower.next_offset),
        differences=differences,
        checked=checked,
        unchecked=unchecked,
    )
    return done
