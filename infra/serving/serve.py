"""Runs a worker with everything around it: broker address, Feast store, slot."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from driftline import logs
from driftline.features.errors import FeaturesError
from driftline.garbage_collection import none_collected
from driftline.infra.local.bootstrap import bootstrap_of
from driftline.infra.processes.signals import until_signal
from driftline.infra.processes.slot import is_member, own_slot, put_out
from driftline.infra.settings import Settings
from driftline.streams.declare.usecase import UseCase
from driftline.streams.transport.process_restart import Renewals

if TYPE_CHECKING:
    from driftline.features.online.writer import OnlineWriter
    from driftline.streams.archive.topic_history import TopicPast
    from driftline.streams.clients.bridge import Bridge
    from driftline.streams.clients.bridge_runner import BridgeReport
    from driftline.streams.declare.topics import TopicSpec
    from driftline.streams.owner.deployment import Deployment
    from driftline.streams.owner.standby import Standby
    from driftline.streams.records.ports import Broker

log = logging.getLogger("driftline.worker")


def _until_there(bootstrap: str, topics: Sequence[TopicSpec], mend: bool) -> None:
    """See that a case's topics are there; a broker that does not answer is waited for."""
    from kafka.errors import KafkaError

    from driftline.infra.topics.administration import ensure_topics

    _retried(
        lambda: ensure_topics(bootstrap, topics, mend=mend),
        f"asking Kafka at {bootstrap} for the case's topics",
        lambda error: isinstance(error, KafkaError) and error.retriable,
    )


def _refuse_other_code(deployment: Deployment, bootstrap: str) -> None:
    """Raises OtherCode where other code has published last; a broker that does not answer is waited for."""
    from driftline.streams.owner.partition_task import is_broker_trouble
    from driftline.streams.owner.takeover import refuse_other_code
    from driftline.streams.records.ports import RecordsMissing

    async def ask() -> None:
        try:
            await refuse_other_code(deployment)
        finally:
            await deployment.broker.close()

    _retried(
        lambda: asyncio.run(ask()),
        f"asking Kafka at {bootstrap} which code has published last",
        # records may be deleted while they are read
        lambda error: isinstance(error, RecordsMissing) or is_broker_trouble(error),
    )


def _retried(ask: Callable[[], object], what: str, is_transient: Callable[[Exception], bool]) -> None:
    """Ask until that succeeds; raises what is not transient."""
    from driftline.features.online.transient_failures import Outage

    outage = Outage(what)
    while True:
        try:
            ask()
        except Exception as error:
            if not is_transient(error):
                raise
            time.sleep(outage.failed(error))
        else:
            outage.ended()
            return


def _put_out(bootstrap: str, group: str, client_id: str) -> None:
    """Take the place in the group of the process that was killed before this one in its slot."""
    from kafka.errors import KafkaError

    try:
        put_out(bootstrap, group, client_id)
    except KafkaError as error:
        log.warning("who died here stays in the group until its session times out: %s", error)


def run_worker(
    case: UseCase,
    settings: Settings,
    *,
    features: bool = True,
    mend_topics: bool = False,
    upgrade_path: str | None = None,
    accept_refused: bool = False,
) -> None:
    """Serve a case until SIGTERM; `features` says whether online rows go to Feast.

    `mend_topics` alters the settings of topics that break a guarantee, which else refuse to start. With
    `upgrade_path`, module:attribute of the case, it is first folded beside the code that serves it, and
    then taken over. Raises OtherCode, without it, where other code has published last; then only topics may
    have been written.
    """
    logs.begin(case=case.name)
    os.environ.setdefault("FAUST_LOOP", "uvloop")  # read when faust is imported
    from driftline.streams.status.endpoint import answering_while_starting

    renewals = Renewals()
    with answering_while_starting(settings.metrics):
        renewals.wait()
        bootstrap = bootstrap_of(settings)
        # a worker that restarts while the local broker is away has to know which one to wait for
        os.environ["DRIFTLINE_BOOTSTRAP"] = bootstrap
        settings.see_that_home_is_writable()
        deployment = _deployed(case, settings, bootstrap)
        _until_there(bootstrap, deployment.specs, mend_topics)
        with_rows = bool(features and case.views())
        upgrading: Mapping[int, Standby] = {}
        if upgrade_path is None:
            _refuse_other_code(deployment, bootstrap)
        else:
            from driftline.infra.serving.upgrade import approached

            now = settings.model_copy(update={"bootstrap": bootstrap})
            found = approached(upgrade_path, deployment, now, rows=with_rows, accept_refused=accept_refused)
            if found is None:
                return
            upgrading = found
        # not before: code that does not come to serve must not put its views in place of those served
        with none_collected():
            writer = _online_writer(case, settings) if with_rows else None
    closing = partial(_close, writer, deployment.broker)
    _serve(replace(deployment, rows=writer), settings, bootstrap, upgrading, renewals, closing)


