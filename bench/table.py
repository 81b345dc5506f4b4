"""The results as tables: on the terminal, and in the README."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"

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
    "latency_p99_vs_aiokafka_200": ("p99 latency at 200/s / bare aiokafka loop", "<= 1.5"),
    "latency_p99_vs_aiokafka_1000": ("p99 latency at 1,000/s / bare aiokafka loop", ""),
    "exactness_cpu": ("with / without source positions and checkpoints, CPU per event", "<= 1.1"),
    "exactness_latency_p99_200": ("with / without them, p99 latency at 200/s", "<= 1.3"),
    "exactness_latency_p99_1000": ("with / without them, p99 latency at 1,000/s", "<= 1.3"),
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
    "faust_memory": "plain Faust, windows in a dict (lost on restart)",
    "faust": "plain Faust, windows in a table",
}


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, measured, target) for each ratio."""
    ratios = results["ratios"]
    return [(text, _number(ratios[name], 2), target) for name, (text, target) in RATIOS.items()]


def peer_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(peer, CPU us per event, events a second), or the reason why there is no figure."""
    rows = []
    for name, text in PEERS.items():
        peer = results["peers"][name]
        reason = peer.get("reason")
        speed = (
            f"not measured: {reason.splitlines()[0][:80]}"
            if reason
            else _number(peer["events_per_second"], 0)
        )
        rows.append((text, _number(peer["cpu_us_per_event"], 1), speed))
    return rows


def latency_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(service and rate, p50 ms, p99 ms)."""
    return [
        (f"{name} at {rate}/s", _number(found["p50_ms"], 1), _number(found["p99_ms"], 1))
        for name, rates in results["latency"].items()
        if name != "reason"
        for rate, found in rates.items()
    ]


RECOVERY = {
    "fence_ms": ("fence of a partition, ms", 1),
    "take_over_ms": ("take-over of a partition without a checkpoint, ms", 0),
    "silent_fold_events_per_second": ("silent fold, events per second", 0),
    "simulate_events_per_second": ("simulate of the same chunks, events per second", 0),
    "kill_to_prediction_seconds": ("SIGKILL and restart to the next new prediction, s", 1),
    "checkpoint_behind_records": ("records since the checkpoint then", 0),
    "sigterm_to_exit_seconds": ("SIGTERM to exit, with a last checkpoint, s", 1),
}


def recovery_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, figure)."""
    found = results["recovery"]
    return [(text, _number(found.get(name), digits)) for name, (text, digits) in RECOVERY.items()]


def stage_rows(results: dict[str, Any]) -> list[tuple[str, str]]:
    """(stage, CPU us per flight)."""
    return [(stage, _number(us, 1)) for stage, us in results["fold"]["stages_us_per_flight"].items()]


def _sections(results: dict[str, Any]) -> list[tuple[tuple[str, ...], list[Any]]]:
    return [
        (("ratio", "measured", "target"), ratio_rows(results)),
        (("same job, same events", "CPU µs / event", "events / s"), peer_rows(results)),
        (("event produced to prediction consumed", "p50 ms", "p99 ms"), latency_rows(results)),
        (("take-over and recovery", "measured"), recovery_rows(results)),
        (("stage of the fold", "CPU µs / flight"), stage_rows(results)),
    ]


def markdown(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    lines = [
        f"{results['events']:,} events of the flights case ({results['predictions']:,} flights), "
        f"Python {results['machine']['python']}, {results['machine']['cores']} cores shared with the "
        "broker. Medians of the runs; of the fold and bare River, the least of each twelfth of the log.",
        "",
    ]
    for header, rows in _sections(results):
        lines.append(f"| {' | '.join(header)} |")
        lines.append("|---|" + "---:|" * (len(header) - 1))
        lines.extend(f"| {' | '.join(row)} |" for row in rows)
        lines.append("")
    return "\n".join(lines)


def write_readme(results: dict[str, Any], path: Path) -> bool:
    """Put the tables between the markers of a README; False when it has no markers."""
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        return False
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    path.write_text(f"{before}{BEGIN}\n{markdown(results)}{END}{after}", encoding="utf-8")
    return True


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
