"""What has to be so before a demo runs: alone in its home, with a broker and empty topics."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from rich.console import Console

from driftline.infra.demo.processes import read_status
from driftline.infra.errors import InfraError
from driftline.infra.local.kafka import LocalStack
from driftline.infra.processes.slot import status_path
from driftline.infra.settings import Settings
from driftline.infra.topics.administration import ensure_topics, records_in, remove_topics
from driftline.streams.archive.storage import Storage
from driftline.streams.declare.usecase import UseCase


@contextmanager
def alone(case: UseCase, settings: Settings) -> Iterator[None]:
    """Raises InfraError where a demo of the case runs in this home already."""
    path = settings.home / f"demo-{settings.qualified(case.name)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)  # released when the process ends, however it ends
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        raise InfraError(
            f"another demo of {case.name} runs in {settings.home}: wait for its end, or choose another "
            "namespace by DRIFTLINE_NAMESPACE"
        ) from None
    with held:
        yield


def prepared(case: UseCase, settings: Settings, console: Console, fresh: bool) -> Settings:
    """Settings that name a broker with fresh topics for the case."""
    if settings.bootstrap is not None:
        settings = settings.model_copy(update={"namespace": _namespace(case, settings)})
        ensure_topics(str(settings.bootstrap), case.topics(settings.namespace).all())
        return settings
    _refuse_second_worker(case, settings)
    stack = LocalStack(settings.home)
    if stack.status() is None:
        console.print(
            "Starting Apache Kafka (the first time it is fetched: about 45 MB) ...", highlight=False
        )
    broker = stack.up()
    console.print(f"Kafka runs at {broker.bootstrap}", highlight=False)
    topics = case.topics(settings.namespace)
    records = 0 if fresh else records_in(broker.bootstrap, topics.log)
    if records:
        raise InfraError(
            f"{topics.log} holds {records:,} records, and the demo begins with an empty log: --fresh deletes "
            "them and all that was made of them, another namespace (DRIFTLINE_NAMESPACE) leaves them"
        )
    remove_topics(broker.bootstrap, topics.is_between)  # the worker makes those of its code
    ensure_topics(broker.bootstrap, topics.all(), fresh=True)
    # rows of an earlier run would be newer than this run's first ones and win
    shutil.rmtree(settings.features(case.name).path, ignore_errors=True)
    Storage(settings.checkpoints_uri(case.name)).clear()  # they belong to the earlier topics
    status_path(settings, case.name).unlink(missing_ok=True)
    return settings.model_copy(update={"bootstrap": broker.bootstrap})


def _namespace(case: UseCase, settings: Settings) -> str:
    """One in which the case has no records: that of the settings where its name says that it is for demos, so
    that rights to it can be given before; else a new one."""
    given = settings.namespace
    if given.startswith("demo") and not records_in(str(settings.bootstrap), case.topics(given).log):
        return given
    return f"{given or 'demo'}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def _refuse_second_worker(case: UseCase, settings: Settings) -> None:
    status = read_status(status_path(settings, case.name))
    if status is None or time.time() - status["at"] > 10:
        return
    try:
        os.kill(status["pid"], 0)
    except ProcessLookupError:
        return
    raise InfraError(
        f"a worker of {case.name} runs (process {status['pid']}), and the demo recreates its topics: stop "
        "it first, or choose another namespace by DRIFTLINE_NAMESPACE"
    )
