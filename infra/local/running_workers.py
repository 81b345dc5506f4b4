"""What runs here: the local broker, and how far each worker has come."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec

from driftline.infra.local.kafka import LocalStack, answers
from driftline.infra.local.lag import lags, status_fields
from driftline.infra.processes.slot import is_taken
from driftline.infra.settings import Settings
from driftline.streams.fold.reference_spread import KnownReferences, differences

ENDED_SHOWN_FOR = 3600.0
FAILED_SHOWN_FOR = 24 * 3600.0
"""Seconds for which a worker that was asked to end is shown, and one that failed or was killed."""


def collect(settings: Settings) -> dict[str, Any]:
    """{broker: {running, bootstrap, pid}, workers: [...]} from the record and status files.

    A broker named in the settings is asked itself; its process id is not known (None). Each worker's
    `lag` is the number of committed offsets in its partitions of the log that it has not answered yet.
    Workers are those that share this home, on whatever machine; those that ended long ago are left out.
    """
    named = settings.bootstrap
    broker = None if named else LocalStack(settings.home).status()
    bootstrap = broker.bootstrap if broker else named
    running = answers(named) if named else broker is not None
    workers = []
    for path in sorted((settings.home / "status").glob("*.json")):
        status = json.loads(path.read_text())
        status["running"] = is_taken(path)
        if status["running"] or _is_recent(status):
            workers.append(status)
    if running and workers:
        _add_lag(str(bootstrap), workers)
        _add_references(workers)
    return {
        "broker": {"running": running, "bootstrap": bootstrap, "pid": broker.pid if broker else None},
        "workers": workers,
    }


def _is_recent(worker: dict[str, Any]) -> bool:
    """Whether a worker that does not run ended lately enough to be of interest."""
    ended = worker["ended"]
    if ended is not None and not ended["failed"]:
        return bool(time.time() - ended["at"] < ENDED_SHOWN_FOR)
    return bool(time.time() - worker["at"] < FAILED_SHOWN_FOR)


def _add_lag(bootstrap: str, workers: list[dict[str, Any]]) -> None:
    for worker in workers:
        answered = {int(number): offset for number, offset in worker["next_offsets"].items()}
        measured = lags(bootstrap, worker["log"], answered)
        if measured:
            worker["lag"] = sum(lag.offsets for lag in measured.values())
        for number, lag in measured.items():
            worker["partitions"][str(number)] |= status_fields(lag)
        _add_lag_of_stages(bootstrap, worker["partitions"])


def _add_lag_of_stages(bootstrap: str, partitions: dict[str, dict[str, Any]]) -> None:
    """The lag of the partitions behind the log, as `by-merchant/3`: that of the topic which each names."""
    topics: dict[str, dict[int, dict[str, Any]]] = {}
    for name, one in partitions.items():
        if "topic" in one and "next_offset" in one:
            topics.setdefault(one["topic"], {})[int(name.rpartition("/")[2])] = one
    for topic, found in topics.items():
        answered = {number: one["next_offset"] for number, one in found.items()}
        for number, lag in lags(bootstrap, topic, answered).items():
            found[number] |= status_fields(lag)


def _add_references(workers: list[dict[str, Any]]) -> None:
    """Where partitions at the end of a log know other references, whichever workers have them."""
    logs: dict[str, dict[int, dict[str, KnownReferences]]] = {}
    for worker in workers:
        known = logs.setdefault(worker["log"], {})
        for number, partition in worker["partitions"].items():
            if "topic" in partition:
                continue  # references stay in the partitions of the log
            if worker["running"] and partition["state"] == "serving" and partition.get("lag") == 0:
                known[int(number)] = msgspec.convert(
                    partition.get("references", {}), dict[str, KnownReferences]
                )
    for worker in workers:
        worker["references"] = list(differences(logs[worker["log"]]).values())
