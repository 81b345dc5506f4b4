"""Encodes and decodes events. A record that is no valid event is refused: its dead letter has the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec
import msgspec.structs

from driftline.declaration_check import suggestion
from driftline.features.declare.field_types import field_types
from driftline.features.declare.keys import key_text
from driftline.features.state.generated_function import GeneratedFunction, attribute
from driftline.streams.declare.events import SYSTEM_EVENTS, Event, Reference
from driftline.streams.declare.retirement import EventDecoder
from driftline.streams.errors import DeclarationError, Refused

MAX_MAGNITUDE = 1e15
"""The largest absolute value of a number that is computed with. Beyond it, squares and sums would not be
exact or finite."""
FIRST_YEAR, LAST_YEAR = 2, 9998
"""Years that `at` may be in, so that it has a date in UTC whatever its zone."""
LONGEST_KEY = 4_096
"""The largest record key in bytes. Every output about the record has the key, some more than once."""
COLONS_IN_TIME = 2
_UNKNOWN_TYPE = re.compile(r"Invalid value '(.*)' - at `\$\.type`")
_UNKNOWN_FIELD = re.compile(r"unknown field `(.*?)`")
_SPELLINGS = {
    "duration": 'a duration is ISO 8601, such as "PT2.5S"',
    "datetime": 'a time is RFC 3339 with a zone, such as "2026-01-31T08:00:00Z"',
    "`type`": '"type" is the tag of the event\'s class',
    "Expected `object`, got `str`": "the value is a text that holds JSON, which was encoded twice",
    "invalid character (byte 0)": "the value begins with other bytes, such as those of a schema registry",
    "is no class label": "a class is a text, an int or a bool, and no number of numpy",
    "is no finite number": f"a number is an int or a float within ±{MAX_MAGNITUDE:g}",
}
"""Parts of reasons, each with the advice for it."""


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    """Raise when a JSON object has a key twice: readers differ in which value they take."""
    names = set()
    for name, _ in pairs:
        if name in names:
            raise Refused("decode", f"the object says {name!r} twice")
        names.add(name)


# numbers stay text: their values do not matter here, and one of a million digits would be slow to parse
_REPEATS = json.JSONDecoder(
    object_pairs_hook=_refuse_repeated, parse_int=str, parse_float=str, parse_constant=str, strict=False
)


Check = Callable[[Event, bytes | None], None]
"""Takes an event and its record's key, and raises Refused if the event is not accepted under that key."""


class _Rules(NamedTuple):
    """The checks of events of a type: `numbers` are the fields whose magnitude is limited, `key` is the field
    whose text must be the record's key, if the type has it."""

    numbers: tuple[str, ...]
    key: str | None

    def refusal(self, event: Event, key: bytes | None) -> Refused:
        """The refusal of an event that did not pass the check."""
        if not FIRST_YEAR <= event.at.year <= LAST_YEAR:
            return Refused("decode", f"at lies in the year {event.at.year}, which not every zone has")
        for name in self.numbers:
            value = getattr(event, name)
            if not _within(value):
                return Refused("decode", f"{name} is {value!r}, beyond ±{MAX_MAGNITUDE:g}")
        if self.key is not None:
            text = key_text(getattr(event, self.key))
            if key is None or key != text.encode():
                given = "missing" if key is None else repr(key[:64])
                return Refused("key", f"record key is {given}, field {self.key!r} makes it {text!r:.80}")
        size = len(key or b"")
        return Refused("key", f"a key of {size:,} bytes: at most {LONGEST_KEY:,} are allowed")


