"""Event time of one partition: how far it has come, and a guard against wrong clocks."""

from __future__ import annotations

from typing import Literal

NEVER = -1e18
"""Before all event times, in seconds; finite, so that differences stay numbers."""

Verdict = Literal["on time", "late", "future"]


class Watermark:
    """Largest event time seen less the allowed lateness, in seconds.

    An event that would move time by more than `max_jump` is "future" until `quorum` distinct ids
    agree. The start is unconfirmed until `quorum` events lie within `max_jump` of it: an event
    from before then takes it back, so a first event with a wrong clock does not make all others late.
    """

    __slots__ = ("_confirmed", "_jumps", "lateness", "max_at", "max_jump", "quorum", "value")

    def __init__(self, lateness: float, max_jump: float, quorum: int = 3) -> None:
        self.lateness = lateness
        self.max_jump = max_jump
        self.quorum = quorum
        self.max_at = NEVER
        self.value = NEVER
        self._confirmed = 0
        self._jumps: dict[str, float] = {}

    def judge(self, at: float, event_id: str) -> Verdict:
        """What the event's time says of it. Nothing moves: that is for `advance`, once the event is
        accepted; an event from the future leaves its vote behind."""
        if at >= self.max_at:
            if at - self.max_at > self.max_jump and self._confirmed:
                return self._jump(at, event_id)
        elif at < self.value and (self._confirmed >= self.quorum or self.max_at - at <= self.max_jump):
            return "late"
        return "on time"

    def advance(self, at: float) -> None:
        """An event with this time, judged to be on time, is accepted."""
        if at >= self.max_at:
            jumps = at - self.max_at > self.max_jump and self._confirmed
            self.max_at = at
            self.value = at - self.lateness
            if jumps:
                self._jumps.clear()
                return
        elif at < self.value:
            self.max_at = at
            self.value = at - self.lateness
            self._confirmed = 0
        if self._confirmed < self.quorum:
            self._confirmed += 1
        elif self._jumps:
            self._jumps.clear()

    def _jump(self, at: float, event_id: str) -> Verdict:
        jumps = self._jumps
        jumps[event_id] = at
        near = [other for other in jumps.values() if abs(other - at) <= self.max_jump]
        if len(near) >= self.quorum:
            return "on time"
        if len(jumps) >= 8 * self.quorum:
            del jumps[next(iter(jumps))]
        return "future"
