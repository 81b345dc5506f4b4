"""Labelled streams, and what is known of how they change."""

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
    """Features and label; a label of None never comes."""

    x: dict[str, Any]
    y: Any


class RequestAsked(NamedTuple):
    """A request: its number counts from 0, its key names the pool that answers."""

    number: int
    x: dict[str, Any]
    key: str = ""


class LabelKnown(NamedTuple):
    """The label of the request of that number; None when there will be none."""

    number: int
    y: Any


Step = RequestAsked | LabelKnown


@dataclass(frozen=True, slots=True)
class KnownChange:
    """What changed where: from example `start` on, wholly from `end` on (the same for an abrupt one).

    `subject` is "concept" for the rule from features to label, else the feature's name.
    """

    kind: ChangeKind
    start: int
    end: int
    subject: str = "concept"


@dataclass(frozen=True, slots=True)
class Stream:
    """A named stream of examples, the same ones each time it is iterated over."""

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
        """Requests and labels in order: a label is known once `delay` further requests were answered."""
        waiting: deque[LabelKnown] = deque()
        for number, example in enumerate(self):
            yield RequestAsked(number, example.x)
            waiting.append(LabelKnown(number, example.y))
            if len(waiting) > delay:
                yield waiting.popleft()
        yield from waiting
