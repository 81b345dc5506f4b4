"""What a command that is interrupted leaves running."""

from __future__ import annotations

import json
from collections.abc import Iterator

from driftline.infra.local.kafka import LocalStack
from driftline.infra.processes.slot import is_taken
from driftline.infra.settings import Settings


def still_running(settings: Settings) -> Iterator[str]:
    """A line for the local broker and for each worker of this home that runs."""
    broker = LocalStack(settings.home).status()
    if broker is not None:
        yield f"Kafka still runs at {broker.bootstrap} (process {broker.pid}): `driftline down` stops it"
    for path in sorted((settings.home / "status").glob("*.json")):
        try:
            worker = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # it is made or removed at this moment
        if is_taken(path):
            yield f"a worker of {worker['case']} still runs (process {worker['pid']}): SIGTERM ends it"
