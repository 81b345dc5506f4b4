"""Which event ids have been seen within a horizon of event time."""

from __future__ import annotations

from streams.watermark import NEVER


class SeenIds:
    """Ids of accepted events, remembered for `horizon` seconds of event time."""

    __slots__ = ("_newer", "_older", "_turn", "horizon")

    def __init__(self, horizon: float) -> None:
        self.horizon = horizon
        self._newer: dict[str, float] = {}
        self._older: dict[str, float] = {}
        self._turn = NEVER

    def add(self, event_id: str, now: float) -> None:
        """Remember an accepted id at partition time `now`."""
        if now - self._turn > self.horizon:
            self._older = self._newer
            self._newer = {}
            self._turn = now
        self._newer[event_id] = now

    def is_duplicate(self, event_id: str, now: float) -> bool:
        """True when the id was accepted within the horizon before `now`."""
        seen = self._newer.get(event_id)
        if seen is None:
            seen = self._older.get(event_id)
        return seen is not None and now - seen <= self.horizon

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)
