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
    hint = inspect.type_info(kind)
    assert isinstance(hint, inspect.StructType)
    return _of_struct(hint, known)


def _of_struct(hint: inspect.StructType, known: Mapping[str, Any]) -> dict[str, Any]:
    made = {} if hint.tag_field is None else {hint.tag_field: hint.tag}
    for each in hint.fields:
        name = each.encode_name
        if name in known:
            made[name] = known[name]
        elif each.required:
            made[name] = _of(each.type, name)
    return made


def _of(hint: inspect.Type, name: str) -> Any:
    """An example of a type, for the field `name`. Raises LookupError for a type without an example."""
    if type(hint) in _PLAIN:
        return _PLAIN[type(hint)]
    return _MADE[type(hint)](hint, name)


def _text(hint: inspect.StrType, name: str) -> str:
    return f"{name}-1".ljust(hint.min_length or 0, "x")[: hint.max_length]


def _number(hint: inspect.IntType | inspect.FloatType, name: str) -> float:
    """The smallest allowed value that is not negative, or the largest one if all are negative."""
    if hint.multiple_of is not None:
        return hint.multiple_of
    floor = hint.ge if hint.ge is not None else hint.gt
    value = 1 if floor is None else floor if hint.gt is None else floor + 1
    ceiling = hint.le if hint.le is not None else None if hint.lt is None else hint.lt - 1
    return value if ceiling is None or value <= ceiling else ceiling


def _union(hint: inspect.UnionType, name: str) -> Any:
    return _of(next(each for each in hint.types if not isinstance(each, inspect.NoneType)), name)


def _items(hint: Any, name: str) -> list[Any]:
    return [_of(hint.item_type, name)]


def _tuple(hint: inspect.TupleType, name: str) -> list[Any]:
    return [_of(each, name) for each in hint.item_types]


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
    inspect.DictType: lambda hint, name: {},
    inspect.EnumType: lambda hint, name: next(iter(hint.cls)).value,
    inspect.LiteralType: lambda hint, name: hint.values[0],
    inspect.StructType: lambda hint, name: _of_struct(hint, {}),
}
