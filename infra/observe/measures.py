"""All metrics that the dashboard and the alert rules may use."""

from __future__ import annotations

from driftline.infra.gateway.metrics import GATEWAY_MEASURES
from driftline.infra.proof.audit_metrics import AUDIT_MEASURES
from driftline.streams.status.metric_definitions import MEASURES

ALL_MEASURES = MEASURES | AUDIT_MEASURES | GATEWAY_MEASURES
"""The measures of workers, the auditor and gateways, by name."""
