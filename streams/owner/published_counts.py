"""Counts of what one owner of a partition has published since it began to serve."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from driftline.streams.records.outputs import Outputs
from driftline.streams.records.ports import StoredRecord


class _Kind(msgspec.Struct):
    """The fields of a drift event or a model event that it is counted by."""

    kind: str = ""
    severity: str = ""


_read_kind = msgspec.json.Decoder(_Kind).decode


@dataclass(slots=True)
class PublishedTally:
    """What one owner of a partition published, for its metrics: dead letters by stage, drift events by kind
    and severity, changes of models by kind. `fold_seconds` is CPU; `appended_at` is the append time of the
    newest record answered, in ms, negative without. `accepted_before` are the events, by type, that the fold
    had accepted when this began."""

    accepted_before: Counter[str] = field(default_factory=Counter)
    fold_seconds: float = 0.0
    appended_at: int = -1
    dead_letters: Counter[str] = field(default_factory=Counter)
    drift_events: Counter[tuple[str, str]] = field(default_factory=Counter)
    model_changes: Counter[str] = field(default_factory=Counter)

    def published(self, last: StoredRecord, out: Outputs) -> None:
        """The outputs of records up to `last` were acknowledged."""
        self.appended_at = last.timestamp
        for letter in out.dead_letters:
            self.dead_letters[dict(letter.headers)["stage"].decode()] += 1
        for drift in out.drift:
            event = _read_kind(drift.value)
            self.drift_events[event.kind, event.severity] += 1
        for change in out.models:
            self.model_changes[_read_kind(change.value).kind] += 1
