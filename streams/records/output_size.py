"""How large outputs may be: sending one that no topic takes would be retried for ever.

Numbers are short; only texts and the bytes of refused input can be long. So a dead letter is cut where that
is necessary (`dead_letter`), texts in reports of drift and models are shortened, and a request or a label
whose answer would not fit is refused before it changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from driftline.features.declare.declaration import Elapsed, Feature, Window
from driftline.streams.declare.topics import INPUT_LIMIT
from driftline.streams.errors import Refused
from driftline.streams.records.record import Record

LONGEST_TEXT = 200
"""Characters of a text from the data in records about drift and models."""
LONGEST_REASON = 1_000
"""Characters of a reason on the models topic."""
ANSWER = INPUT_LIMIT * 5 // 8
"""Bytes of a prediction that a request may fill: its key, its keys and features."""
CLASSES = INPUT_LIMIT // 4
"""Bytes of a prediction that the probabilities of all classes may fill."""
LONGEST_CLASS = 4_096
"""Bytes of the text of one class."""
PROBABILITY = 32
"""Bytes of a prediction for one probability, beside the text of its class."""
EXPANSION = 6
"""How much longer a text or a number can become when it is written as JSON."""

_encode = msgspec.json.Encoder().encode


def shortened(text: str) -> str:
    """The text, or its beginning and its length."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}... ({len(text)} characters)"


class AnswerRoom:
    """The room for the answers to a case's requests. Of its `features`, windows hold numbers; any other may
    be a text."""

    def __init__(self, features: Mapping[str, Feature]) -> None:
        self._texts = tuple(
            name for name, feature in features.items() if not isinstance(feature, (Window, Elapsed))
        )

    def check(self, record: Record, keys: Mapping[str, Any], x: Mapping[str, Any]) -> None:
        """Raises Refused when a request's keys and features do not fit into a prediction, or are no JSON."""
        texts = 0
        for name in self._texts:
            value = x.get(name)
            if value.__class__ is str:
                texts += len(value)
        if EXPANSION * (texts + (len(keys) + 1) * len(record.value or b"")) <= ANSWER:
            return
        try:
            size = len(record.key or b"") + len(_encode(keys)) + len(_encode(x))
        except Exception as error:
            raise Refused("size", f"its keys and features cannot be written: {error}") from error
        if size > ANSWER:
            raise Refused(
                "size", f"its keys and features take {size:,} bytes; an answer has room for {ANSWER:,}"
            )


class Classes:
    """The labels of a multiclass task so far, whose probabilities every prediction is to hold."""

    __slots__ = ("known", "size")

    def __init__(self) -> None:
        self.known: dict[str, None] = {}
        self.size = 0

    def check(self, label: str) -> None:
        """Raises Refused for a new class whose probability would find no room."""
        if label in self.known:
            return
        size = self._size_of(label)
        if size > LONGEST_CLASS:
            raise Refused("label", f"{shortened(label)!r} is no class: at most {LONGEST_CLASS:,} bytes are")
        if self.size + size > CLASSES:
            raise Refused(
                "label",
                f"{shortened(label)!r} is one class too many: with {len(self.known):,} classes an answer has "
                f"no room for more, which is {CLASSES:,} bytes",
            )

    def add(self, label: str) -> None:
        """A label was accepted."""
        if label not in self.known:
            self.known[label] = None
            self.size += self._size_of(label)

    @staticmethod
    def _size_of(label: str) -> int:
        return len(_encode(label)) + PROBABILITY
