"""Counts of what a worker has published of a partition since it was given it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from driftline.streams.records.outputs import Output


class _Kind(msgspec.Struct):
    """The fields of a drift event or a model event that it is counted by."""

    kind: str = ""
    severity: str = ""


_read_kind = msgspec.json.Decoder(_Kind).decode


@dataclass(slots=True)
class PublishedTally:
    """What a worker published of a partition, for its metrics: dead letters by stage, drift events by kind
    and severity, changes of models by kind. What is folded again at a take-over and was published before is
    not counted again. `appended_at` is the append time of the newest record answered, in ms, negative
    without. `fold_seconds` is CPU since serving began, `accepted_before` are the events, by type, that the
    fold had accepted then, and `matched_before` the labels that had found a prediction."""

    accepted_before: Counter[str] = field(default_factory=Counter)
    matched_before: int = 0
    fold_seconds: float = 0.0
    appended_at: int = -1
    dead_letters: Counter[str] = field(default_factory=Counter)
    drift_events: Counter[tuple[str, str]] = field(default_factory=Counter)
    model_changes: Counter[str] = field(default_factory=Counter)

    def continues(self, before: PublishedTally) -> None:
        """Add what this worker's owner before has published."""
        self.dead_letters += before.dead_letters
        self.drift_events += before.drift_events
        self.model_changes += before.model_changes

    def serving_begins(self, accepted: Mapping[str, int], matched: int) -> None:
        """All that was in the log at the take-over is folded; `accepted` are its events, by type, and
        `matched` is how many of its labels found a prediction."""
        self.accepted_before = Counter(accepted)
        self.matched_before = matched
        self.fold_seconds = 0.0

    def published(self, appended: Mapping[str, Sequence[Output]]) -> None:
        """These outputs, by kind, were acknowledged."""
        for letter in appended.get("dead_letters", ()):
            self.dead_letters[dict(letter.headers)["stage"].decode()] += 1
        for drift in appended.get("drift", ()):
            event = _read_kind(drift.value)
            self.drift_events[event.kind, event.severity] += 1
        for change in appended.get("models", ()):
            self.model_changes[_read_kind(change.value).kind] += 1
