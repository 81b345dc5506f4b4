"""The metrics of one partition that is served."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from driftline.streams.fold.processor import added
from driftline.streams.owner.owned_partition import OwnedPartition
from driftline.streams.status.metrics import PartitionLabels, Readings

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


def add_partition(
    readings: Readings, where: PartitionLabels, owned: OwnedPartition, log_end: int | None
) -> None:
    """Add what a partition has come to; `log_end` is the offset after the
    last record of its topic."""
    tally, fold = owned.tally, owned.processor
    counts = added([fold.counts()])
    for result, name in _RESULTS.items():
        readings.set("records", counts[name], *where, result)
    for kind, count in fold.accepted.items():
        readings.set("events", count - tally.accepted_before[kind], *where, kind)
    for status in _STATUSES:
        readings.set("outcomes", counts[status], *where, status)
    readings.set("predictions", counts["predictions"], *where)
    readings.set("matched_labels", fold.labels.matched - tally.matched_before, *where)
    readings.set("unmatched_labels", counts["unmatched"], *where)
    readings.set("evicted_keys", counts["evicted_keys"], *where)
    for windows, keys in fold.window_keys.items():
        readings.set("window_keys", keys, *where, windows)
    readings.set("pending_predictions", counts["pending"], *where)
    readings.set("warming_up", float(fold.warming), *where)
    readings.set("fold_seconds", tally.fold_seconds, *where)
    for stage, count in tally.dead_letters.items():
        readings.set("dead_letters", count, *where, stage)
    for (kind, severity), count in tally.drift_events.items():
        readings.set("drift_events", count, *where, kind, severity)
    for kind, count in tally.model_changes.items():
        readings.set("model_changes", count, *where, kind)
    readings.set("folded_offset", owned.acknowledged, *where)
    if (staleness := fold.staleness) is not None:
        readings.set("replica_staleness_labels", staleness.labels, *where)
        if staleness.seconds is not None:
            readings.set("replica_staleness_seconds", staleness.seconds, *where)
    if fold.max_at is not None:
        readings.set("event_time_seconds", fold.max_at, *where)
        readings.set("event_time_delay_seconds", time.time() - fold.max_at, *where)
    if log_end is not None:
        lag = max(0, log_end - owned.answered_to)
        readings.set("lag_records", lag, *where)
        if not lag:
            readings.set("lag_seconds", 0.0, *where)
        elif tally.appended_at >= 0:
            readings.set("lag_seconds", max(0.0, time.time() - tally.appended_at / 1000.0), *where)


def add_checkpoints(readings: Readings, where: PartitionLabels, status: Mapping[str, Any]) -> None:
    """Add what a partition's status says of its checkpoints."""
    if "checkpoint" in status:
        newest = status["checkpoint"]
        readings.set("checkpoint_age_seconds", newest["age_seconds"], *where)
        readings.set("checkpoint_bytes", newest["bytes"], *where)
        readings.set("checkpoint_cpu_seconds", newest["cpu_seconds"], *where)
    for name, size in status.get("sizes", {}).items():
        readings.set("state_bytes", size["count"] * size["bytes_each"], *where, name)
        readings.set("state_disk_bytes", size["count"] * size["disk_bytes_each"], *where, name)
    readings.set("checkpoint_failing_seconds", status.get("checkpoint_failing_seconds", 0.0), *where)
