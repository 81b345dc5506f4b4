"""Retired fields of event classes: old events in the log have them, and nothing reads them any more.

class Asked(Event, tag="asked", retired=("colour",)): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, Union

import msgspec

from driftline.declaration_check import check_keywords, shown
from driftline.streams.errors import DeclarationError

TAG_FIELD = "type"
OPTIONS = ("tag", "forbid_unknown_fields", "kw_only")
"""The msgspec options that an event class may set."""
_Kind = TypeVar("_Kind", bound=msgspec.Struct)


class EventMeta(msgspec.StructMeta):
    """Accepts `retired=` beside msgspec's keywords. A subclass inherits the retired fields of its bases."""

    __retired__: tuple[str, ...]

    def __new__(
        mcls: type[EventMeta],
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        retired: Sequence[str] = (),
        **options: Any,
    ) -> EventMeta:
        if isinstance(retired, str):
            raise DeclarationError(f'{name}: retired takes names: write retired=("{retired}",)')
        if any(isinstance(base, EventMeta) for base in bases):
            _check_options(name, options)
        try:
            made: EventMeta = super().__new__(mcls, name, bases, namespace, **options)
        except (TypeError, ValueError) as error:
            raise DeclarationError(f"{name}: {error}") from None
        inherited = (field for base in bases for field in getattr(base, "__retired__", ()))
        made.__retired__ = tuple(dict.fromkeys((*inherited, *retired)))
        present = {*made.__struct_encode_fields__, made.__struct_config__.tag_field}
        for field in made.__retired__:
            if field in present:
                raise DeclarationError(f"{name}: {field!r} is a field and retired: it can only be one")
        return made

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, namespace)


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check the options: others would change an event's JSON form, an object with its tag in `type`."""
    tag = options.get("tag")
    if tag is not None and not isinstance(tag, str):
        raise DeclarationError(f"{name}: tag: expected a text, not {shown(tag)}")
    check_keywords(options, (*OPTIONS, "retired"), f"class {name}(Event, ...)", DeclarationError)


class EventDecoder(Generic[_Kind]):
    """Decodes events of some types, without their retired fields.

    `decode` returns the event in a JSON text. Raises msgspec.MsgspecError.
    """

    def __init__(self, types: Sequence[type[_Kind]]) -> None:
        self._union: Any = Union[(*types,)]
        self._decoder: msgspec.json.Decoder[_Kind] = msgspec.json.Decoder(self._union)
        self._retired = {
            kind.__struct_config__.tag: frozenset(retired)
            for kind in types
            if (retired := getattr(kind, "__retired__", ()))
        }
        # without retired fields, msgspec's own method: another call would cost 140 ns an event
        self.decode: Callable[[bytes], _Kind] = self._decode_old if self._retired else self._decoder.decode

    def _decode_old(self, raw: bytes) -> _Kind:
        try:
            return self._decoder.decode(raw)
        except msgspec.ValidationError:
            # values stay as they were written: a number may change when it is read and written again
            fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            left = self._without_retired(fields, msgspec.json.decode(fields.get(TAG_FIELD, b"null")))
            if left is None:
                raise
            return self._decoder.decode(msgspec.json.encode(left))

    def convert(self, fields: dict[str, Any]) -> _Kind:
        """The event in a row of a table, whose cells may be text. Raises msgspec.ValidationError."""
        left = self._without_retired(fields, fields.get(TAG_FIELD))
        event: _Kind = msgspec.convert(fields if left is None else left, self._union, strict=False)
        return event

    def _without_retired(self, fields: Mapping[str, Any], tag: Any) -> dict[str, Any] | None:
        """The fields without the retired ones; None if none of them is retired."""
        retired = self._retired.get(tag, frozenset()) if isinstance(tag, str) else frozenset()
        left = {name: value for name, value in fields.items() if name not in retired}
        return left if len(left) < len(fields) else None
