"""The command that shows what runs: status."""

from __future__ import annotations

import socket
import time
from typing import Any

import typer

from driftline.infra.cli.cases import settings
from driftline.infra.cli.console import print_json
from driftline.infra.cli.parameters import AsJson
from driftline.infra.report.figures import lasting
from driftline.infra.report.labels import without_labels
from driftline.infra.report.summary import in_quarantine

commands = typer.Typer()


@commands.command()
def status(as_json: AsJson = False) -> None:
    """Show what runs, and the progress of each worker. Exit code 1 when no broker runs."""
    from driftline.infra.local.running_workers import collect

    system = collect(settings())
    if as_json:
        print_json(system)
    else:
        print(status_text(system))
    if not system["broker"]["running"]:
        raise typer.Exit(1)


SILENT_AFTER = 15.0
"""Seconds without a status, of which a worker writes one a second, that are worth a line."""


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
    text += f": {status['reason']}" if status["reason"] else ""
    sizes = status.get("sizes", {}).items()
    return "\n".join([text, *(_size(name, size) for name, size in sizes if size["count"])])


def _size(name: str, size: dict[str, int]) -> str:
    """What a kind of state took at the last checkpoint."""
    on_disk = f", {size['disk_bytes_each']:,} on disk" if size["disk_bytes_each"] else ""
    return f"    {size['count']:,} {name}: {size['bytes_each']:,} bytes each{on_disk}"


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


def _broker(broker: dict[str, Any]) -> str:
    """Where the broker is, and whether it answers."""
    if broker["running"]:
        return str(broker["bootstrap"]) + (f" (process {broker['pid']})" if broker["pid"] else "")
    return f"no answer at {broker['bootstrap']}" if broker["bootstrap"] else "not running"


def _process(worker: dict[str, Any]) -> str:
    """Which process a worker is."""
    if not worker["running"]:
        return "not running"
    host = worker.get("host", "")
    return f"process {worker['pid']}" + (f" on {host}" if host not in ("", socket.gethostname()) else "")


def _silence(worker: dict[str, Any]) -> list[str]:
    """The line of a worker that runs and has long reported nothing."""
    silent = time.time() - worker.get("at", time.time())
    if not worker["running"] or worker.get("ended") is not None or silent < SILENT_AFTER:
        return []
    return [
        f"  it has reported nothing for {lasting(silent)}: it is suspended, has no CPU, cannot write to its "
        "home, or its clock is behind; what is shown is as of then"
    ]


def _ends(worker: dict[str, Any]) -> list[str]:
    """Why the worker is not running, or how the one before it in its place ended, when that failed."""
    ended, before = worker.get("ended"), worker.get("before")
    if ended is not None:  # of a process that runs, too, when it waits to restart
        return [f"  ended {lasting(time.time() - ended['at'])} ago: {ended['reason']}"]
    if not worker["running"]:
        return ["  it did not say why it ended: it was killed, or the machine was stopped"]
    if before is not None and before["failed"]:
        return [f"  the one before ended {lasting(time.time() - before['at'])} ago: {before['reason']}"]
    return []


def status_text(status: dict[str, Any]) -> str:
    """The status as text."""
    broker = status["broker"]
    lines = [f"broker   {_broker(broker)}"]
    for worker in status["workers"]:
        counts = worker["counts"]
        lines.append(
            f"worker   {worker['case']} ({_process(worker)}): {counts['events']:,} events, "
            f"{counts['predictions']:,} predictions, {counts['drift_events']:,} drift events"
            + (f", lag {worker['lag']:,}" if "lag" in worker else "")
        )
        lines.extend(_silence(worker))
        lines.extend(_ends(worker))
        lines.extend(_refused(counts))
        lines.extend(f"  {line}" for line in without_labels(counts, worker.get("labels", {})))
        lines.extend(f"  {trouble}" for text in worker.get("topics", ()) for trouble in text.splitlines())
        lines.extend(f"  {difference}" for difference in worker.get("references", ()))
        lines.extend(
            f"  {in_quarantine(name, entry)}"
            for name, entry in worker.get("models", {}).items()
            if "quarantine" in entry
        )
        lines.extend(_partition(number, one) for number, one in worker["partitions"].items())
    return "\n".join(lines)
