"""Runs a worker with everything around it: broker address, Feast store, status file."""

from __future__ import annotations

import os
from pathlib import Path

from infra.errors import InfraError
from infra.kafka import LocalStack
from infra.settings import Settings
from streams.usecase import UseCase


def bootstrap_of(settings: Settings) -> str:
    """The broker to use: the one in the settings, else the local one if it runs."""
    if settings.bootstrap is not None:
        return settings.bootstrap
    broker = LocalStack(settings.home).status()
    if broker is None:
        raise InfraError("no Kafka: run `driftline up`, or name one in DRIFTLINE_BOOTSTRAP")
    return broker.bootstrap


def status_path(settings: Settings, case: str) -> Path:
    """Where the worker of a case writes its status."""
    name = f"{settings.namespace}.{case}" if settings.namespace else case
    return settings.home / "status" / f"{name}.json"


def run_worker(case: UseCase, settings: Settings, *, features: bool = True) -> None:
    """Serve a case until SIGTERM; `features` says whether online rows go to Feast."""
    os.environ.setdefault("FAUST_LOOP", "uvloop")  # read when faust is imported
    bootstrap = bootstrap_of(settings)
    writer = None
    if features and case.views():
        from features.online import OnlineWriter
        from features.registry import OnlineStoreRepo

        repo = OnlineStoreRepo(settings.feast_repo(case.name), case.name, case.views())
        repo.apply()
        writer = OnlineWriter(repo)
    from infra.topics_admin import ensure_topics
    from streams.worker import Worker, run

    ensure_topics(bootstrap, case.topics(settings.namespace).all())
    path = status_path(settings, case.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    run(Worker(case, bootstrap, settings.namespace, writer, status_path=path))
