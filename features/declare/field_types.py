"""Types of an event's fields, read from its annotations once."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Any, get_type_hints


@cache
def field_types(event: type) -> MappingProxyType[str, Any]:
    """The type of each field by its name, `Annotated` left out. Raises NameError for an annotation that names
    what its module does not have.

    >>> class Bought:
    ...     price: "float"
    >>> field_types(Bought)["price"]
    <class 'float'>
    """
    return MappingProxyType(get_type_hints(event))
