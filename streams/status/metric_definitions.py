"""The metrics of a worker: their names, types, labels and meanings.

What is declared here is what a scrape has, and what dashboards and alert rules may name. Counters that follow
from the log alone have the same value in whichever worker serves the partition, so that their sums over
workers do not jump when a partition moves. The others count what this worker has published since the
partition was assigned to it, or has done since it serves.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

PREFIX = "driftline_"


class Measure(NamedTuple):
    """One metric. `name` is without prefix and suffix; `labels` are those beside the case."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> str:
        """Its name in a scrape."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


_OF_A_PARTITION = ("partition", "topic")
"""What messages call the partition, and which of the case's topics it is of: `events` is the log, the others
are those of the stages behind it."""

MEASURES = {
    measure.name: measure
    for measure in (
        Measure(
            "records", "counter", "Records of the log by their result: follows from the log",
            (*_OF_A_PARTITION, "result"),
        ),
        Measure(
            "events", "counter", "Events accepted since it serves, by type", (*_OF_A_PARTITION, "type")
        ),
        Measure("predictions", "counter", "Requests answered: follows from the log", _OF_A_PARTITION),
        Measure(
            "outcomes", "counter", "Predictions closed, by how: follows from the log",
            (*_OF_A_PARTITION, "status"),
        ),
        Measure(
            "matched_labels", "counter", "Labels, voids and corrections with a prediction, since it serves",
            _OF_A_PARTITION,
        ),
        Measure(
            "unmatched_labels", "counter", "Labels, voids and corrections without a prediction: from the log",
            _OF_A_PARTITION,
        ),
        Measure(
            "evicted_keys", "counter", "Keys of windows that had to go for others: follows from the log",
            _OF_A_PARTITION,
        ),
        Measure(
            "window_keys", "gauge", "Keys that the windows of an event hold, all by the same added",
            (*_OF_A_PARTITION, "windows"),
        ),
        Measure(
            "dead_letters", "counter", "Dead letters published since the assignment, by what refused",
            (*_OF_A_PARTITION, "stage"),
        ),
        Measure(
            "drift_events", "counter", "Drift events published since the assignment",
            (*_OF_A_PARTITION, "kind", "severity"),
        ),
        Measure(
            "model_changes", "counter", "Published changes of what serves or learns, since the assignment",
            (*_OF_A_PARTITION, "kind"),
        ),
        Measure(
            "take_overs", "counter", "Take-overs by this process, by reason", (*_OF_A_PARTITION, "reason")
        ),
        Measure("checkpoint_bytes", "gauge", "Size of the newest checkpoint", _OF_A_PARTITION),
        Measure("checkpoint_cpu_seconds", "gauge", "CPU that the newest checkpoint took", _OF_A_PARTITION),
        Measure("fold_seconds", "counter", "Seconds of CPU in the fold since it serves", _OF_A_PARTITION),
        Measure("partition_state", "gauge", "1 for the state that an assigned partition is in",
                (*_OF_A_PARTITION, "state")),
        Measure("folded_offset", "gauge", "First offset that is not answered yet", _OF_A_PARTITION),
        Measure("lag_records", "gauge", "Offsets in the log that are not answered yet", _OF_A_PARTITION),
        Measure(
            "lag_seconds", "gauge", "Age of the newest answered record while others wait, else 0",
            _OF_A_PARTITION,
        ),
        Measure("event_time_seconds", "gauge", "Event time, as seconds since the epoch", _OF_A_PARTITION),
        Measure("event_time_delay_seconds", "gauge", "Seconds from the newest event time to now",
                _OF_A_PARTITION),
        Measure("pending_predictions", "gauge", "Predictions that wait for a label", _OF_A_PARTITION),
        Measure("warming_up", "gauge", "1 during a warm-up, in which nothing is answered", _OF_A_PARTITION),
        Measure(
            "model_staleness_records", "gauge", "Offsets since the newest label that a model learned from",
            _OF_A_PARTITION,
        ),
        Measure("state_bytes", "gauge", "Memory of the state at the newest checkpoint, by what it holds",
                (*_OF_A_PARTITION, "kind")),
        Measure("state_disk_bytes", "gauge", "Files of the state at the newest checkpoint, by what they hold",
                (*_OF_A_PARTITION, "kind")),
        Measure("replica_staleness_labels", "gauge",
                "Labels that the learner has learned since the pool of the newest answer", _OF_A_PARTITION),
        Measure("replica_staleness_seconds", "gauge",
                "Event time from the pool of the newest answer to its request", _OF_A_PARTITION),
        Measure("replica_publish_every_labels", "gauge",
                "Labels after which a learner publishes its pool, where they are declared"),
        Measure("replica_publish_every_seconds", "gauge",
                "Event time after which a learner publishes its pool, where it is declared"),
        Measure("checkpoint_age_seconds", "gauge", "Age of the newest checkpoint of this process",
                _OF_A_PARTITION),
        Measure("checkpoint_failing_seconds", "gauge", "For how long no checkpoint can be stored, else 0",
                _OF_A_PARTITION),
        Measure("pools", "gauge", "Pools of models by the state of their drift monitors", ("state",)),
        Measure("open_incidents", "gauge", "Confirmed drift incidents that are not over, by kind", ("kind",)),
        Measure(
            "drift_subjects", "gauge",
            "In what incidents show before they are over: how many, by kind and state",
            ("subject", "state"),
        ),
        Measure("model_quality", "gauge", "Figures of a member's answers: of all labels, and fading",
                ("member", "figure", "over")),
        Measure("model_failures", "counter", "Answers that a member failed to give: follows from the log",
                (*_OF_A_PARTITION, "member")),
        Measure("model_quarantined", "gauge", "1 while a member is in quarantine somewhere", ("member",)),
        Measure("model_serving_pools", "gauge", "Pools that a member serves", ("member",)),
        Measure("feature_rows_written", "counter", "Rows that this process wrote to the online store"),
        Measure("feature_rows_waiting", "gauge", "Rows that wait to be written to the online store"),
        Measure("feature_writes_failing_seconds", "gauge", "For how long no rows can be written, else 0"),
        Measure("topic_troubles", "gauge", "Settings of topics that break a guarantee"),
    )
}  # fmt: skip
"""By name."""
