"""The references of one kind, by key. Each is looked up as of a request's time."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from driftline.features.state.reference_tally import Tally


class Versions(NamedTuple):
    """The references of one key: ascending times in seconds, and the reference that is valid from each on."""

    ats: list[float]
    facts: list[Any]


@dataclass(slots=True)
class ReferencesState:
    """References by key, and a heap of when to check whether references of a key can be dropped: (time, a
    counter, so that keys are never compared, key)."""

    known: dict[Any, Versions] = field(default_factory=dict)
    due: list[tuple[float, int, Any]] = field(default_factory=list)
    count: int = 0


class References:
    """References of one event type by one of its fields.

    A reference is valid from its own time until the time of the next one, and for at most `ttl` seconds. Of
    two with the same time, the one that arrived later counts. References that no request at or after the
    watermark can read are dropped.
    """

    def __init__(self, ttl: float) -> None:
        self.ttl = ttl
        self.state = ReferencesState()
        self.tally = Tally(ttl)

    def keep_for(self, ttl: float) -> None:
        """Keep references for at least `ttl` seconds. Call it before the first reference."""
        self.ttl = max(self.ttl, ttl)
        self.tally = Tally(self.ttl)

    def restore(self, state: ReferencesState) -> None:
        """Continue from a stored state."""
        self.state = state
        self.tally.count((key, known.ats[-1]) for key, known in state.known.items())

    def put(self, key: Any, at: float, fact: Any) -> None:
        """Add a reference of this key, valid from `at` (seconds) on."""
        known = self.state.known.get(key)
        if known is None:
            known = self.state.known[key] = Versions([], [])
        ats, facts = known
        if not ats or at > ats[-1]:
            self.tally.move(key, ats[-1] if ats else None, at)
        place = bisect_right(ats, at)
        if place and ats[place - 1] == at:
            facts[place - 1] = fact
            return
        ats.insert(place, at)
        facts.insert(place, fact)
        # the newest reference ends the one before it; an older one ends at the next
        self._look_at(key, at + self.ttl if len(ats) == 1 else ats[min(place + 1, len(ats) - 1)])

    def _look_at(self, key: Any, when: float) -> None:
        if when != float("inf"):
            self.state.count += 1
            heapq.heappush(self.state.due, (when, self.state.count, key))

    def find(self, key: Any, at: float) -> tuple[float, Any] | None:
        """The newest reference at `at` with its time; None when there is none."""
        known = self.state.known.get(key)
        if known is None:
            return None
        ats, facts = known
        if ats[-1] <= at:
            return ats[-1], facts[-1]
        place = bisect_right(ats, at) - 1
        return (ats[place], facts[place]) if place >= 0 else None

    def retain(self, watermark: float) -> None:
        """Drop references that no request at or after the watermark (seconds) can find."""
        due = self.state.due
        keys: dict[Any, None] = {}
        while due and due[0][0] < watermark:
            keys[heapq.heappop(due)[2]] = None
        for key in keys:
            known = self.state.known.get(key)
            if known is not None:
                self._tidy(key, known, watermark)

    def _tidy(self, key: Any, known: Versions, watermark: float) -> None:
        ats, facts = known
        newest = ats[-1]
        ended = max(0, bisect_right(ats, watermark) - 1)
        if ats[ended] + self.ttl < watermark:
            ended += 1
        del ats[:ended], facts[:ended]
        if ats:
            self._look_at(key, ats[1] if len(ats) > 1 else ats[0] + self.ttl)
        else:
            del self.state.known[key]
            self.tally.move(key, newest, None)

    def __len__(self) -> int:
        """How many references are kept."""
        return sum(len(known.ats) for known in self.state.known.values())
