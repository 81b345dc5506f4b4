"""Which broker a command works with."""

from __future__ import annotations

from driftline.infra.errors import InfraError
from driftline.infra.local.kafka import LocalStack
from driftline.infra.settings import Settings


def bootstrap_of(settings: Settings) -> str:
    """The broker to use: the one in the settings, else the local one if it runs."""
    if settings.bootstrap is not None:
        return settings.bootstrap
    broker = LocalStack(settings.home).status()
    if broker is None:
        raise InfraError("no Kafka: run `driftline up`, or name one in DRIFTLINE_BOOTSTRAP")
    return broker.bootstrap
