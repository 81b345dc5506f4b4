"""Valid ranges: what happens to a number outside its feature's range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from driftline.features.declare.notes import Note, Outside
from driftline.features.errors import FeatureValueError


@dataclass(slots=True)
class RangesState:
    """The features whose last value was outside."""

    last_outside: dict[str, None] = field(default_factory=dict)


class Ranges:
    """The valid ranges of some features, and which of these were last outside.

    A value is a problem when it is the first outside, and again after one inside: a sensor that broke is one
    problem, not one per event. Problems are collected from `begin` on. A request's values are remembered when
    it is accepted (`settle`): a refused one changes nothing.
    """

    def __init__(self, notes: Mapping[str, Note]) -> None:
        self._bounds = {name: note.bounds for name, note in notes.items() if note.valid is not None}
        self._outside: dict[str, Outside] = {name: notes[name].outside for name in self._bounds}
        self._problems: list[str] = []
        self._s = RangesState()
        self._is_out: dict[str, bool] = {}  # by feature of the current request

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def begin(self) -> None:
        """The features of another request follow."""
        self._problems = []
        self._is_out.clear()

    def settle(self) -> None:
        """The request is accepted: remember which of its values were outside."""
        for name, outside in self._is_out.items():
            if outside:
                self._s.last_outside[name] = None
            else:
                self._s.last_outside.pop(name, None)
        self._is_out.clear()

    def state(self) -> RangesState:
        """The state that later requests are compared with; nothing is copied."""
        return self._s

    def restore(self, state: RangesState) -> None:
        """Continue from a result of `state`."""
        self._s = state

    def take_problems(self) -> list[str]:
        """The problems since `begin`, each once."""
        taken, self._problems = self._problems, []
        return taken

    def confine(self, x: dict[str, Any]) -> None:
        """Remove from a request's features what must not be served; raises FeatureValueError for a value that
        refuses the request."""
        for name in self._bounds:
            value = x.get(name)
            if not self._is_outside(name, value):
                if value is not None:
                    self._is_out[name] = False
                continue
            self.note_outside(name, value)
            if self._outside[name] == "missing":
                del x[name]

    def silently(self, values: dict[str, Any]) -> None:
        """As `confine`, for values outside of a request."""
        for name in self._bounds:
            if self._outside[name] == "missing" and self._is_outside(name, values.get(name)):
                del values[name]

    def note_outside(self, name: str, value: Any) -> None:
        """Note a value outside; raises FeatureValueError when that refuses the request."""
        low, high = self._bounds[name]
        reason = f"{value!r} is outside its valid range [{low:g}, {high:g}]"
        if self._outside[name] == "refuse":
            raise FeatureValueError(name, reason)
        self._is_out[name] = True
        if name not in self._s.last_outside:
            self._problems.append(f"feature {name!r}: {reason}")

    def note_inside(self, computed: Mapping[str, Any]) -> None:
        """Note the on-demand features whose values are inside their ranges."""
        for name in self._bounds:
            value = computed.get(name)
            if value is not None and not self._is_outside(name, value):
                self._is_out[name] = False

    def _is_outside(self, name: str, value: Any) -> bool:
        if value is None or isinstance(value, str):
            return False
        low, high = self._bounds[name]
        return not low <= value <= high
