"""The metrics of one partition that is served."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from driftline.streams.fold.processor import added
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.status.metrics import Readings

_RESULTS = {
    "accepted": "events",
    "refused": "dead_letters",
    "refused in warm-up": "refused_in_warm_up",
    "duplicate": "duplicates",
    "late": "late",
    "misplaced": "misplaced",
}
"""What can become of a record, and the count of it. One that is late or misplaced is refused, too."""
_STATUSES = ("labelled", "unlabelled", "void")


def add_partition(readings: Readings, number: str, owned: OwnedPartition, log_end: int | None) -> None:
    """Add what a partition has come to; `number` is what messages call it, `log_end` the offset after the
    last record of its topic."""
    tally, fold = owned.tally, owned.processor
    counts = added([fold.counts()])
    for result, name in _RESULTS.items():
        readings.set("records", counts[name], number, result)
    for kind, count in fold.accepted.items():
        readings.set("events", count - tally.accepted_before[kind], number, kind)
    for status in _STATUSES:
        readings.set("outcomes", counts[status], number, status)
    readings.set("predictions", counts["predictions"], number)
    readings.set("unmatched_labels", counts["unmatched"], number)
    readings.set("evicted_keys", counts["evicted_keys"], number)
    for windows, keys in fold.window_keys.items():
        readings.set("window_keys", keys, number, windows)
    readings.set("pending_predictions", counts["pending"], number)
    readings.set("warming_up", float(fold.warming), number)
    readings.set("fold_seconds", tally.fold_seconds, number)
    for stage, count in tally.dead_letters.items():
        readings.set("dead_letters", count, number, stage)
    for (kind, severity), count in tally.drift_events.items():
        readings.set("drift_events", count, number, kind, severity)
    for kind, count in tally.model_changes.items():
        readings.set("model_changes", count, number, kind)
    readings.set("folded_offset", owned.acknowledged, number)
    if fold.max_at is not None:
        readings.set("event_time_seconds", fold.max_at, number)
        readings.set("event_time_delay_seconds", time.time() - fold.max_at, number)
    if log_end is not None:
        lag = max(0, log_end - owned.acknowledged)
        readings.set("lag_records", lag, number)
        if not lag:
            readings.set("lag_seconds", 0.0, number)
        elif tally.appended_at >= 0:
            readings.set("lag_seconds", max(0.0, time.time() - tally.appended_at / 1000.0), number)


def add_checkpoints(readings: Readings, number: str, status: Mapping[str, Any]) -> None:
    """Add what a partition's status says of its checkpoints."""
    if "checkpoint" in status:
        newest = status["checkpoint"]
        readings.set("checkpoint_age_seconds", newest["age_seconds"], number)
        readings.set("checkpoint_bytes", newest["bytes"], number)
        readings.set("checkpoint_cpu_seconds", newest["cpu_seconds"], number)
    readings.set("checkpoint_failing_seconds", status.get("checkpoint_failing_seconds", 0.0), number)