def _check_of(event_type: type[Event], computed: Collection[str], key: str | None) -> Check:
    """The check of one type. `computed` are the fields that are computed with; `key` is the field with the
    record's key, if the type has it."""
    hints = field_types(event_type)
    rules = _Rules(
        tuple(
            name
            for name in event_type.__struct_fields__
            if name in computed and _may_hold_number(hints[name])
        ),
        key,
    )
    function = GeneratedFunction("check", "event", "key")
    refuse = f"raise {function.constant(rules.refusal)}(event, key)"
    function.block(f"if not {FIRST_YEAR} <= event.at.year <= {LAST_YEAR}:", [refuse])
    for name in rules.numbers:
        function.line(f"value = {attribute('event', name)}")
        function.block(f"if not ({_is_within(function, hints[name])}):", [refuse])
    if key is not None:
        read = attribute("event", key)
        text = read if hints[key] is str else f"{function.constant(key_text)}({read})"
        function.block(f"if key is None or key != {text}.encode():", [refuse])
    function.block(f"if key is not None and len(key) > {LONGEST_KEY}:", [refuse])
    return function.function()


def _is_within(function: GeneratedFunction, hint: Any) -> str:
    """Source of the condition that `value`, of this type, is within the allowed magnitude."""
    parts = set(get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,))
    if not parts <= {int, float, NoneType}:
        return f"{function.constant(_within)}(value)"
    within = f"{-MAX_MAGNITUDE!r} <= value <= {MAX_MAGNITUDE!r}"
    return f"value is None or {within}" if NoneType in parts else within


def _may_hold_number(hint: Any) -> bool:
    return hint in (int, float) or any(_may_hold_number(part) for part in get_args(hint))


def _within(value: Any) -> bool:
    """Whether all numbers in a field's value are finite and within the allowed magnitude."""
    if value is None or isinstance(value, (str, bytes)):
        return True
    if isinstance(value, (int, float)):
        return -MAX_MAGNITUDE <= value <= MAX_MAGNITUDE
    if isinstance(value, Mapping):
        return all(map(_within, value.values()))
    return not isinstance(value, Iterable) or all(map(_within, value))


_write = msgspec.json.Encoder(order="deterministic").encode


def as_written(event: Event) -> bytes:
    """The JSON of an event as this package writes it. It does not depend on how the producer wrote it (order
    of fields, spaces, defaults, the zone of `at`)."""
    if event.at.tzinfo is not UTC:
        event = msgspec.structs.replace(event, at=event.at.astimezone(UTC))
    return _write(event)


