"""All metrics that dashboard and alert rules may name."""

from __future__ import annotations

from driftline.infra.gateway.metrics import GATEWAY_MEASURES
from driftline.infra.proof.audit_metrics import AUDIT_MEASURES
from driftline.streams.status.metric_definitions import MEASURES

ALL_MEASURES = MEASURES | AUDIT_MEASURES | GATEWAY_MEASURES
"""Those of workers, of the auditor and of gateways, by name."""
