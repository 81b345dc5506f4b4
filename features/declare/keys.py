"""Which fields can be keys, and the text of each: a key must be hashable, and have the same text in every
process and from every client."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Number
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin
from uuid import UUID

import msgspec

from driftline.features.declare.field_types import field_types

_SEVERAL_TEXTS = (float, Decimal)
"""Numbers that clients write in several ways: 5, 5.0 and 5.00."""


FEATURE_KINDS = (float, int, bool, str)
"""What a feature's values may be."""
_WRITTEN_AS = {
    Decimal: "float({})", date: "{}.weekday()", datetime: "{}.timestamp()", timedelta: "{}.total_seconds()",
    UUID: "str({})", list: "len({})", dict: "{}.get(...)", set: "len({})",
}  # fmt: skip
Key = str | int | Enum | date | UUID
"""The types that a key may have in an event; its text is that of `key_text`."""


def texts_of(key: Any) -> tuple[str, ...]:
    """The parts of a key as the feature store has them."""
    return tuple(key_text(part) for part in (key if isinstance(key, tuple) else (key,)))


def key_text(value: Any) -> str:
    """The text of a key's value: as in the event's JSON, without quotes; times in UTC.

    >>> [key_text(one) for one in ("north", 2**53 + 1, True, datetime(2024, 5, 6, 8, tzinfo=UTC))]
    ['north', '9007199254740993', 'true', '2024-05-06T08:00:00Z']
    """
    if value.__class__ is str:
        text: str = value
        return text
    if isinstance(value, Enum):
        return key_text(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC)
    if isinstance(value, date):  # a datetime too
        return str(msgspec.to_builtins(value))
    return str(value)


def no_one_text(event: type, field: str) -> str | None:
    """Why an event's field cannot be a key that is looked up by its text, in a partition or in the online
    store. None if it can be: then every client writes the same text for a value, and different values have
    different texts.

    >>> class Bought:
    ...     price: float
    ...     place: str | int
    >>> no_one_text(Bought, "price")
    'Bought.price is a float, which has several texts (5, 5.0): declare it as int or str'
    >>> no_one_text(Bought, "place")
    'Bought.place is str or int, of which two values have one text ("1", 1): declare one of them'
    """
    kinds = kinds_of(field_types(event).get(field))
    several = [kind.__name__ for kind in kinds if issubclass(kind, _SEVERAL_TEXTS)]
    where = f"{event.__name__}.{field}"
    if several:
        return f"{where} is a {several[0]}, which has several texts (5, 5.0): declare it as int or str"
    if len(kinds) > 1:
        types = " or ".join(kind.__name__ for kind in kinds)
        return f'{where} is {types}, of which two values have one text ("1", 1): declare one of them'
    return None


def not_a_feature(event: type, field: str) -> str | None:
    """Why an event's field cannot be a feature, by its type; None if it can be one, or the type is open.

    >>> class Bought:
    ...     price: Decimal
    >>> not_a_feature(Bought, "price")
    'Bought.price is a Decimal, no number, bool or text: write derive(lambda event: float(event.price))'
    """
    for kind in kinds_of(field_types(event).get(field)):
        if not issubclass(kind, FEATURE_KINDS):
            return (
                f"{event.__name__}.{field} is a {kind.__name__}, no number, bool or text: write "
                f"derive({_function(kind, field)})"
            )
    return None


def number_function(event: type, field: str) -> str | None:
    """The text of a function that turns a field of this type into a number; None if none is known."""
    kinds = kinds_of(field_types(event).get(field))
    known = kinds and all(kind in _WRITTEN_AS and kind is not UUID for kind in kinds)
    return _function(kinds[0], field) if known else None


def _function(kind: type, field: str) -> str:
    return f"lambda event: {_WRITTEN_AS.get(kind, '...').format(f'event.{field}')}"


def holds_enum(hint: Any) -> bool:
    """Whether a value of this type may be a member of an enumeration."""
    if isinstance(hint, NewType):
        return holds_enum(hint.__supertype__)
    if isinstance(hint, Enum) or any(map(holds_enum, get_args(hint))):
        return True
    return isinstance(hint, type) and issubclass(hint, Enum)


