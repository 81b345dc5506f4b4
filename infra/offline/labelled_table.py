"""Tables without a declaration as streams of examples: CSV, JSONL, Parquet with a label among their columns.

The file is read twice: first to learn the type of each column, then row by row as examples. So a value in the
last row counts as much as one in the first, and at most one row is held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from driftline.infra.errors import InfraError
from driftline.online_models.evaluation.stream import Example, LabelKind, Stream
from driftline.streams.simulation import tables

Content = Literal["number", "text", "identifier", "constant", "empty"]

MISSING_TEXTS = frozenset({"", "na", "n/a", "nan", "null", "?"})
"""Texts that mean that there is no value, in any case of letters."""
TRUTHS = frozenset({"true", "yes", "y", "t", "1", "up", "positive", "pos"})
"""Of two labels, the one that is in here is True; else the later in the alphabet, or the larger."""
MOST_CLASSES = 20
"""So many distinct whole numbers are classes; more are a quantity."""
DISTINCT = 10_000
"""So many distinct values of a column are counted."""
IDENTIFIER = 0.5
"""A text column whose share of distinct values is above it names its rows, and teaches nothing."""
MANY = 50
"""Only columns with more distinct values than this can be identifiers."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """What a column holds; `distinct` is counted up to `DISTINCT`."""

    name: str
    content: Content
    missing: int
    distinct: int


@dataclass(frozen=True, slots=True)
class LabelledTable:
    """A file as a stream of examples, with its columns, label and counts."""

    stream: Stream
    columns: Mapping[str, TableColumn]
    label: str
    positive: str | None
    rows: int
    unlabelled: int


@dataclass(slots=True)
class _Seen:
    """Of one column, over all rows."""

    values: int = 0
    numbers: int = 0
    whole: bool = True
    distinct: set[str] = field(default_factory=set)

    def add(self, value: Any) -> None:
        self.values += 1
        number = _number(value)
        if number is not None:
            self.numbers += 1
            self.whole = self.whole and number.is_integer()
        if len(self.distinct) < DISTINCT:
            self.distinct.add(_text(value))

    def content(self, rows: int) -> Content:
        if not self.values:
            return "empty"
        if len(self.distinct) == 1 and self.values == rows:
            return "constant"
        if self.numbers == self.values:
            return "number"
        is_identifier = len(self.distinct) > MANY and len(self.distinct) > IDENTIFIER * min(
            self.values, DISTINCT
        )
        return "identifier" if is_identifier else "text"


def _number(value: Any) -> float | None:
    """The finite number that a value is or spells, None when it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def _text(value: Any) -> str:
    """One spelling for equal values: True of JSON, 1 and 1.0 of CSV."""
    number = _number(value)
    if number is not None and not isinstance(value, bool):
        return f"{number:.17g}"
    return str(value).strip()


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in MISSING_TEXTS
    return isinstance(value, float) and not isfinite(value)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Nested objects by dotted names; lists have no place among features."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": deep for inner, deep in _flat(value).items()}
        elif not isinstance(value, list):
            flat[name] = value
    return flat


def open_table(
    path: Path,
    label: str,
    kind: LabelKind | None = None,
    limit: int | None = None,
    encoding: str | None = None,
) -> LabelledTable:
    """The file as a stream of examples; `kind` is inferred from the labels when None, `encoding` detected.

    A column is left out when it is empty, constant or an identifier. Raises UnreadableTable for a file that
    is not a table, InfraError if there is no such column, no row, or only one value in the label.
    """

    def table() -> Iterator[tables.Row]:
        return (_flat(row) for _, row in islice(tables.rows(path, encoding), limit))

    rows = 0
    seen: dict[str, _Seen] = {}
    for row in table():
        rows += 1
        for name, value in row.items():
            column = seen.setdefault(name, _Seen())
            if not _is_missing(value):
                column.add(value)
    if not rows:
        raise InfraError(f"{path} has no rows")
    if label not in seen:
        raise InfraError(f"{path} has no column {label!r}: it has {', '.join(map(str, seen))}")
    columns = {
        name: TableColumn(name, column.content(rows), rows - column.values, len(column.distinct))
        for name, column in seen.items()
    }
    kind, positive, read = _label(path, label, seen[label], kind)
    contents = {
        name: column.content
        for name, column in columns.items()
        if name != label and column.content in ("number", "text")
    }
    if not contents:
        raise InfraError(f"{path}: no column but {label!r} has anything to learn from")

    def source() -> Iterator[Example]:
        for row in table():
            value = row.get(label)
            yield Example(_features(row, contents), None if _is_missing(value) else read(value))

    unlabelled = rows - seen[label].values
    return LabelledTable(Stream(path.name, kind, source), columns, label, positive, rows, unlabelled)


def _features(row: tables.Row, contents: Mapping[str, Content]) -> dict[str, Any]:
    x: dict[str, Any] = {}
    for name, content in contents.items():
        value = row.get(name)
        if _is_missing(value):
            continue
        x[name] = _number(value) if content == "number" else _text(value)
    return x


def _label(
    path: Path, label: str, seen: _Seen, kind: LabelKind | None
) -> tuple[LabelKind, str | None, Callable[[Any], Any]]:
    """(kind, what means True, how a value is read) of the label's column."""
    distinct = len(seen.distinct)
    if distinct == 0:
        raise InfraError(f"{path}: every value of {label!r} is missing")
    if distinct == 1:
        raise InfraError(
            f"{path}: {label!r} is always {next(iter(seen.distinct))}: there is nothing to predict"
        )
    is_number = seen.numbers == seen.values
    if kind is None:
        if distinct == 2:
            kind = "binary"
        elif is_number and (distinct > MOST_CLASSES or not seen.whole):
            kind = "regression"
        else:
            kind = "multiclass"
    if kind == "regression":
        if not is_number:
            raise InfraError(f"{path}: {label!r} has values that are no numbers, so it is no regression")
        return kind, None, float
    if kind == "multiclass":
        if distinct >= DISTINCT or distinct > seen.values / 2:
            raise InfraError(
                f"{path}: {label!r} has {distinct} values in {seen.values} rows: too many for classes"
            )
        return kind, None, _text
    if distinct != 2:
        raise InfraError(f"{path}: {label!r} has {distinct} values, so it is not binary")
    positive = _positive(seen.distinct, is_number)
    return kind, positive, lambda value: _text(value) == positive


def _positive(two: set[str], is_number: bool) -> str:
    known = [text for text in two if text.lower() in TRUTHS]
    if len(known) == 1:
        return known[0]
    return max(two, key=float) if is_number else max(two)
