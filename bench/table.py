"""The results as tables: on the terminal, and in the README."""

from __future__ import annotations

from typing import Any

from driftline.bench.speed.scale import SIZES

RATIOS = {
    "core_fold_vs_river": ("fold, champion alone / bare River, CPU per flight", "<= 2.5"),
    "fold_vs_river": ("fold, everything on / bare River, CPU per flight", "<= 4.0"),
    "adaptation_vs_champion": (
        "fold with drift manager and promotion among 3 linear challengers, less theirs / champion alone",
        "<= 1.6",
    ),
    "kafka_vs_simulate_cpu": ("simulate / Kafka worker, CPU per event", ">= 0.6"),
    "faust_vs_driftline_cpu": ("plain Faust / driftline, CPU per event", ">= 10"),
    "quix_vs_driftline_cpu": ("Quix Streams / driftline, CPU per event", ">= 2"),
    "bytewax_vs_driftline_cpu": ("bytewax / driftline, CPU per event", ">= 1"),
    "pathway_memory_vs_driftline_cpu": ("Pathway, nothing durable / driftline, CPU per event", ">= 1"),
    "latency_p99_vs_aiokafka_200": ("p99 latency at 200/s / bare aiokafka loop", "<= 1.5"),
    "latency_p99_vs_aiokafka_1000": ("p99 latency at 1,000/s / bare aiokafka loop", ""),
    "exactness_cpu": ("with / without source positions and checkpoints, CPU per event", "<= 1.1"),
    "exactness_latency_p99_200": ("with / without them, p99 latency at 200/s", "<= 1.3"),
    "exactness_latency_p99_1000": ("with / without them, p99 latency at 1,000/s", "<= 1.3"),
    "scrape_latency_p99_200": ("with / without a scrape a second, p99 latency at 200/s", "<= 1.1"),
    "scrape_latency_p99_1000": ("with / without a scrape a second, p99 latency at 1,000/s", "<= 1.1"),
    "gateway_latency_p50": ("p50 latency of one client over HTTP / over the topics", "<= 3"),
    "gateway_latency_p99": ("p99 latency of one client over HTTP / over the topics", "<= 4"),
    "silent_fold_vs_simulate_speed": ("silent fold of a take-over / simulate, events per second", ">= 0.9"),
}
PEERS = {
    "river": "bare River, ready features, no decoding (the limit)",
    "handwritten": "the job by hand, from memory, nothing encoded",
    "simulate_champion": "driftline simulate, champion alone",
    "simulate": "driftline simulate, everything on",
    "driftline_champion": "**driftline, Kafka to Kafka, champion alone**",
    "driftline": "**driftline, Kafka to Kafka, everything on**",
    "driftline_inexact": "driftline, everything on, without source positions and checkpoints",
    "driftline_feast": "driftline, everything on, and Feast online rows",
    "quix_memory": "Quix Streams, windows in a dict (lost on restart)",
    "quix": "Quix Streams, windows in State",
    "bytewax_memory": "bytewax, windows in a dict (lost on restart)",
    "bytewax": "bytewax, windows in stateful steps, snapshots each 10 s",
    "pathway_memory": "Pathway, windows in a dict (lost on restart)",
    "faust_memory": "plain Faust, windows in a dict (lost on restart)",
    "faust": "plain Faust, windows in a table",
}


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, measured, target) for each ratio."""
    ratios = results["ratios"]
    return [
        (text, _number(ratios[name], 2), target) for name, (text, target) in RATIOS.items() if name in ratios
    ]


def peer_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(peer, CPU us per event, events a second), and why rounds have no figure."""
    rows = []
    for name, text in PEERS.items():
        peer = results["peers"].get(name)
        if peer is None:
            continue  # of a bench before there was that peer
        failures = peer.get("failures", [])
        speed = _number(peer["events_per_second"], 0)
        if failures:
            good = len(peer.get("runs_cpu_us_per_event", ()))
            failed = f"{len(failures)} of {good + len(failures)} rounds failed: {_short(failures[0])}"
            speed = f"{speed} ({failed})" if good else f"not measured: {_short(failures[0])}"
        rows.append((text, _number(peer["cpu_us_per_event"], 1), speed))
    return rows


def _short(failure: str) -> str:
    """The beginning of a reason, for a cell of a table."""
    return failure.splitlines()[0][:80].replace("|", "/")


SERVICES = ("driftline", "driftline_scraped", "driftline_inexact", "aiokafka")


