"""After which errors a partition is taken over again, as after a failed send, and after which pause."""

from __future__ import annotations

from driftline.errors import StateUnreadable
from driftline.streams.errors import StreamsError
from driftline.streams.records.ports import AppendFailed, BrokerSilent, Fenced, RecordsMissing

RETRY_AFTER = 1.0
"""Seconds before a partition is taken over again after a failed send, or another error that may pass."""
FENCED_PAUSE = 3.0
"""Seconds before a fenced partition is taken over again: a worker that was away learns from its next
heartbeat that the partition is another's."""


def pause_after(error: Exception) -> float | None:
    """Seconds until a partition is taken over again after an error; None if it is to be refused, as it could
    lose or repeat something."""
    if isinstance(error, Fenced):
        return FENCED_PAUSE
    if isinstance(error, (AppendFailed, BrokerSilent, RecordsMissing, StateUnreadable)):
        # records were deleted while they were read: a new take-over reports what that means; a state that is
        # not whole any more is left for the one of a checkpoint
        return RETRY_AFTER
    if isinstance(error, StreamsError):
        return None
    return RETRY_AFTER if is_broker_trouble(error) else None


def is_broker_trouble(error: Exception) -> bool:
    """Whether a retry may help."""
    from aiokafka.errors import KafkaError

    return isinstance(error, (BrokerSilent, KafkaError, OSError, TimeoutError))
