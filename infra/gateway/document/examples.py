"""Examples of events and records, made from the types of their fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from driftline.streams.declare.events import Event

STAMP = "2024-05-06T08:00:00Z"
_PLAIN: dict[type, Any] = {
    inspect.AnyType: None,
    inspect.NoneType: None,
    inspect.BoolType: True,
    inspect.DateTimeType: STAMP,
    inspect.DateType: STAMP[:10],
    inspect.TimeType: STAMP[11:],
    inspect.TimeDeltaType: "PT30M",
    inspect.UUIDType: "6f1c9a52-0f5e-4d2e-9c39-5a4b3c2d1e0f",
    inspect.DecimalType: "12.5",
}


def of_event(kind: type[Event]) -> dict[str, Any] | None:
    """An event of a type as JSON values, with its required fields only. None if no example is accepted by the
    class: its patterns and hooks may demand values that the types do not show."""
    tag = kind.__struct_config__.tag
    try:
        made = of_struct(kind, {"id": f"{tag}-1"})
        msgspec.convert(made, kind)
    except (LookupError, msgspec.ValidationError):
        return None
    return made


def of_struct(kind: type[msgspec.Struct], known: Mapping[str, Any]) -> dict[str, Any]:
    """The required fields of a struct. `known` has the values of some. Raises LookupError for a type without
    an example."""
    told = inspect.type_info(kind)
    assert isinstance(told, inspect.StructType)
    return _of_struct(told, known)


def _of_struct(told: inspect.StructType, known: Mapping[str, Any]) -> dict[str, Any]:
    made = {} if told.tag_field is None else {told.tag_field: told.tag}
    for each in told.fields:
        name = each.encode_name
        if name in known:
            made[name] = known[name]
        elif each.required:
            made[name] = _of(each.type, name)
    return made


def _of(told: inspect.Type, name: str) -> Any:
    """An example of a type, for the field `name`. Raises LookupError for a type without an example."""
    if type(told) in _PLAIN:
        return _PLAIN[type(told)]
    return _MADE[type(told)](told, name)


def _text(told: inspect.StrType, name: str) -> str:
    return f"{name}-1".ljust(told.min_length or 0, "x")[: told.max_length]


def _number(told: inspect.IntType | inspect.FloatType, name: str) -> float:
    """The smallest allowed value that is not negative, or the largest one if all are negative."""
    if told.multiple_of is not None:
        return told.multiple_of
    floor = told.ge if told.ge is not None else told.gt
    value = 1 if floor is None else floor if told.gt is None else floor + 1
    ceiling = told.le if told.le is not None else None if told.lt is None else told.lt - 1
    return value if ceiling is None or value <= ceiling else ceiling


def _union(told: inspect.UnionType, name: str) -> Any:
    return _of(next(each for each in told.types if not isinstance(each, inspect.NoneType)), name)


def _items(told: Any, name: str) -> list[Any]:
    return [_of(told.item_type, name)]


def _tuple(told: inspect.TupleType, name: str) -> list[Any]:
    return [_of(each, name) for each in told.item_types]


_MADE: dict[type, Callable[[Any, str], Any]] = {
    inspect.StrType: _text,
    inspect.IntType: _number,
    inspect.FloatType: _number,
    inspect.UnionType: _union,
    inspect.ListType: _items,
    inspect.VarTupleType: _items,
    inspect.SetType: _items,
    inspect.FrozenSetType: _items,
    inspect.TupleType: _tuple,
    inspect.DictType: lambda told, name: {},
    inspect.EnumType: lambda told, name: next(iter(told.cls)).value,
    inspect.LiteralType: lambda told, name: told.values[0],
    inspect.StructType: lambda told, name: _of_struct(told, {}),
}
