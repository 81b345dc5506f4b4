"""Drift as a managed system: many monitors, one budget of false alarms, one incident at a time.

`Monitoring` declares it, `DriftManager` watches one pool.
"""

from driftline.online_models.drift.incidents import Drift, SuspectStream
from driftline.online_models.drift.monitoring import Monitoring
from driftline.online_models.drift.spans import BlockSpan
from driftline.online_models.drift.surveillance import DriftManager

__all__ = [
    "BlockSpan",
    "Drift",
    "DriftManager",
    "Monitoring",
    "SuspectStream",
]