def kinds_of(hint: Any) -> list[type]:
    """As `_classes_of`, but for an enumeration the classes of its values."""
    kinds: dict[type, None] = {}
    for kind in _classes_of(hint):
        kinds |= dict.fromkeys(type(one.value) for one in kind) if issubclass(kind, Enum) else {kind: None}
    return list(kinds)


def _classes_of(hint: Any) -> list[type]:
    """The classes that a value of this type may have, without None; empty if any value is possible."""
    if isinstance(hint, NewType):
        return _classes_of(hint.__supertype__)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _classes_of(parts[0])
    if origin is Literal:
        return list(dict.fromkeys(type(part) for part in parts))
    if origin in (Union, UnionType):
        return list(dict.fromkeys(cls for part in parts for cls in _classes_of(part)))
    if isinstance(origin, type):
        return [origin]
    if not isinstance(hint, type) or hint in (Any, object, NoneType):
        return []
    return [hint]


def not_a_key(event: type, field: str) -> str | None:
    """Why an event's field cannot be a key, by its type; None if it can be one, or if the type is open
    (`Any`). Events without the field are not considered.

    >>> class Bought:
    ...     shop: str
    ...     tags: list[str] | None
    >>> not_a_key(Bought, "shop")
    >>> not_a_key(Bought, "tags")
    'Bought.tags holds a list, which cannot be looked up by'
    """
    hint = field_types(event).get(field)
    kind = None if hint is None else _unusable(hint)
    return None if kind is None else f"{event.__name__}.{field} holds a {kind}, which cannot be looked up by"


def may_be_none(event: type, field: str) -> str | None:
    """Why an event's field may be None, by its type; None if it never is.

    >>> class Bought:
    ...     shop: str | None
    ...     town: str
    >>> may_be_none(Bought, "shop")
    'Bought.shop may be None, which is no key: declare it without None'
    >>> may_be_none(Bought, "town")
    """
    hint = field_types(event).get(field)
    if _may_be_anything(hint):
        return f"{event.__name__}.{field} may be anything, None too: declare what it is, such as str"
    if _holds_none(hint):
        return f"{event.__name__}.{field} may be None, which is no key: declare it without None"
    return None


def _holds_none(hint: Any) -> bool:
    if isinstance(hint, NewType):
        return _holds_none(hint.__supertype__)
    return hint in (NoneType, None) or any(map(_holds_none, get_args(hint)))


def never_equal(event: type, other: type, field: str) -> str | None:
    """Why a field of two events never has the same value, by their types; None if it may have.

    >>> class Bought:
    ...     order: int
    >>> class Settled:
    ...     order: str
    >>> never_equal(Bought, Settled, "order")
    'Bought.order is int and Settled.order is str, which are never equal: declare both alike'
    """
    mine, others = (_classes_of(field_types(one).get(field)) for one in (event, other))
    if not mine or not others or any(_may_be_equal(a, b) for a in mine for b in others):
        return None
    own, of_other = (" or ".join(one.__name__ for one in kinds) for kinds in (mine, others))
    return (
        f"{event.__name__}.{field} is {own} and {other.__name__}.{field} is {of_other}, which are "
        "never equal: declare both alike"
    )


def _may_be_equal(one: type, other: type) -> bool:
    if {one, other} == {date, datetime}:
        return False
    return (
        issubclass(one, other)
        or issubclass(other, one)
        or (issubclass(one, Number) and issubclass(other, Number))
    )


def is_doubtful(event: type, field: str) -> bool:
    """Whether, by its type, an event's field may have values that cannot be keys."""
    return _may_be_anything(field_types(event).get(field))


def _may_be_anything(hint: Any) -> bool:
    if isinstance(hint, NewType):
        return _may_be_anything(hint.__supertype__)
    return hint in (Any, object, None) or any(map(_may_be_anything, get_args(hint)))


def _unusable(hint: Any) -> str | None:
    """The name of a part of the type that cannot be a key."""
    if isinstance(hint, NewType):
        return _unusable(hint.__supertype__)
    origin = get_origin(hint)
    if origin is Literal or hint is NoneType:
        return None
    if origin is Annotated:
        return _unusable(get_args(hint)[0])
    kind = hint if origin is None else origin
    # the order of a set, and so its text, differs between processes
    if isinstance(kind, type) and (kind.__hash__ is None or issubclass(kind, frozenset)):
        return kind.__name__
    return next((reason for part in get_args(hint) if (reason := _unusable(part)) is not None), None)
