"""Descriptions of features for people, and their valid ranges."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from driftline.declaration_check import Duration, check, check_keywords
from driftline.features.errors import FeatureDeclarationError

Outside = Literal["missing", "keep", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """The description of a feature for people; `monitor` says whether drift monitors watch it.

    `valid` is the smallest and the largest number that makes sense, None for no bound. A value outside is
    reported as a dead letter of stage "range" unless the previous one was, too; `outside` says how it is
    treated: it is "missing", it is kept ("keep"), or the request is refused ("refuse"). A feature that is 0
    over no event cannot be missing.
    """

    description: str = ""
    unit: str = ""
    monitor: bool = True
    owner: str = ""
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    valid: tuple[float | None, float | None] | None = None
    outside: Outside = "missing"

    @property
    def bounds(self) -> tuple[float, float]:
        """The valid range, infinite where it has no bound."""
        low, high = self.valid or (None, None)
        return float("-inf") if low is None else low, float("inf") if high is None else high

    @property
    def confines(self) -> bool:
        """Whether values outside the range are missing."""
        return self.valid is not None and self.outside == "missing"

    def __post_init__(self) -> None:
        check(self, FeatureDeclarationError)
        if self.valid is not None:
            low, high = self.valid
            if low is not None and high is not None and not low <= high:
                raise FeatureDeclarationError(f"a valid range goes from low to high, not {self.valid!r}")


NOTHING_NOTED = Note()


class Notes(TypedDict, total=False):
    """The keywords of every feature; see `Note`."""

    description: str
    unit: str
    monitor: bool
    owner: str
    tags: Mapping[str, str]
    valid: tuple[float | None, float | None] | None
    outside: Outside


class LatestNotes(Notes, total=False):
    """The further keywords of a newest value; see `Window`."""

    max_keys: int | None


class WindowNotes(LatestNotes, total=False):
    """The further keywords of other windows."""

    ttl: Duration | None


class SteppedNotes(WindowNotes, total=False):
    """What windows take too that can be computed from totals of steps."""

    resolution: Duration | None


def note_of(given: Mapping[str, Any], what: str, others: tuple[str, ...] = ()) -> Note:
    """The note from the given keywords, which may include `others`."""
    known = (*(one.name for one in dataclasses.fields(Note)), *others)
    check_keywords(given, known, what, FeatureDeclarationError)
    return Note(**{name: value for name, value in given.items() if name not in others})
