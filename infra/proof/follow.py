"""Audits a case for as long as it is served: folds its log beside production, and compares what it publishes.

A partition is compared up to its workers' commit: the outputs of the log before that are published.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from kafka.errors import KafkaError

from driftline.features.online.transient_failures import Outage
from driftline.infra.local.bootstrap import bootstrap_of
from driftline.infra.processes.metrics_server import serve_metrics
from driftline.infra.proof.audit_metrics import AuditMetrics
from driftline.infra.serving.deploy import seal_of, stage_places
from driftline.infra.serving.serve import open_history
from driftline.infra.settings import Settings
from driftline.infra.topics.committed_offsets import folded_offsets, worker_groups
from driftline.streams.archive.topic_history import Past
from driftline.streams.connection import clients
from driftline.streams.declare.usecase import UseCase
from driftline.streams.owner.deployment import code_of
from driftline.streams.proof.partition_follow import EpochAdded, LogFollower, PartitionFollower
from driftline.streams.proof.stage_follow import StageFollowers
from driftline.streams.records.difference import Difference

log = logging.getLogger("driftline.audit")

AUDIT_EVERY = 5.0
"""Seconds between looks at what was published."""


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
    followers: Sequence[PartitionFollower]
    stages: StageFollowers | None = None
    if case.plan.is_chain:
        # pools for replicas are sealed with the key of the checkpoints, without which none is unpickled
        seal = seal_of(settings) if case.plan.is_replicated else None
        stages = StageFollowers(case, stage_places(case, settings, past), code_of(case), past, seal)
        followers = list(stages)
    else:
        followers = [LogFollower(case, topics, code_of(case), past, n) for n in range(case.partitions)]
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


def _look(follower: PartitionFollower, folded: int, metrics: AuditMetrics) -> bool:
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