def _deployed(case: UseCase, settings: Settings, bootstrap: str) -> Deployment:
    """The case at this broker, without an online store."""
    with none_collected():
        from driftline.infra.serving.deploy import deploy
        from driftline.streams.archive.parts import Archive
        from driftline.streams.transport.kafka_broker import KafkaBroker

        return deploy(case, settings, KafkaBroker(bootstrap, Archive(settings.archive_uri(case.name))))


def _serve(
    deployment: Deployment,
    settings: Settings,
    bootstrap: str,
    upgrading: Mapping[int, Standby],
    renewals: Renewals,
    closing: Callable[[], Awaitable[None]],
) -> None:
    """Run the worker in a slot of its own, until SIGTERM."""
    from driftline.infra.topics.administration import topic_troubles
    from driftline.streams.transport.membership import Membership
    from driftline.streams.transport.topics_watch import TopicsWatch
    from driftline.streams.transport.worker import Worker
    from driftline.streams.transport.worker_process import run

    with own_slot(settings, deployment.case.name) as slot:
        if not slot.is_new:
            _put_out(bootstrap, deployment.group, slot.client_id)
        worker = Worker(
            deployment,
            bootstrap,
            status_path=slot.status_path,
            client_id=slot.client_id,
            upgrading=upgrading,
            topics=TopicsWatch(lambda: topic_troubles(bootstrap, deployment.specs)),
            membership=Membership(lambda: is_member(bootstrap, deployment.group, slot.client_id)),
            metrics=settings.metrics,
        )
        run(worker, renewals, closing)


def _online_writer(case: UseCase, settings: Settings) -> OnlineWriter:
    """The writer of a case's online rows, of a repository that is as declared."""
    from driftline.features.feast.registry import OnlineStoreRepo
    from driftline.features.online.writer import OnlineWriter

    repo = OnlineStoreRepo(settings.features(case.name), case.views(), case.on_demand_views())
    repo.apply()
    return OnlineWriter(repo)


async def _close(writer: OnlineWriter | None, broker: Broker) -> None:
    try:
        if writer is not None:
            await writer.close()
    except FeaturesError as error:
        # the checkpoint is older than these rows: they are written when it is folded on
        log.error("%s", error)
    finally:
        await broker.close()


def run_archiver(
    case: UseCase, settings: Settings, topics: Sequence[str], part_size: int | None, *, once: bool
) -> int:
    """Archive topics of a case until SIGTERM, or, with `once`, the parts that are complete; returns the
    number of parts written. With the log go the topics between stages, of whichever code: they are the order
    that was folded behind it."""
    from driftline.streams.archive.archiver import Archiver
    from driftline.streams.archive.parts import Archive, Manifest

    logs.begin(case=case.name)
    parts = 0

    def tell(manifest: Manifest) -> None:
        nonlocal parts
        parts += 1
        print(f"{manifest.topic}-{manifest.partition}: archived up to {manifest.end:,}", file=sys.stderr)

    own = case.topics(settings.namespace)
    archiver = Archiver(
        Archive(settings.archive_uri(case.name), part_size),
        bootstrap_of(settings),
        topics,
        group=f"{own.readers}.archiver",
        on_part=tell,
        also=own.is_between if own.behind and own.log in topics else None,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: archiver.stop())
    if once:
        archiver.once()
    else:
        archiver.run()
    return parts


def run_bridge(bridge: Bridge, settings: Settings, foreign: str | None, *, once: bool) -> BridgeReport:
    """Copy a foreign topic's records over a bridge until SIGTERM; with `once`, those that it holds now.

    `foreign` is the Kafka that has the topic, before the one in the settings; without either it is the log's.
    """
    from driftline.features.online.client import FeatureClient
    from driftline.infra.topics.administration import batch_limit, ensure_topics
    from driftline.streams.clients.bridge_runner import Bridger

    logs.begin(case=bridge.case.name)
    bootstrap = bootstrap_of(settings)
    topics = bridge.case.topics(settings.namespace)
    foreign = foreign or settings.foreign.bootstrap
    security = settings.foreign if foreign else None
    limit = batch_limit(foreign or bootstrap, bridge.topic, security)
    ensure_topics(bootstrap, [*topics.all(), topics.bridge_dead_letters(bridge.name, limit)])

    async def carry() -> BridgeReport:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    FeatureClient(declared.case, settings.features(declared.case.name))
                )
                for declared in bridge.enrich
            ]
            bridger = Bridger(bridge, bootstrap, foreign or bootstrap, settings.namespace, clients, security)
            await until_signal(bridger.run(once=once))
            return bridger.report

    return asyncio.run(carry())


def open_history(case: UseCase, settings: Settings, silence: float | None = None) -> TopicPast:
    """What Kafka and the archive hold of a case's topics; `silence` is how long Kafka may say nothing, in
    seconds (see `TopicPast`)."""
    from driftline.streams.archive.parts import Archive
    from driftline.streams.archive.topic_history import TopicPast

    return TopicPast(bootstrap_of(settings), Archive(settings.archive_uri(case.name)), silence)
