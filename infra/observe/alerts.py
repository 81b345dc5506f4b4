"""Alert rules over the metrics of workers, gateways and the auditor, each with an example that fires it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from driftline.infra.observe.measures import ALL_MEASURES


def _series(name: str) -> str:
    """The name of a measure's series in Prometheus."""
    return ALL_MEASURES[name].series


class Alert(NamedTuple):
    """One alert. It fires when the PromQL expression `expr` has been true for `lasts`.

    `example` are series and their values, a minute apart in promtool's notation, for which it fires within
    two hours.
    """

    name: str
    expr: str
    lasts: str
    severity: str
    summary: str
    example: Mapping[str, str]


_P = 'case="orders",partition="0",topic="events"'
_AUDITED = 'case="orders",partition="0"'

_LEARNER = 'case="orders",partition="examples/0",topic="examples"'


def _older_than_declared(unit: str) -> str:
    """Where the pool of the newest answer is far older than a learner may leave it."""
    allowed = f"3 * max by (case) ({_series(f'replica_publish_every_{unit}')})"
    return f"{_series(f'replica_staleness_{unit}')} > on (case) group_left () {allowed}"


def _in_an_hour(counter: str) -> str:
    """By how much a counter of a case grew in the last hour."""
    return f"sum by (case) (increase({_series(counter)}[1h]))"


