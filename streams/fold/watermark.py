"""Event time of one partition: how far it has moved, and a guard against wrong clocks.

Two rules say whether an event's own time may move the partition's:

- **The broker agrees.** Where the append time of a record is given (live cases), an event that is not ahead
  of it by more than `skew` and is at most `FRESH` old moves time by itself. One that is further ahead is
  "future", whatever other events say.
- **Other events agree.** Elsewhere (history, and what reaches a live case late), an event ahead by more than
  `lateness` and `skew` is taken, but moves time only when the events that follow agree: none of them is back
  at the old time. How many have to follow depends on how unusual so long a step is for this very stream: a
  sixteenth of the events since time last moved about as far, 1 to 32. So a night, a weekend or a month
  between two bills is believed soon where such steps are usual, and one fast clock among many never is.
"""

from __future__ import annotations

from math import inf
from typing import Literal

from driftline.features.state.event_time import NEVER
from driftline.streams.fold.silence import Silence

FRESH = 3600.0
"""Seconds between an event's own time and its append time up to which they confirm each other."""
LONGEST_TRANSIT = 300.0
"""Largest delay of an event, in seconds, that clock events allow for; an event with a longer one needs
lateness."""
TRANSIT_OVER = 256
"""Least number of events over which the longest delay is measured; at most twice as many."""
SHARE = 16
MOST = 32
"""A step needs a SHAREth of the events since time last moved about as far to agree, and MOST at most."""
QUORUM = 3
"""Events that have to agree while nothing is known yet: at the start, and beyond `max_jump`."""
FEW = 8
"""With fewer events since the last such step, a stream may be sparse: one event confirms another."""
SIZES = 48
"""Sizes of steps that are distinguished, by powers of two of seconds: up to 9 million years."""
FROM_THE_START = -NEVER / 2
"""A step of more seconds is that from the start, before which there was no time."""

Timeliness = Literal["on time", "late", "ahead", "future"]


