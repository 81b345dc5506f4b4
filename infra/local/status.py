"""What runs here: the local broker, and how far each worker has come."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import msgspec

from driftline.infra.local.kafka import LocalStack, answers
from driftline.infra.local.lag import lags, status_fields
from driftline.infra.report.figures import lasting
from driftline.infra.report.summary import in_quarantine
from driftline.infra.settings import Settings
from driftline.streams.fold.reference_spread import KnownReferences, differences

ENDED_SHOWN_FOR = 3600.0
FAILED_SHOWN_FOR = 24 * 3600.0
"""Seconds for which a worker that was asked to end is shown, and one that failed or was killed."""


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process
        return True
    return True


def collect(settings: Settings) -> dict[str, Any]:
    """{broker: {running, bootstrap, pid}, workers: [...]} from the record and status files.

    A broker named in the settings is asked itself; its process id is not known (None). Each worker's
    `lag` is the number of committed offsets in its partitions of the log that it has not answered yet.
    Workers that ended long ago are left out.
    """
    named = settings.bootstrap
    broker = None if named else LocalStack(settings.home).status()
    bootstrap = broker.bootstrap if broker else named
    running = answers(named) if named else broker is not None
    workers = []
    for path in sorted((settings.home / "status").glob("*.json")):
        status = json.loads(path.read_text())
        status["running"] = is_alive(status["pid"])
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


def _add_references(workers: list[dict[str, Any]]) -> None:
    """Where partitions at the end of a log know other references, whichever workers have them."""
    logs: dict[str, dict[int, dict[str, KnownReferences]]] = {}
    for worker in workers:
        known = logs.setdefault(worker["log"], {})
        for number, partition in worker["partitions"].items():
            if worker["running"] and partition["state"] == "serving" and partition.get("lag") == 0:
                known[int(number)] = msgspec.convert(
                    partition.get("references", {}), dict[str, KnownReferences]
                )
    for worker in workers:
        worker["references"] = list(differences(logs[worker["log"]]).values())


def _partition(number: str, status: dict[str, Any]) -> str:
    """One partition of a worker: its state, and how old its checkpoint is."""
    text = f"  partition {number}: {status['state']}"
    if "recovery" in status:
        progress = status["recovery"]
        text += (
            f", offset {progress['at']:,} of {progress['until']:,} "
            f"({progress['records_per_second']:,.0f} records/s)"
        )
    if "checkpoint" in status:
        text += f", checkpoint {lasting(status['checkpoint']['age_seconds'])} old"
    if "checkpoint_failed" in status:
        since = lasting(status["checkpoint_failing_seconds"])
        text += f", none can be stored for {since}: {status['checkpoint_failed']}"
    if status.get("warming_up"):
        text += (
            ", in a warm-up: nothing is answered until its end (`driftline produce` resumes it by "
            "--warm-up, ends it by --end-warm-up)"
        )
    if "undecided" in status:
        name = f" {status['transaction']!r}" if status["transaction"] else ""
        text += f", {status['undecided']:,} offsets wait for the open transaction{name} to end"
    return text + (f": {status['reason']}" if status["reason"] else "")


_REFUSED = {
    "dead_letters": "dead letters",
    "misplaced": "in the wrong partition",
    "late": "late",
    "refused_in_warm_up": "refused in a warm-up",
}


def _refused(counts: dict[str, int]) -> list[str]:
    """The line of refused and reported records; none where there are none."""
    counted = [f"{counts[name]:,} {what}" for name, what in _REFUSED.items() if counts.get(name)]
    return (
        ["  refused or reported: " + ", ".join(counted) + " (`driftline dead-letters tail`)"]
        if counted
        else []
    )


def _ends(worker: dict[str, Any]) -> list[str]:
    """Why the worker is not running, or how the one before it in its place ended, when that failed."""
    ended, before = worker.get("ended"), worker.get("before")
    if ended is not None:  # of a process that runs, too, when it waits to begin anew
        return [f"  ended {lasting(time.time() - ended['at'])} ago: {ended['reason']}"]
    if not worker["running"]:
        return ["  it did not say why it ended: it was killed, or the machine was stopped"]
    if before is not None and before["failed"]:
        return [f"  the one before ended {lasting(time.time() - before['at'])} ago: {before['reason']}"]
    return []


def status_text(status: dict[str, Any]) -> str:
    """The status as text."""
    broker = status["broker"]
    lines = [
        f"broker   {broker['bootstrap']}" + (f" (process {broker['pid']})" if broker["pid"] else "")
        if broker["running"]
        else "broker   not running"
    ]
    for worker in status["workers"]:
        state = f"process {worker['pid']}" if worker["running"] else "not running"
        counts = worker["counts"]
        lines.append(
            f"worker   {worker['case']} ({state}): {counts['events']:,} events, "
            f"{counts['predictions']:,} predictions, {counts['drift_events']:,} drift events"
            + (f", lag {worker['lag']:,}" if "lag" in worker else "")
        )
        lines.extend(_ends(worker))
        lines.extend(_refused(counts))
        lines.extend(f"  {trouble}" for text in worker.get("topics", ()) for trouble in text.splitlines())
        lines.extend(f"  {difference}" for difference in worker.get("references", ()))
        lines.extend(
            f"  {in_quarantine(name, entry)}"
            for name, entry in worker.get("models", {}).items()
            if "quarantine" in entry
        )
        lines.extend(_partition(number, one) for number, one in worker["partitions"].items())
    return "\n".join(lines)
