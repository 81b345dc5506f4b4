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
from math import inf
from typing import TYPE_CHECKING

from driftline import logs
from driftline.features.errors import FeaturesError
from driftline.garbage_collection import none_collected
from driftline.infra.local.bootstrap import bootstrap_of
from driftline.infra.processes.signals import until_signal
from driftline.infra.processes.slot import is_member, own_slot, put_out
from driftline.infra.serving.late_rows import LateRows
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
    from driftline.streams.owner.upgrade.handover import Handover
    from driftline.streams.owner.upgrade.standby import Standby
    from driftline.streams.records.ports import Broker

log = logging.getLogger("driftline.worker")

EPOCHS_READ_EVERY = 60.0
"""Seconds between two looks at which epochs of a chain are over."""
CONNECTED_WITHIN = 10.0
"""Seconds of an attempt to reach Kafka at the start; then the worker logs that, and tries again."""


def _until_there(bootstrap: str, topics: Sequence[TopicSpec], mend: bool) -> None:
    """See that a case's topics are there; a broker that does not answer is waited for."""
    from kafka.errors import KafkaError

    from driftline.infra.topics.administration import ensure_topics

    _retried(
        lambda: ensure_topics(bootstrap, topics, mend=mend, within=CONNECTED_WITHIN),
        f"asking Kafka at {bootstrap} for the case's topics",
        lambda error: isinstance(error, KafkaError) and error.retriable,
    )


def _numbered(deployment: Deployment, bootstrap: str) -> Deployment:
    """A chain's deployment in the epoch in which this code serves it, or will; a broker that does not answer
    is waited for."""
    from driftline.streams.owner.retry_pause import is_broker_trouble
    from driftline.streams.owner.upgrade.chain_standby import newest_epochs, next_number

    number = 0

    async def ask() -> None:
        nonlocal number
        try:
            number = next_number(deployment, await newest_epochs(deployment))
        finally:
            await deployment.broker.close()

    _retried(
        lambda: asyncio.run(ask()),
        f"asking Kafka at {bootstrap} for the epochs of the code",
        is_broker_trouble,
    )
    return replace(deployment, number=number)


def _refuse_other_code(deployment: Deployment, bootstrap: str) -> None:
    """Raises OtherCode where other code has published last; a broker that does not answer is waited for."""
    from driftline.streams.owner.retry_pause import is_broker_trouble
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
    plan_only: bool = False,
) -> None:
    """Serve a case until SIGTERM; `features` says whether online rows go to Feast.

    `mend_topics` alters the settings of topics that break a guarantee, which else refuse to start. With
    `upgrade_path`, module:attribute of the case, it is first folded beside the code that serves it, and then
    taken over. Raises OtherCode, without it, where other code has published last.
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
        deployment = _with_topics(_deployed(case, settings, bootstrap), bootstrap, mend_topics)
        rows = LateRows(partial(_online_writer, case, settings)) if features and case.views() else None
        upgrading: Mapping[int, Standby] | None = {}
        is_handed_over = upgrade_path is not None and deployment.itinerary is not None
        if upgrade_path is None:
            _refuse_other_code(deployment, bootstrap)
        elif not is_handed_over:
            now = settings.model_copy(update={"bootstrap": bootstrap})
            upgrading = _approached(upgrade_path, deployment, now, rows is not None, accept_refused)
            if upgrading is None:
                return
        # not before: code that does not come to serve must not put its views in place of those served
        if rows is not None and not is_handed_over:
            with none_collected():
                rows.open_now()
    deployment, closing = replace(deployment, rows=rows), partial(_close, rows, deployment.broker)
    serve = partial(_serve, deployment, settings, bootstrap, upgrading or {}, renewals, closing)
    if is_handed_over:
        from driftline.infra.serving.chain_upgrade import upgrade_chain

        upgrade_chain(deployment, bootstrap, serve, accept_refused=accept_refused, plan_only=plan_only)
    else:
        serve(None)


def _approached(
    path: str, deployment: Deployment, settings: Settings, rows: bool, accept_refused: bool
) -> Mapping[int, Standby] | None:
    """The partitions of one fold that other code serves, close behind it; None when the process is to end."""
    from driftline.infra.serving.upgrade import approached

    return approached(path, deployment, settings, rows=rows, accept_refused=accept_refused)


def _with_topics(deployment: Deployment, bootstrap: str, mend: bool) -> Deployment:
    """The deployment, of a chain in its epoch, once all of its topics are there."""
    _until_there(bootstrap, deployment.topics.all(), mend)
    if deployment.itinerary is not None:
        deployment = _numbered(deployment, bootstrap)
        _until_there(bootstrap, deployment.specs, mend)
    return deployment


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
    handover: Handover | None,
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
            handover=handover,
        )
        run(worker, renewals, closing)


def _online_writer(case: UseCase, settings: Settings) -> OnlineWriter:
    """The writer of a case's online rows, of a repository that is as declared."""
    from driftline.features.feast.registry import OnlineStoreRepo
    from driftline.features.online.writer import OnlineWriter

    repo = OnlineStoreRepo(settings.features(case.name), case.views(), case.on_demand_views())
    repo.apply()
    return OnlineWriter(repo)


async def _close(writer: LateRows | None, broker: Broker) -> None:
    try:
        if writer is not None:
            await writer.close()
    except FeaturesError as error:
        # the checkpoint is older than these rows: they are written when it is folded on
        log.error("%s", error)
    finally:
        await broker.close()


class _OverTopics:
    """Which topics between stages get no records any more: those of epochs that were taken over from, in all
    partitions."""

    def __init__(self, case: UseCase, settings: Settings) -> None:
        self._case, self._settings = case, settings
        self._asked = -inf
        self._labels: set[str] = set()

    def __call__(self, topic: str) -> bool:
        """Whether this one is over, as of a minute ago at most."""
        if time.monotonic() - self._asked > EPOCHS_READ_EVERY:
            self._asked = time.monotonic()
            self._labels = self._over()
        return topic.rpartition(".")[2] in self._labels

    def _over(self) -> set[str]:
        from driftline.infra.serving.deploy import stage_places
        from driftline.streams.archive.epochs import recorded_epochs

        places = stage_places(self._case, self._settings)
        with open_history(self._case, self._settings) as history:
            known = [
                recorded_epochs(history, *places.outputs(target)["models"])
                for target in places.targets_of(places.count - 1)
            ]
        serving = min((epochs[-1].number if epochs else 0 for epochs in known), default=0)
        return {
            replace(places, code=epoch.code.short, number=epoch.number).label
            for epochs in known
            for epoch in epochs
            if epoch.number < serving
        }


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
        is_over=_OverTopics(case, settings) if own.behind else None,
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