class EventCodec:
    """Encodes and decodes the events of one case.

    `types` are the case's event classes. `key` is the field with the partition key in every event that is not
    a `Reference` or one of `SYSTEM_EVENTS`. `max_bytes` bounds one encoded event. `others` are fields that an
    event may have instead of `key`, in order of preference: the first one that it has is its record's key.
    `checked` are the types whose events are refused under another key (default: all). `computed` names the
    fields of each type that are computed with: their numbers must be within `MAX_MAGNITUDE`. Other numbers
    may be identifiers of any size.
    """

    def __init__(
        self,
        types: Sequence[type[Event]],
        key: str | None,
        max_bytes: int,
        computed: Mapping[type, Collection[str]],
        others: Sequence[str] | None = None,
        checked: Collection[type[Event]] | None = None,
    ) -> None:
        tags: dict[str, type[Event]] = {str(kind.__struct_config__.tag): kind for kind in SYSTEM_EVENTS}
        for event_type in types:
            tag = str(event_type.__struct_config__.tag)
            if tag in tags:
                raise DeclarationError(
                    f"tag {tag!r} names both {tags[tag].__name__} and {event_type.__name__}"
                )
            tags[tag] = event_type
            lacks_key = not issubclass(event_type, Reference) and key not in event_type.__struct_fields__
            if lacks_key and others is None:
                raise DeclarationError(f"{event_type.__name__} lacks the partition key field {key!r}")
        self._decoder = EventDecoder[Event]((*types, *SYSTEM_EVENTS))
        self._encoder = msgspec.json.Encoder()
        self._max_bytes = max_bytes
        known: list[type[Event]] = [*types, *SYSTEM_EVENTS]
        self.broadcast = frozenset(t for t in known if issubclass(t, (Reference, *SYSTEM_EVENTS)))
        fields = [name for name in (key, *(others or ())) if name is not None]
        key_names = _key_names((kind for kind in known if kind not in self.broadcast), fields)
        self._key_of = {kind: attrgetter(name) for kind, name in key_names.items()}
        self._checks: dict[type[Event], Check] = {}
        self._fewest_colons: dict[type[Event], int] = {}
        for event_type in known:
            required = [field for field in msgspec.structs.fields(event_type) if field.required]
            self._fewest_colons[event_type] = 1 + len(required) + COLONS_IN_TIME
            all_fields = event_type.__struct_fields__
            used = all_fields if event_type in SYSTEM_EVENTS else computed.get(event_type, ())
            is_checked = checked is None or event_type in checked
            key_name = key_names.get(event_type) if is_checked else None
            self._checks[event_type] = _check_of(event_type, used, key_name)

    def decode(self, raw: bytes | None, key: bytes | None) -> Event:
        """The event in `raw`, a record with key `key`. Raises `Refused` with stage and reason."""
        return self.read(raw, key)[0]

    def read(self, raw: bytes | None, key: bytes | None) -> tuple[Event, bytes]:
        """As `decode`, also returning the JSON as this package writes it."""
        if not raw:
            raise Refused("decode", "the record has no value")
        if len(raw) > self._max_bytes:
            raise Refused("decode", f"{len(raw)} bytes exceed the case's limit of {self._max_bytes}")
        try:
            event = self._decoder.decode(raw)
            written = _write(event)
            # JSON as we write it repeats no key. Nor does JSON with no more colons than its type needs: there
            # is none left for a repeated key
            if written != raw and raw.count(b":") > self._fewest_colons[event.__class__]:
                _REPEATS.decode(raw.decode())
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Refused("decode", str(error)) from None
        self._checks[event.__class__](event, key)
        return event, written if event.at.tzinfo is UTC else as_written(event)

    def encode(self, event: Event) -> bytes:
        """The event's JSON. Raises `Refused` for an event that `decode` would refuse."""
        raw = self._encoder.encode(event)
        self.decode(raw, self.key(event))
        return raw

    def encode_trusted(self, event: Event) -> bytes:
        """The event's JSON without checks: the fold will refuse an invalid event."""
        return self._encoder.encode(event)

    def key(self, event: Event) -> bytes | None:
        """The record key; None for events that go to every partition, and for events without any key."""
        key_of = self._key_of.get(type(event))
        value = None if key_of is None else key_of(event)
        return None if value is None else key_text(value).encode()


def _key_names(kinds: Iterable[type[Event]], fields: Sequence[str]) -> dict[type[Event], str]:
    """The field with the record key of each event type: the first of `fields` that the type has."""
    found: dict[type[Event], str] = {}
    for kind in kinds:
        name = next((name for name in fields if name in kind.__struct_fields__), None)
        if name is not None:
            found[kind] = name
    return found


def advice(reason: str, types: Sequence[type[Event]]) -> str:
    """Advice for a refused event of these types, or its label, as text to append to the reason.

    Empty if the reason says everything. It is for people who read the reason; dead letters have only the
    reason.

    >>> class Ride(Event, tag="ride"):
    ...     load: float
    >>> advice("Invalid value 'Ride' - at `$.type`", [Ride])
    ". Did you mean 'ride'?"
    >>> advice("Object contains unknown field `lod`", [Ride])
    ". Did you mean 'load'?"
    >>> advice("Expected `duration`, got `int` - at `$.doors`", [Ride])
    ': a duration is ISO 8601, such as "PT2.5S"'
    """
    tags = [str(kind.__struct_config__.tag) for kind in types]
    if unknown := _UNKNOWN_TYPE.search(reason):
        return suggestion(unknown[1], tags) or f": the types are {', '.join(tags)}"
    if unknown := _UNKNOWN_FIELD.search(reason):
        return suggestion(unknown[1], sorted({name for kind in types for name in kind.__struct_fields__}))
    return next((f": {spelled}" for word, spelled in _SPELLINGS.items() if word in reason), "")