class Watermark:
    """Event time of a partition, and which events are late; all times in seconds. `max_at` is the event time
    reached, `value` that less the `lateness`. `skew` is how far clocks may differ without being wrong. A step
    of more than `max_jump`, longer than any before it, is refused ("future") until `QUORUM` events agree.
    `contradicted` counts events that were ahead of all later ones. After an outage `value` waits for events
    that could not be sent (`driftline.streams.fold.silence`).
    """

    __slots__ = (
        "_bound", "_doubted", "_judged", "_moved", "_reached", "_silence", "_transits", "_unconfirmed",
        "_voters", "contradicted", "lateness", "max_at", "max_jump", "skew", "value",
    )  # fmt: skip

    def __init__(self, lateness: float, max_jump: float, skew: float) -> None:
        self.lateness = lateness
        self.max_jump = max_jump
        self.skew = skew
        self.max_at = NEVER
        self.value = NEVER
        self.contradicted = 0
        self._bound = max(lateness, skew)
        self._judged = 0
        # the count of events when time last moved by so much or more, by the step's size
        self._moved = [0] * SIZES
        self._unconfirmed: list[float] = []
        # the newest of those among them that were accepted
        self._reached = NEVER
        # ids of those among them that were refused: a record that is sent again does not count twice
        self._voters: set[str] = set()
        self._doubted = inf
        # the longest of the latest stretch and of the one before it
        self._transits = [0.0, 0.0]
        self._silence = Silence()

    @property
    def likely(self) -> float:
        """Where time is likely to be: beyond `max_at` where steps as far as those that wait are usual."""
        now = self.max_at
        for at in self._unconfirmed:
            if at > now and self._needed(at - now) < QUORUM:
                now = at
        return now

    @property
    def newest(self) -> float:
        """The newest time of an accepted event that was not contradicted, whether others confirm it or
        not."""
        return max((self.max_at, *self._unconfirmed))

    def judge(self, at: float, event_id: str, appended: float | None = None) -> Timeliness:
        """Judges an event's time. The watermark does not move: `advance` does that, once the event is
        accepted; an event from the future is remembered as a vote. One that is "ahead" is accepted like one
        on time, but resembles one that was contradicted before.
        """
        if at < self.value:
            return "late"
        if appended is not None:
            if at - appended > self.skew:
                return "future"
            if appended - at <= FRESH:
                return "on time"
        step = at - self.max_at
        if step <= self._bound and not self._unconfirmed:
            return "on time"
        # the usual step: too short to be refused, and none of its size was contradicted
        if step <= self.max_jump and self._doubted == inf and not self._voters:
            return "on time"
        return self._judge_ahead(at, event_id)

    def advance(self, at: float, appended: float | None = None) -> None:
        """An event with this time, which was not judged late or from the future, is accepted."""
        self._judged += 1
        if appended is not None:
            self._silence.observe(appended)
        if appended is not None and appended - at <= FRESH:
            self._measure(appended - at)
            self._trust(min(at, appended))
        elif self._unconfirmed or at - self.max_at > self._bound:
            self._wait(at)
            if self._unconfirmed and at > self._reached:
                self._reached = at
        elif at > self.max_at:
            self._come_to(at)

    def is_news(self, at: float, appended: float | None = None) -> bool:
        """Whether a clock event that says `at` would move time."""
        return self._counted(at, appended) > self.max_at

    def take_clock(self, at: float, appended: float | None = None) -> None:
        """Take a clock event, which states that the time is `at`. It counts up to its append time at most,
        less an allowance for events on their way: twice the longest delay of recent events.
        """
        if appended is not None:
            self._silence.observe(appended)
        self._trust(self._counted(at, appended))

    def _counted(self, at: float, appended: float | None) -> float:
        return at if appended is None else min(at, appended) - 2.0 * max(self._transits)

    def is_far_ahead(self, at: float, appended: float | None = None) -> bool:
        """Whether a fact, which moves no time, is more than `max_jump` ahead of the partition's time, or of
        the broker's."""
        now = self.max_at if appended is None else appended
        return now != NEVER and at - now > self.max_jump

    def _judge_ahead(self, at: float, event_id: str) -> Timeliness:
        """Judge an event that is ahead, or that follows such an event."""
        step = at - self.max_at
        waiting = len(self._unconfirmed)
        if waiting and at < self._unconfirmed[0] - self.lateness:
            waiting = 0
        if not waiting and step <= self._bound:
            return "on time"
        first = self._unconfirmed[0] if waiting else at
        if event_id in self._voters:
            return "future"
        if waiting:
            step = at - max(self.max_at, self._reached)
        voters = len(self._voters) if waiting else 0
        if voters + 1 < QUORUM and self._is_too_far(step):
            self._wait(at)
            self._voters.add(event_id)
            return "future"
        if waiting + 1 > self._needed(first - self.max_at):
            return "on time"
        return "ahead" if at >= self._doubted - self._bound else "on time"

    def _wait(self, at: float) -> None:
        """Take an event that is ahead, or that follows such an event. One that is before the first of those
        that wait contradicts them.
        """
        waiting = self._unconfirmed
        if waiting and at < waiting[0] - self.lateness:
            if self.max_at != NEVER:
                self._doubted = waiting[0]
            self.contradicted += len(waiting)
            self._forget()
        if waiting:
            waiting.append(at)
            if len(waiting) > self._needed(waiting[0] - self.max_at):
                self._confirm()
        elif at - self.max_at > self._bound:
            waiting.append(at)  # at least one has to follow
        elif at > self.max_at:
            self._come_to(at)

    def _confirm(self) -> None:
        """The others confirm the first event that waits; they may be ahead of it themselves."""
        waited, reached = self._unconfirmed, self._reached
        self._unconfirmed = []
        self._forget()
        self._doubted = inf
        self._move(waited[0])
        for at in waited[1:]:
            if at >= self.value:
                self._wait(at)
        if self._unconfirmed:
            self._reached = min(reached, max(self._unconfirmed))

    def _forget(self) -> None:
        self._unconfirmed.clear()
        self._reached = NEVER
        if self._voters:
            self._voters.clear()

    def _trust(self, at: float) -> None:
        """Move time to `at`, which is certain."""
        if at > self.max_at:
            self._move(at)
        if self._unconfirmed:
            self._unconfirmed = [other for other in self._unconfirmed if other - self.max_at > self._bound]

    def _move(self, at: float) -> None:
        step = at - self.max_at
        if step > self._bound and self.max_at != NEVER:
            size = _size(step)
            self._moved[: size + 1] = [self._judged] * (size + 1)
        self._come_to(at)

    def _come_to(self, at: float) -> None:
        self.max_at = at
        holds_at = self._silence.holds_at
        value = (at if at < holds_at else holds_at) - self.lateness
        if value > self.value:
            self.value = value

    def _needed(self, step: float) -> int:
        """How many events have to follow one that is ahead by `step` for it to be confirmed."""
        if step > FROM_THE_START:
            return QUORUM - 1
        about_as_far = self._about_as_far(step)
        since = self._judged - about_as_far
        if since < FEW:
            return QUORUM - 1 if about_as_far == 0 and self.max_jump < step < FROM_THE_START else 1
        share = since // SHARE
        if share < QUORUM:
            return QUORUM - 1
        return share if share < MOST else MOST

    def _about_as_far(self, step: float) -> int:
        """The count of events when time last moved by half as much or more; 0 if it never has."""
        return self._moved[_size(step) - 1] if step >= 1.0 else self._moved[0]

    def _is_too_far(self, step: float) -> bool:
        """Whether a step is beyond `max_jump`, and longer than those that time has made before."""
        return self.max_jump < step < FROM_THE_START and self._about_as_far(step) == 0

    def _measure(self, transit: float) -> None:
        """Note an event's delay, unless an outage caused it."""
        if self._silence.holds_at < inf:
            return
        if self._judged % TRANSIT_OVER == 0:
            self._transits = [0.0, self._transits[0]]
        if transit > self._transits[0]:
            self._transits[0] = min(transit, LONGEST_TRANSIT)


def _size(step: float) -> int:
    """Which power of two of seconds a step is below."""
    size = int(step).bit_length()
    return size if size < SIZES else SIZES - 1
