"""The memory that a value takes, with everything it refers to."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

import msgspec

SAMPLED = 8
"""Keys of a table that are measured for its size. It takes a tenth of a millisecond."""
_NOT_ITS_OWN = (type, FunctionType, BuiltinFunctionType, ModuleType)


class StateSize(NamedTuple):
    """The number of things of a kind, and the bytes of memory and on disk of each, by a sample."""

    held: int
    bytes_each: float
    disk_bytes_each: float = 0.0


def object_size(*values: Any) -> int:
    """Bytes of values and everything they refer to, each object once. Classes and functions are not counted.

    >>> object_size([1.5]) > object_size([])
    True
    """
    seen: set[int] = set()
    total, waiting = 0, list(values)
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, _NOT_ITS_OWN):
            continue
        seen.add(id(value))
        total += sys.getsizeof(value)
        waiting += _referents(value)
    return total


def _referents(value: Any) -> Iterable[Any]:
    if isinstance(value, msgspec.Struct):  # gc does not know the referents of structs with gc=False
        return (getattr(value, name) for name in value.__struct_fields__)
    return gc.get_referents(value)


def size_of(count: int, sample: Iterable[Iterable[Any]]) -> StateSize:
    """The size of `count` things, estimated from a `sample`: for each, the objects that it consists of."""
    sizes = [object_size(*parts) for parts in sample]
    return StateSize(count, sum(sizes) / len(sizes) if sizes else 0.0)


def added_sizes(sizes: Iterable[StateSize]) -> StateSize:
    """Several sizes together."""
    each = list(sizes)
    held = sum(size.held for size in each)
    if not held:
        return StateSize(0, 0.0)
    memory, disk = (
        sum(size.held * getattr(size, of) for size in each) for of in ("bytes_each", "disk_bytes_each")
    )
    return StateSize(held, memory / held, disk / held)
