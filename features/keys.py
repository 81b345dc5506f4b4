"""Which fields can be keys: what is looked up by must hash, and be the same text in every process."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, Literal, NewType, get_args, get_origin, get_type_hints


def not_a_key(event: type, field: str) -> str | None:
    """Why an event's field can be no key, by its type; None when it can be one, or when the type does not
    tell (`Any`). Of an event that lacks the field nothing is said.

    >>> class Bought:
    ...     shop: str
    ...     tags: list[str] | None
    >>> not_a_key(Bought, "shop")
    >>> not_a_key(Bought, "tags")
    'Bought.tags holds a list, which cannot be looked up by'
    """
    hint = get_type_hints(event).get(field)
    kind = None if hint is None else _unusable(hint)
    return None if kind is None else f"{event.__name__}.{field} holds a {kind}, which cannot be looked up by"


def is_doubtful(event: type, field: str) -> bool:
    """Whether the type of an event's field leaves open that a value is no key."""
    return _may_be_anything(get_type_hints(event).get(field))


def _may_be_anything(hint: Any) -> bool:
    if isinstance(hint, NewType):
        return _may_be_anything(hint.__supertype__)
    return hint in (Any, object, None) or any(map(_may_be_anything, get_args(hint)))


def _unusable(hint: Any) -> str | None:
    """The name of a part of the type that is no key."""
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
    return next((found for part in get_args(hint) if (found := _unusable(part)) is not None), None)
