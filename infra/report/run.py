"""The report of one run: made from what the topics hold and what was seen of the worker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from driftline.atomic_file import replacing
from driftline.infra.report import adaptation, run_charts
from driftline.infra.report.members import gains, member_styles, member_table, tiles
from driftline.infra.report.page import render
from driftline.infra.report.run_records import RunRecords
from driftline.infra.report.samples import Sample

TOTALS = (
    "events", "predictions", "labelled", "unlabelled", "void", "pending", "dead_letters", "duplicates",
    "late", "evicted_keys", "drift_events", "partitions", "seconds", "events_per_second", "cpu_us_per_event",
)  # fmt: skip


def write_report(
    path: Path,
    title: str,
    result: dict[str, Any],
    samples: Sequence[Sample],
    evidence: RunRecords,
    *,
    description: str = "",
    made: datetime | None = None,
) -> None:
    """Write the page, replacing an older one in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(run_page(title, result, samples, evidence, description=description, made=made).encode())


def run_page(
    title: str,
    result: dict[str, Any],
    samples: Sequence[Sample],
    evidence: RunRecords,
    *,
    description: str = "",
    made: datetime | None = None,
) -> str:
    """The whole report as HTML. `result` is the object that `demo --json` prints."""
    samples = sorted(samples, key=lambda s: s.wall)
    styles = member_styles(result["models"])
    champion = next(iter(styles), None)
    return render(
        "run.html",
        title=title,
        description=description,
        span=_span(evidence),
        made=made or datetime.now(UTC),
        tiles=tiles(result),
        gains=gains(result["models"], result["served"]),
        performance=run_charts.performance(samples, evidence.drifts, styles),
        members=member_table(result["models"], styles),
        moves=adaptation.moves(evidence.changes),
        incidents=adaptation.incidents(evidence.drifts, evidence.changes, champion),
        pairs=[
            (run_charts.calibration(evidence), run_charts.biggest_shift(evidence)),
            (run_charts.memory_over_time(samples), run_charts.throughput_over_time(samples)),
        ],
        totals=[(name.replace("_", " "), result[name]) for name in TOTALS if result.get(name) is not None],
        digests=result["digests"],
    )


def _span(evidence: RunRecords) -> str:
    if not math.isfinite(evidence.first_at):
        return "no predictions"
    first, last = (datetime.fromtimestamp(at, UTC) for at in (evidence.first_at, evidence.last_at))
    return f"{first:%-d %B %Y} to {last:%-d %B %Y}"
