"""Valid ranges: what becomes of a feature's number outside of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from driftline.features.declare.declaration import Note, Outside
from driftline.features.errors import FeatureValueError


@dataclass(slots=True)
class RangesState:
    """The features that were outside when they were last there."""

    last_outside: dict[str, None] = field(default_factory=dict)


class Ranges:
    """The valid ranges of some features, and which of these were last outside.

    A value is told when it is the first outside, and again after one inside: a sensor that broke is one
    problem, not one an event. `told` gathers what to say from `begin` on. What a request shows is remembered
    when it is accepted (`settle`): one that is refused changes nothing.
    """

    def __init__(self, notes: Mapping[str, Note]) -> None:
        self._bounds = {name: note.bounds for name, note in notes.items() if note.valid is not None}
        self._outside: dict[str, Outside] = {name: notes[name].outside for name in self._bounds}
        self.told: list[str] = []
        self._s = RangesState()
        self._found: dict[str, bool] = {}  # whether it is outside, by feature of the request at hand

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def begin(self) -> None:
        """The features of another request follow."""
        self.told = []
        self._found.clear()

    def settle(self) -> None:
        """The request is accepted: remember what it showed."""
        for name, outside in self._found.items():
            if outside:
                self._s.last_outside[name] = None
            else:
                self._s.last_outside.pop(name, None)
        self._found.clear()

    def state(self) -> RangesState:
        """What later requests are told by; nothing is copied."""
        return self._s

    def restore(self, state: RangesState) -> None:
        """Go on from what `state` gave."""
        self._s = state

    def confine(self, x: dict[str, Any]) -> None:
        """Take out of a request's features what must not be served; raises FeatureValueError for what refuses
        the request."""
        for name in self._bounds:
            value = x.get(name)
            if not self._is_outside(name, value):
                if value is not None:
                    self._found[name] = False
                continue
            self.tell(name, value)
            if self._outside[name] == "missing":
                del x[name]

    def silently(self, values: dict[str, Any]) -> None:
        """As `confine`, of values that nobody asked for."""
        for name in self._bounds:
            if self._outside[name] == "missing" and self._is_outside(name, values.get(name)):
                del values[name]

    def tell(self, name: str, value: Any) -> None:
        """Note a value outside; raises FeatureValueError when that refuses the request."""
        low, high = self._bounds[name]
        reason = f"{value!r} is outside its valid range [{low:g}, {high:g}]"
        if self._outside[name] == "refuse":
            raise FeatureValueError(name, reason)
        self._found[name] = True
        if name not in self._s.last_outside:
            self.told.append(f"feature {name!r}: {reason}")

    def note_inside(self, computed: Mapping[str, Any]) -> None:
        """Note what on-demand features are inside of their ranges."""
        for name in self._bounds:
            value = computed.get(name)
            if value is not None and not self._is_outside(name, value):
                self._found[name] = False

    def _is_outside(self, name: str, value: Any) -> bool:
        if value is None or isinstance(value, str):
            return False
        low, high = self._bounds[name]
        return not low <= value <= high