ALERTS = (
    Alert(
        "DriftlinePartitionNotServed",
        f'max by (case, partition, state) ({_series("partition_state")}{{state!="serving"}}) > 0',
        "5m",
        "page",
        "{{ $labels.case }}, partition {{ $labels.partition }}: {{ $labels.state }}, no request is answered",
        {f'{_series("partition_state")}{{{_P},state="refused"}}': "1x120"},
    ),
    Alert(
        "DriftlineLagging",
        f"{_series('lag_seconds')} > 60",
        "5m",
        "page",
        "{{ $labels.case }}, partition {{ $labels.partition }}: requests wait for {{ $value }} s",
        {f"{_series('lag_seconds')}{{{_P}}}": "300x120"},
    ),
    Alert(
        "DriftlineStandsStill",
        f"{_series('lag_records')} > 0 and delta({_series('folded_offset')}[5m]) == 0",
        "2m",
        "page",
        "{{ $labels.case }}, partition {{ $labels.partition }}: records wait, and none is answered",
        {f"{_series('lag_records')}{{{_P}}}": "5x120", f"{_series('folded_offset')}{{{_P}}}": "100x120"},
    ),
    Alert(
        "DriftlineNotProvable",
        f"{_series('audit_differences')} > 0",
        "0m",
        "page",
        "{{ $labels.case }}, partition {{ $labels.partition }}: published records differ from the log's fold",
        {f"{_series('audit_differences')}{{{_AUDITED}}}": "0x10 1x110"},
    ),
    Alert(
        "DriftlineAuditLagging",
        f"{_series('audit_lag_records')} > 100000",
        "1h",
        "ticket",
        "{{ $labels.case }}, partition {{ $labels.partition }}: the audit is {{ $value }} offsets behind",
        {f"{_series('audit_lag_records')}{{{_AUDITED}}}": "200000x120"},
    ),
    Alert(
        "DriftlineCheckpointsFail",
        f"{_series('checkpoint_failing_seconds')} > 600",
        "5m",
        "ticket",
        "{{ $labels.case }}, partition {{ $labels.partition }}: no checkpoint for {{ $value }} s, so that a "
        "restart takes longer",
        {f"{_series('checkpoint_failing_seconds')}{{{_P}}}": "0+60x120"},
    ),
    Alert(
        "DriftlineOnlineStoreFails",
        f"{_series('feature_writes_failing_seconds')} > 60",
        "2m",
        "ticket",
        "{{ $labels.case }}: the online store has taken no rows for {{ $value }} s, so that readers get old "
        "features",
        {f'{_series("feature_writes_failing_seconds")}{{case="orders"}}': "0+60x120"},
    ),
    Alert(
        "DriftlineOnlineStoreUnreadable",
        f'sum by (case) (rate({_series("feature_reads")}{{result="failed"}}[5m])) > 0',
        "2m",
        "page",
        "{{ $labels.case }}: the gateway cannot read the online store, and answers 503",
        {f'{_series("feature_reads")}{{case="orders",result="failed",view="orders_by_shop"}}': "0+6x120"},
    ),
    Alert(
        "DriftlineDeadLetters",
        f'sum by (case) (rate({_series("dead_letters")}{{stage!~"range|ahead"}}[15m]))'
        f" > 0.01 * sum by (case) (rate({_series('records')}[15m]))",
        "15m",
        "ticket",
        "{{ $labels.case }}: more than one record in a hundred is refused (driftline dead-letters list)",
        {
            f'{_series("dead_letters")}{{{_P},stage="decode"}}': "0+60x120",
            f'{_series("records")}{{{_P},result="accepted"}}': "0+600x120",
        },
    ),
    Alert(
        "DriftlineMisplaced",
        f'sum by (case) (increase({_series("records")}{{result="misplaced"}}[15m])) > 0',
        "0m",
        "ticket",
        "{{ $labels.case }}: records of a producer with another partitioner than Kafka's are refused",
        {f'{_series("records")}{{{_P},result="misplaced"}}': "0x10 1+1x110"},
    ),
    Alert(
        "DriftlineLabelsUnmatched",
        f"{_in_an_hour('unmatched_labels')} > 100"
        f" and {_in_an_hour('unmatched_labels')} > {_in_an_hour('matched_labels')}",
        "15m",
        "ticket",
        "{{ $labels.case }}: {{ $value }} labels found no request in an hour, more than found one",
        {
            f"{_series('unmatched_labels')}{{{_P}}}": "0+10x120",
            f"{_series('matched_labels')}{{{_P}}}": "0+1x120",
        },
    ),
    Alert(
        "DriftlineNoLabels",
        f'sum by (case) (increase({_series("outcomes")}{{status="unlabelled"}}[6h])) > 100'
        f' unless sum by (case) (increase({_series("outcomes")}{{status!="unlabelled"}}[6h])) > 0',
        "15m",
        "ticket",
        "{{ $labels.case }}: no prediction has got a label for 6 hours, in which {{ $value }} waits ended",
        {
            f'{_series("outcomes")}{{{_P},status="unlabelled"}}': "0+10x120",
            f'{_series("outcomes")}{{{_P},status="labelled"}}': "500x120",
        },
    ),
    Alert(
        "DriftlineReplicasStale",
        f"({_older_than_declared('labels')}) or ({_older_than_declared('seconds')} and"
        f" {_series('replica_staleness_labels')} > 0)",
        "10m",
        "ticket",
        "{{ $labels.case }}: replicas answer by a pool three times as old as publish_every allows",
        {
            f"{_series('replica_staleness_labels')}{{{_LEARNER}}}": "5000x120",
            f'{_series("replica_publish_every_labels")}{{case="orders"}}': "1000x120",
        },
    ),
    Alert(
        "DriftlineDrift",
        f"sum by (case, kind) ({_series('open_incidents')}) > 0",
        "0m",
        "ticket",
        "{{ $labels.case }}: {{ $labels.kind }} in {{ $value }} pools (driftline drift tail)",
        {f'{_series("open_incidents")}{{case="orders",kind="concept drift"}}': "0x10 1x110"},
    ),
    Alert(
        "DriftlineQuarantine",
        f"sum by (case, member) ({_series('model_quarantined')}) > 0",
        "0m",
        "ticket",
        "{{ $labels.case }}: the member {{ $labels.member }} is in quarantine (driftline status says why)",
        {f'{_series("model_quarantined")}{{case="orders",member="trees"}}': "0x10 1x110"},
    ),
    Alert(
        "DriftlineTopicSettings",
        f"sum by (case) ({_series('topic_troubles')}) > 0",
        "0m",
        "ticket",
        "{{ $labels.case }}: settings of its topics break a guarantee (driftline status says which)",
        {f'{_series("topic_troubles")}{{case="orders"}}': "0x10 1x110"},
    ),
)


def rules() -> dict[str, object]:
    """The alert rules, as Prometheus reads them."""
    return {
        "groups": [
            {
                "name": "driftline",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expr,
                        "for": alert.lasts,
                        "labels": {"severity": alert.severity},
                        "annotations": {"summary": alert.summary},
                    }
                    for alert in ALERTS
                ],
            }
        ]
    }
