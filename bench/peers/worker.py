"""A driftline worker as a process with a gauge, from Kafka to Kafka."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("FAUST_LOOP", "uvloop")  # as `driftline worker` does

from driftline.bench.peers.gauge import Gauge
from driftline.bench.peers.process import Assignment
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.writer import OnlineWriter
from driftline.infra.serving.deploy import deploy
from driftline.infra.settings import Settings
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.checkpointing import Checkpointing
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.record import Record
from driftline.streams.stages.stage_fold import StageFold
from driftline.streams.transport import kafka_broker
from driftline.streams.transport.kafka_broker import KafkaBroker
from driftline.streams.transport.membership import Membership
from driftline.streams.transport.process_restart import Renewals
from driftline.streams.transport.topics_watch import TopicsWatch
from driftline.streams.transport.worker import Worker
from driftline.streams.transport.worker_process import run


def _online_writer(case: UseCase, home: Path) -> OnlineWriter:
    repo = OnlineStoreRepo(
        RepositoryLocation(home / "feast", case.name), case.views(), case.on_demand_views()
    )
    repo.apply()
    return OnlineWriter(repo)


def _leave_out_exactness() -> None:
    """Serve without source positions and checkpoints, to measure their cost as the difference."""
    kafka_broker.headers_of = lambda output: list(output.headers)  # type: ignore[attr-defined]
    Checkpointing.look = lambda self, owned: None  # type: ignore[method-assign]


def _gauge_steps(fold: Any, gauge: Gauge) -> None:
    """Tell the gauge of what this kind of fold takes."""
    step = fold.step

    def gauged(self: Any, records: Sequence[Record], *rest: Any) -> Outputs:
        gauge.event()
        taken: Outputs = step(self, records, *rest)
        return taken

    fold.step = gauged


def main(assignment: Assignment) -> None:
    """Serve the assignment until SIGTERM."""
    case = load_case(assignment.case)
    case.models.first.born()  # imports River now, not at the first event
    home = Path(assignment.home)
    gauge = Gauge()
    _gauge_steps(PartitionProcessor, gauge)
    _gauge_steps(StageFold, gauge)
    if not assignment.exact:
        _leave_out_exactness()
    rows = _online_writer(case, home) if assignment.feast else None
    settings = Settings(home=home, bootstrap=assignment.bootstrap, namespace=assignment.namespace)
    deployment = deploy(case, settings, KafkaBroker(assignment.bootstrap), rows)
    own = home / f"worker-{os.getpid()}"
    own.mkdir()
    topics = TopicsWatch(lambda: [])
    worker = Worker(
        deployment,
        assignment.bootstrap,
        status_path=own / "status.json",
        client_id=f"driftline-{os.getpid()}",
        topics=topics,
        membership=Membership(lambda: True),
        metrics=assignment.metrics,
    )
    run(worker, Renewals())


if __name__ == "__main__":
    main(Assignment.from_arguments())