def latency_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(service and rate, p50 ms, p99 ms), and the services that failed."""
    latency = results["latency"]
    rows = []
    for name in SERVICES:
        found = dict(latency.get(name, {}))
        failure = found.pop("failure", latency.get("failure"))
        rows += [
            (f"{name} at {rate}/s", _number(figures["p50_ms"], 1), _number(figures["p99_ms"], 1))
            for rate, figures in found.items()
        ]
        if failure is not None:
            rows.append((f"{name} failed: {_short(failure)}", _number(None, 1), _number(None, 1)))
    return rows + _client_rows(results.get("over_http", {}))


CLIENTS = {"topics": "one client, topic to topic", "gateway": "one client, through the gateway"}


def _client_rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The same of a client that asks when it was answered; none in results from before it was measured."""
    if "failure" in found:
        return [(f"one client failed: {_short(found['failure'])}", _number(None, 1), _number(None, 1))]
    return [
        (text, _number(found[way]["p50_ms"], 1), _number(found[way]["p99_ms"], 1))
        for way, text in CLIENTS.items()
        if way in found
    ]


RECOVERY = {
    "fence_ms": ("silent_fold", "fence of a partition, ms", 1),
    "take_over_ms": ("silent_fold", "take-over of a partition without a checkpoint, ms", 0),
    "silent_fold_events_per_second": ("silent_fold", "silent fold, events per second", 0),
    "simulate_events_per_second": ("silent_fold", "simulate of the same chunks, events per second", 0),
    "kill_to_prediction_seconds": ("kill", "SIGKILL and restart to the next new prediction, s", 1),
    "checkpoint_behind_records": ("kill", "records since the checkpoint then", 0),
    "sigterm_to_exit_seconds": ("kill", "SIGTERM to exit, with a last checkpoint, s", 1),
}
"""By figure: the measurement that it is of, what it is, digits."""


def recovery_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, figure), or why there is none."""
    found = results["recovery"]
    failures = found.get("failures", {})
    return [
        (
            text,
            f"not measured: {_short(failures[part])}"
            if part in failures
            else _number(found.get(name), digits),
        )
        for name, (part, text, digits) in RECOVERY.items()
    ]


def scale_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(size of the payments case, CPU us per event, MB of state), or why there is none."""
    rows = []
    for name, size in SIZES.items():
        found = results["scale"][name]
        if "failure" in found:
            text = f"payments, {size.events:,} events, {size.cards:,} cards"
            rows.append((text, "-", f"not measured: {_short(found['failure'])}"))
        else:
            text = (
                f"payments, {found['events']:,} events, {found['cards']:,} cards, "
                f"{found['open']:,} waiting predictions at the end"
            )
            rows.append((text, _number(found["cpu_us_per_event"], 1), _number(found["resident_mb"], 0)))
    return rows


def stage_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """(stage, CPU us per flight)."""
    return [(stage, _number(us, 1)) for stage, us in results["fold"]["stages_us_per_flight"].items()]


def _sections(results: dict[str, Any]) -> list[tuple[tuple[str, ...], list[Any]]]:
    return [
        (("ratio", "measured", "target"), ratio_rows(results)),
        (("same job, same events", "CPU µs / event", "events / s"), peer_rows(results)),
        (("event produced to prediction consumed", "p50 ms", "p99 ms"), latency_rows(results)),
        *(
            # results of a bench before it was measured have none
            [
                (
                    ("fold of one partition, one model for all, three keys", "CPU µs / event", "MB"),
                    scale_rows(results),
                )
            ]
            if "scale" in results
            else []
        ),
        (("take-over and recovery", "measured"), recovery_rows(results)),
        (("stage of the fold", "CPU µs / flight"), stage_rows(results)),
    ]


def _versions(versions: dict[str, str | None]) -> str:
    named = ", ".join(f"{name} {found}" for name, found in versions.items() if found is not None)
    return f"Versions: {named}."


def markdown(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    lines = [
        f"{results['events']:,} events of the flights case ({results['predictions']:,} flights), "
        f"Python {results['machine']['python']}, {results['machine']['cores']} cores shared with the "
        "broker. Medians of the runs; of the fold and bare River, the least of each twelfth of the log.",
        _versions(results["versions"]),
        "",
    ]
    for header, rows in _sections(results):
        lines.append(f"| {' | '.join(header)} |")
        lines.append("|---|" + "---:|" * (len(header) - 1))
        lines.extend(f"| {' | '.join(row)} |" for row in rows)
        lines.append("")
    return "\n".join(lines)


def show(results: dict[str, Any]) -> None:
    """Print the tables to standard error."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    for header, rows in _sections(results):
        table = Table(*header)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            table.add_row(*(cell.replace("**", "") for cell in row))
        console.print(table)
