"""The first difference between a published record and the one that the log gives."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from driftline.streams.records.outputs import Output
from driftline.streams.records.ports import StoredRecord
from driftline.streams.records.positions import SourcePosition, headers_of

ABSENT = "(absent)"
AROUND = 20
"""Bytes shown on each side of the first one that differs."""

DifferenceKind = Literal["different", "not published", "not recomputed", "repeated"]


_RESTLESS = (
    "something in the declaration does not repeat itself: an estimator without a seed, the clock, the order "
    "of a set (`driftline check CASE` finds it)"
)
_SETTINGS = "the log or this topic has other settings than it needs, such as compaction, and lost records"
_CODE = "other code than its version says: an edited library, or a file that a function of the user's reads"
_WRITER = "another program writes to this topic"

LIKELY_CAUSES: dict[DifferenceKind, tuple[str, ...]] = {
    "different": (_RESTLESS, _SETTINGS, _CODE),
    "not published": (_SETTINGS, _RESTLESS, _CODE),
    "not recomputed": (_RESTLESS, _SETTINGS, _WRITER, _CODE),
    "repeated": (_WRITER, _SETTINGS),
}
"""What is behind a difference, the likeliest first."""


class Difference(msgspec.Struct, frozen=True):
    """A record that is not what the log gives.

    `offset` is the record's on its topic (None: it is not there), `source` its source position, whose
    offset is `log_offset`. `field` is a JSON path such as probabilities.true, or says key, header or byte.
    """

    verdict: DifferenceKind
    topic: str
    partition: int
    offset: int | None
    source: str
    log_offset: int
    field: str
    published: Any
    recomputed: Any
    model: str | None

    def __str__(self) -> str:
        """One line for people."""
        where = f"{self.topic}-{self.partition}, "
        where += f"source {self.source}" if self.offset is None else f"offset {self.offset} ({self.source})"
        model = "" if self.model is None else f"; model {self.model}"
        if self.verdict == "not published":
            return f"{where}: the log gives a record that is not published{model}"
        if self.verdict == "not recomputed":
            return f"{where}: published, but the log does not give this record{model}"
        if self.verdict == "repeated":
            return f"{where}: published again, or out of order{model}"
        sides = f"published as {self.published!r}, recomputed as {self.recomputed!r}"
        return f"{where}: {self.field} is {sides}{model}"

    @property
    def causes(self) -> str:
        """A line for each likely cause, the likeliest first."""
        causes = LIKELY_CAUSES[self.verdict]
        return "\n".join(["likely causes, the likeliest first:", *(f"  {cause}" for cause in causes)])


def record_difference(
    topic: str,
    partition: int,
    position: SourcePosition,
    published: StoredRecord | None,
    recomputed: Output | None,
    *,
    repeated: bool = False,
) -> Difference:
    """How two records of one source position differ; None for one that is not there."""
    verdict: DifferenceKind = "different"
    field = "record"
    before = readable(published.value) if published is not None else None
    given = readable(recomputed.value) if recomputed is not None else None
    if repeated:
        verdict = "repeated"
    elif published is None:
        verdict = "not published"
    elif recomputed is None:
        verdict = "not recomputed"
    else:
        field, before, given = first_field(published, recomputed)
    return Difference(
        verdict,
        topic,
        partition,
        None if published is None else published.offset,
        "{}:{}".format(*position),
        position[0],
        field,
        before,
        given,
        _model(recomputed.value if recomputed is not None else published.value if published else None),
    )


def first_field(published: StoredRecord, recomputed: Output) -> tuple[str, Any, Any]:
    """(what differs first, as published, as recomputed): of the key, the value, the headers."""
    if published.key != recomputed.key:
        return "key", readable(published.key), readable(recomputed.key)
    if published.value is None:
        return "value", None, readable(recomputed.value)
    if published.value != recomputed.value:
        return _in_value(published.value, recomputed.value)
    expected = headers_of(recomputed)
    for (name, value), (wanted, content) in zip(published.headers, expected, strict=False):
        if (name, value) != (wanted, content):
            if name != wanted:
                return "header names", name, wanted
            return f"header {name}", readable(value), readable(content)
    return "header names", [name for name, _ in published.headers], [name for name, _ in expected]


def _in_value(published: bytes, recomputed: bytes) -> tuple[str, Any, Any]:
    try:
        first = _in_json("", msgspec.json.decode(published), msgspec.json.decode(recomputed))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        first = None
    return first or _in_bytes(published, recomputed)


def _in_json(path: str, published: Any, recomputed: Any) -> tuple[str, Any, Any] | None:
    """The first path, in the recomputed value's order, at which two values differ."""
    if type(published) is type(recomputed):
        if isinstance(recomputed, dict):
            for name in dict.fromkeys((*recomputed, *published)):
                sides = published.get(name, ABSENT), recomputed.get(name, ABSENT)
                first = _in_json(f"{path}.{name}" if path else name, *sides)
                if first is not None:
                    return first
            return None
        if isinstance(recomputed, list) and len(published) == len(recomputed):
            for index, sides in enumerate(zip(published, recomputed, strict=True)):
                first = _in_json(f"{path}[{index}]", *sides)
                if first is not None:
                    return first
            return None
        if published == recomputed:
            return None
    return path or "value", published, recomputed


def _in_bytes(published: bytes, recomputed: bytes) -> tuple[str, Any, Any]:
    shorter = min(len(published), len(recomputed))
    index = next((i for i in range(shorter) if published[i] != recomputed[i]), shorter)
    around = slice(max(0, index - AROUND), index + AROUND)
    return f"byte {index}", readable(published[around]), readable(recomputed[around])


def readable(content: bytes | None) -> Any:
    """Bytes as JSON can say them: text where they are text, else escaped."""
    return None if content is None else content.decode("utf-8", "backslashreplace")


class _Modelled(msgspec.Struct):
    """What an output says of the model behind it: a version, alone or within a structure."""

    model: Any = None
    serving: str | None = None


def _model(value: bytes | None) -> str | None:
    """The model version that an output names, if it names one."""
    try:
        answer = msgspec.json.decode(value or b"", type=_Modelled)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    model = answer.model
    if isinstance(model, dict):
        model = model.get("version")
    return model if isinstance(model, str) else answer.serving
