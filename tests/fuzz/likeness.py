"""Whether two objects of the fold are alike in every attribute, not only in what they say is their state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from driftline.streams.code.state_hash import state_hash
from driftline.streams.errors import NoCanonicalForm

OWN = ("driftline.", "tests.")
PASSING: frozenset[tuple[str, str]] = frozenset(
    {
        # of the record or step at hand, set anew before it is read
        ("Intake", "offset"),
        ("Learner", "offset"),
        ("Ranges", "_is_out"),
        ("Ranges", "_problems"),
        # of a frozen copy, whose spec counts where that samples; then it is restored
        ("Seat", "member"),
        # what is remembered of a pure function, and of it for people
        ("DriftManager", "_thresholds"),
        ("_Names", "_in_order"),
        ("Home", "known"),
        ("Home", "last_stranger"),
        # counted for people, since the process began
        ("Intake", "accepted"),
        ("LabelJoin", "tally"),
        # what is written before it is read
        ("PiecePickler", "_buffer"),
        # what nothing comes to any more may stay among them; the hash of the state compares the others
        ("WaitingQueue", "_recent"),
        ("LabelJoin", "due"),
    }
)
"""(class, attribute) of what no later step depends on."""
UNORDERED = frozenset({("Tally", "cells"), ("LabelJoin", "_unanswered"), ("LabelJoin", "_answered")})
"""(class, attribute) of mappings that are read by key, or sorted: their own order counts for nothing."""


def attributes(value: Any) -> dict[str, Any]:
    """All attributes of an object, in its dict or its slots."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                found[name] = getattr(value, name)
    if isinstance(value, msgspec.Struct):
        found |= {name: getattr(value, name) for name in value.__struct_fields__}
    return found


def differences(
    one: Any, other: Any, path: str = "", seen: set[tuple[int, int]] | None = None
) -> Iterator[str]:
    """Paths at which two objects differ."""
    seen = set() if seen is None else seen
    if one is other or (id(one), id(other)) in seen:
        return
    seen.add((id(one), id(other)))
    if type(one) is not type(other):
        yield f"{path}: {type(one).__name__} and {type(other).__name__}"
    elif isinstance(one, (str, int, float, complex, bytes, type(None))):
        if repr(one) != repr(other):
            yield f"{path}: {one!r} and {other!r}"
    elif isinstance(one, Mapping):
        if list(map(repr, one)) != list(map(repr, other)):
            yield f"{path}: keys {list(one)!r} and {list(other)!r}"
        else:
            for (key, a), b in zip(one.items(), other.values(), strict=True):
                yield from differences(a, b, f"{path}[{key!r}]", seen)
        if type(one).__module__.startswith(OWN):
            yield from _of_attributes(one, other, path, seen)
    elif isinstance(one, (list, tuple, deque)):
        if len(one) != len(other):
            yield f"{path}: {len(one)} and {len(other)} parts"
        for n, (a, b) in enumerate(zip(one, other, strict=False)):
            yield from differences(a, b, f"{path}[{n}]", seen)
    elif isinstance(one, np.ndarray):
        if not np.array_equal(one, other, equal_nan=True):
            yield f"{path}: other numbers"
    elif type(one).__module__.startswith(OWN):
        yield from _of_attributes(one, other, path, seen)
    elif not callable(one):
        yield from _of_a_library(one, other, path)


def _of_attributes(one: Any, other: Any, path: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    mine, theirs = attributes(one), attributes(other)
    if mine.keys() != theirs.keys():
        yield f"{path}: attributes {sorted(mine.keys() ^ theirs.keys())}"
    for name in mine.keys() & theirs.keys():
        place = (type(one).__name__, name)
        if place in PASSING:
            continue
        a, b = mine[name], theirs[name]
        if place in UNORDERED:
            a, b = dict(sorted(a.items(), key=repr)), dict(sorted(b.items(), key=repr))
        yield from differences(a, b, f"{path}.{name}", seen)


def _of_a_library(one: Any, other: Any, path: str) -> Iterator[str]:
    try:
        alike = state_hash(one) == state_hash(other)
    except NoCanonicalForm:  # a decoder, a code of a declaration: nothing that changes
        return
    if not alike:
        yield f"{path}: another {type(one).__name__}"
