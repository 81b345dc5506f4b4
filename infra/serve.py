"""Runs a worker with everything around it: broker address, Feast store, slot."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from features.errors import FeaturesError
from infra.errors import InfraError
from infra.kafka import LocalStack
from infra.settings import Settings
from infra.slot import own_slot, put_out
from streams.usecase import UseCase

if TYPE_CHECKING:
    from features.online import OnlineWriter
    from streams.deployment import Deployment
    from streams.history import History
    from streams.kafka_broker import KafkaBroker
    from streams.upgrade import Standby

log = logging.getLogger("driftline.worker")

TELL_EVERY = 5.0


def bootstrap_of(settings: Settings) -> str:
    """The broker to use: the one in the settings, else the local one if it runs."""
    if settings.bootstrap is not None:
        return settings.bootstrap
    broker = LocalStack(settings.home).status()
    if broker is None:
        raise InfraError("no Kafka: run `driftline up`, or name one in DRIFTLINE_BOOTSTRAP")
    return broker.bootstrap


def deploy(
    case: UseCase, settings: Settings, broker: KafkaBroker, rows: OnlineWriter | None = None
) -> Deployment:
    """The case with its code, checkpoints and seal."""
    from streams.checkpoint_folder import CheckpointFolder
    from streams.deployment import Deployment, code_of
    from streams.sealing import Seal, load_key
    from streams.storage import Storage

    return Deployment(
        case,
        code_of(case),
        case.topics(settings.namespace),
        broker,
        CheckpointFolder(Storage(settings.checkpoints_uri(case.name))),
        Seal(load_key(settings.key_file, settings.key)),
        rows,
    )


async def _approach(deployment: Deployment) -> dict[int, Standby]:
    """Every partition that other code serves, folded by this code close behind it."""
    from streams.upgrade import CLOSE_BEHIND, standbys_of

    telling: asyncio.Task[None] | None = None
    try:
        standbys = await standbys_of(deployment)
        if not standbys:
            log.warning("nothing to upgrade: this code has published last; it serves on")
            return {}
        telling = asyncio.create_task(_tell_of(standbys))
        # each pass is as long as the other code came on during the one before
        while max([await standby.approach() for standby in standbys]) > CLOSE_BEHIND:
            pass
        return {standby.partition: standby for standby in standbys}
    finally:
        if telling is not None:
            telling.cancel()
        await deployment.broker.close()


async def _tell_of(standbys: Sequence[Standby]) -> None:
    """Say every few seconds how far the fold beside the other code has come, and how fast it is."""
    before = 0
    while True:
        await asyncio.sleep(TELL_EVERY)
        folded = [standby.processor.next_offset for standby in standbys]
        rate = (sum(folded) - before) / TELL_EVERY
        before = sum(folded)
        where = ", ".join(f"{s.partition}: {at:,}" for s, at in zip(standbys, folded, strict=True))
        log.warning("upgrade: folded beside the code that serves up to %s (%s/s)", where, f"{rate:,.0f}")


def _approached(deployment: Deployment) -> dict[int, Standby] | None:
    """As `_approach`; None when SIGTERM or SIGINT came first."""

    async def until_asked_to_end() -> dict[int, Standby] | None:
        task = asyncio.create_task(_approach(deployment))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    return asyncio.run(until_asked_to_end())


def _put_out(bootstrap: str, group: str, client_id: str) -> None:
    """Take the place in the group of the process that was killed before this one in its slot."""
    from kafka.errors import KafkaError

    try:
        put_out(bootstrap, group, client_id)
    except KafkaError as error:
        log.warning("who died here stays in the group until its session times out: %s", error)


def run_worker(case: UseCase, settings: Settings, *, features: bool = True, upgrade: bool = False) -> None:
    """Serve a case until SIGTERM; `features` says whether online rows go to Feast.

    With `upgrade` the case is first folded beside the code that serves it, and then taken over.
    """
    os.environ.setdefault("FAUST_LOOP", "uvloop")  # read when faust is imported
    bootstrap = bootstrap_of(settings)
    writer = None
    if features and case.views():
        from features.online import OnlineWriter
        from features.registry import OnlineStoreRepo

        repo = OnlineStoreRepo(settings.features(case.name), case.views())
        repo.apply()
        writer = OnlineWriter(repo)
    from infra.topics_admin import ensure_topics
    from streams.archive import Archive
    from streams.kafka_broker import KafkaBroker
    from streams.worker import Worker, run

    ensure_topics(bootstrap, case.topics(settings.namespace).all())
    broker = KafkaBroker(bootstrap, Archive(settings.archive_uri(case.name)))
    deployment = deploy(case, settings, broker, writer)
    upgrading = None
    if upgrade:
        upgrading = _approached(deployment)
        if upgrading is None:
            return

    async def closing() -> None:
        try:
            if writer is not None:
                await writer.close()
        except FeaturesError as error:
            # the checkpoint is older than these rows: they are written when it is folded on
            log.error("%s", error)
        finally:
            await broker.close()

    with own_slot(settings, case.name) as slot:
        if not slot.is_new:
            _put_out(bootstrap, deployment.group, slot.client_id)
        worker = Worker(
            deployment,
            bootstrap,
            status_path=slot.status_path,
            client_id=slot.client_id,
            upgrading=upgrading,
        )
        run(worker, closing)


def run_archiver(
    case: UseCase, settings: Settings, topics: Sequence[str], part_size: int | None, *, once: bool
) -> int:
    """Archive topics of a case until SIGTERM, or what is complete `once`; returns the parts written."""
    from streams.archive import Archive, Manifest
    from streams.archiver import Archiver

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    parts = 0

    def tell(manifest: Manifest) -> None:
        nonlocal parts
        parts += 1
        print(f"{manifest.topic}-{manifest.partition}: archived up to {manifest.end:,}", file=sys.stderr)

    archiver = Archiver(
        Archive(settings.archive_uri(case.name), part_size),
        bootstrap_of(settings),
        topics,
        group=f"{case.topics(settings.namespace).log}.archiver",
        on_part=tell,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: archiver.stop())
    if once:
        archiver.once()
    else:
        archiver.run()
    return parts


def open_history(case: UseCase, settings: Settings) -> History:
    """What Kafka and the archive hold of a case's topics."""
    from streams.archive import Archive
    from streams.history import History

    return History(bootstrap_of(settings), Archive(settings.archive_uri(case.name)))
