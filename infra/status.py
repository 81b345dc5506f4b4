"""What runs here: the local broker, and how far each worker has come."""

from __future__ import annotations

import json
import os
from typing import Any

from infra.kafka import LocalStack, answers
from infra.settings import Settings


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process
        return True
    return True


def collect(settings: Settings) -> dict[str, Any]:
    """{broker: {running, bootstrap, pid}, workers: [...]} from the record and status files.

    A broker named in the settings is asked itself; its process id is not known (None).
    """
    named = settings.bootstrap
    broker = None if named else LocalStack(settings.home).status()
    workers = []
    for path in sorted((settings.home / "status").glob("*.json")):
        found = json.loads(path.read_text())
        found["running"] = _alive(found["pid"])
        workers.append(found)
    return {
        "broker": {
            "running": answers(named) if named else broker is not None,
            "bootstrap": broker.bootstrap if broker else named,
            "pid": broker.pid if broker else None,
        },
        "workers": workers,
    }


def render(found: dict[str, Any]) -> str:
    """The status as text."""
    broker = found["broker"]
    lines = [
        f"broker   {broker['bootstrap']}" + (f" (process {broker['pid']})" if broker["pid"] else "")
        if broker["running"]
        else "broker   not running"
    ]
    for worker in found["workers"]:
        state = f"process {worker['pid']}" if worker["running"] else "not running"
        counts = worker["counts"]
        lines.append(
            f"worker   {worker['case']} ({state}): {counts['events']:,} events, "
            f"{counts['predictions']:,} predictions, {counts['drift_events']:,} drift events"
        )
    return "\n".join(lines)
