"""The annotations and members of a user's class, without those that Python or a library adds to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, get_type_hints

import msgspec

_ADDED_NAMES = """
    __module__ __dict__ __weakref__ __doc__ __qualname__ __annotations__ __firstlineno__ __slots__ __hash__
    __static_attributes__ __annotate__ __annotate_func__ __annotations_cache__ __match_args__ _abc_impl
    __dataclass_fields__ __dataclass_params__ __parameters__ __abstractmethods__ __slotnames__
"""
_ADDED = frozenset(_ADDED_NAMES.split())
_ADDED_BY_DATACLASS = "<string>"
"""The file name of generated methods. They are left out, as they follow from the fields."""


def annotations_of(kind: type) -> list[tuple[str, Any]]:
    """(name, type) of a class's own annotations. An annotation whose names only type checkers know is given
    as its text."""
    own = vars(kind).get("__annotations__", {})
    if not isinstance(own, dict):  # of a type that is written in C
        return []
    try:
        hints = get_type_hints(kind, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError):
        hints = own
    return [(name, _described_hint(hints.get(name, own[name]))) for name in own]


def _described_hint(hint: Any) -> Any:
    """A type as its parts: `list[int]` is (list, int)."""
    if isinstance(hint, type) and not hasattr(hint, "__args__"):
        return hint
    arguments = getattr(hint, "__args__", None)
    if arguments is None:
        return hint if isinstance(hint, type) else repr(hint)
    origin = getattr(hint, "__origin__", type(hint))
    notes = getattr(hint, "__metadata__", ())
    head = origin if isinstance(origin, type) else str(origin)
    return (head, *map(_described_hint, arguments), *map(repr, notes))


def members_of(kind: type) -> Iterator[tuple[str, Any]]:
    """(name, member) of everything that a class itself adds to its bases, sorted by name."""
    if issubclass(kind, msgspec.Struct):
        yield from _of_struct(kind)
        return
    if is_dataclass(kind):
        yield (
            "fields",
            [
                (f.name, _default(f.default), _default(f.default_factory), f.init, f.kw_only)
                for f in fields(kind)
            ],
        )
        yield "parameters", str(vars(kind).get("__dataclass_params__"))
    if issubclass(kind, Enum):
        yield "members", [(name, member.value) for name, member in kind.__members__.items()]
    for name, member in sorted(vars(kind).items()):
        if name not in _ADDED and not _is_added(kind, name, member):
            yield name, member


def _default(value: Any) -> Any:
    return "none" if value is MISSING else value


def _is_added(kind: type, name: str, member: Any) -> bool:
    if isinstance(member, (MemberDescriptorType, GetSetDescriptorType)):
        return True  # a slot
    if is_dataclass(kind) and isinstance(member, FunctionType):
        return member.__code__.co_filename == _ADDED_BY_DATACLASS
    if issubclass(kind, Enum):
        is_code = isinstance(member, (FunctionType, classmethod, staticmethod))
        return name in kind.__members__ or (name.startswith("_") and name.endswith("_") and not is_code)
    return False


def _of_struct(kind: type[msgspec.Struct]) -> Iterator[tuple[str, Any]]:
    """The members of a msgspec struct: fields, options of reading and writing, and methods."""
    config = kind.__struct_config__
    yield "config", [str(config.tag), config.tag_field, config.forbid_unknown_fields]
    for entry in msgspec.structs.fields(kind):
        default = "none" if entry.default is msgspec.NODEFAULT else entry.default
        factory = "none" if entry.default_factory is msgspec.NODEFAULT else entry.default_factory
        yield f"field {entry.name}", (entry.encode_name, default, factory)
    for name, member in sorted(vars(kind).items()):
        if name not in _ADDED and not name.startswith("__struct_") and not _is_added(kind, name, member):
            yield name, member
