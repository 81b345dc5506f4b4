"""Labelled streams and their known changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, NamedTuple

LabelKind = Literal["binary", "multiclass", "regression"]
ChangeKind = Literal[
    "abrupt", "gradual", "incremental", "recurring", "unit change", "frozen feature", "missing values"
]


class Example(NamedTuple):
    """Features and label. A label of None never arrives."""

    x: dict[str, Any]
    y: Any


class RequestAsked(NamedTuple):
    """A request. Its number counts from 0; its key selects the pool that answers."""

    number: int
    x: dict[str, Any]
    key: str = ""


class LabelKnown(NamedTuple):
    """The label of the request with that number; None if there will be none."""

    number: int
    y: Any


Step = RequestAsked | LabelKnown


@dataclass(frozen=True, slots=True)
class KnownChange:
    """A change from example `start` on, complete from `end` on (equal to `start` for an abrupt change).

    `subject` is "concept" for the relation between features and label, else the feature's name.
    """

    kind: ChangeKind
    start: int
    end: int
    subject: str = "concept"


@dataclass(frozen=True, slots=True)
class Stream:
    """A named stream of examples. Each iteration gives the same ones."""

    name: str
    kind: LabelKind
    source: Callable[[], Iterator[Example]]
    changes: tuple[KnownChange, ...] = ()
    about: str = field(default="", compare=False)

    def __iter__(self) -> Iterator[Example]:
        return self.source()

    def take(self, count: int) -> Stream:
        """The first `count` examples, and the changes within them."""
        return replace(
            self,
            source=lambda: islice(self.source(), count),
            changes=tuple(change for change in self.changes if change.start < count),
        )

    def steps(self, delay: int = 0) -> Iterator[Step]:
        """Requests and labels in order. A label arrives after `delay` further requests were answered."""
        waiting: deque[LabelKnown] = deque()
        for number, example in enumerate(self):
            yield RequestAsked(number, example.x)
            waiting.append(LabelKnown(number, example.y))
            if len(waiting) > delay:
                yield waiting.popleft()
        yield from waiting
