"""The outputs of one step of the fold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

KINDS = ("predictions", "outcomes", "drift", "models", "dead_letters")
"""The kinds of output: fields of `Outputs`, and attributes of `Topics` that name their topics."""


class Output(msgspec.Struct, frozen=True, gc=False):
    """One output record. (offset, ordinal) is its source position: the input record's offset and
    the count of earlier records it caused in the same topic. `headers` are extra ones."""

    offset: int
    ordinal: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Target(NamedTuple):
    """A partition of the topic of a stage, which stages before it write to."""

    stage: int
    partition: int


class Send(NamedTuple):
    """One record to be appended to a target, for the stage that reads it."""

    target: Target
    value: bytes


@dataclass(slots=True)
class Outputs:
    """Output records by topic, what is sent to the stages behind, in order, and the newest online feature row
    of each key that changed.

    With `published=False` none of them is published: a warm-up is under way.
    `rows` maps (view, key values) to (event time in seconds, values by feature name).
    """

    predictions: list[Output] = field(default_factory=list)
    outcomes: list[Output] = field(default_factory=list)
    drift: list[Output] = field(default_factory=list)
    models: list[Output] = field(default_factory=list)
    dead_letters: list[Output] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    published: bool = True
    rows: dict[tuple[str, tuple[str, ...]], tuple[float, dict[str, Any]]] = field(default_factory=dict)

    def extend(self, later: Outputs) -> None:
        """Add the outputs of the records that follow."""
        for kind in KINDS:
            getattr(self, kind).extend(getattr(later, kind))
        self.sends.extend(later.sends)
        self.rows.update(later.rows)
