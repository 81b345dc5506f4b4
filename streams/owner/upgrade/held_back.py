"""What new code does not publish: beside the code that serves, and until it has passed what that did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from driftline.streams.errors import Refused
from driftline.streams.records.outputs import Output, Outputs
from driftline.streams.records.ports import StoredRecord
from driftline.streams.records.positions import SourcePosition

BESIDE = "beside other code"
"""In place of the online store that has the rows: none has them."""


class Inherited(NamedTuple):
    """How new code folds while outputs of other code are passed, and whether that is over."""

    fold: Callable[[Sequence[StoredRecord]], Awaitable[Outputs]]
    is_over: Callable[[], bool]


class HeldBack:
    """The dead letters of a stage beside the code that serves: all by their position and reason, and those to
    be published if that code does not report the same records."""

    def __init__(self) -> None:
        self.refused: list[tuple[int, Refused]] = []
        self.letters: list[Output] = []

    def take(self, out: Outputs, tails: Mapping[str, SourcePosition]) -> dict[str, Sequence[Output]]:
        """Hold outputs back: nothing is to be published."""
        for letter in out.dead_letters:
            fields = {name: value.decode() for name, value in letter.headers if name in ("stage", "reason")}
            self.refused.append((letter.offset, Refused(fields["stage"], fields["reason"])))
            if (letter.offset, letter.ordinal) > tails["dead_letters"]:
                self.letters.append(letter)
        return {}
