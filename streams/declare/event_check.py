"""What an event is checked for that its types do not say; one function for each type of event, made once.

Nearly all events pass: what is wrong with one that does not is found out afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from driftline.features.declare.keys import key_text
from driftline.features.state.generated_function import GeneratedFunction, attribute
from driftline.streams.declare.events import Event
from driftline.streams.errors import Refused

MAX_MAGNITUDE = 1e15
"""Numbers to compute with may not be beyond this: their squares and sums would not be exact or finite."""
FIRST_YEAR, LAST_YEAR = 2, 9998
"""Years that `at` may lie in: whatever its zone, it has a date in UTC."""
LONGEST_KEY = 4_096
"""Bytes of a record's key: it stands in every output about it, more than once in some."""
Check = Callable[[Event, bytes | None], None]
"""Raises Refused for an event that must not be taken in under a record's key."""


class _Rules(NamedTuple):
    """What events of a type are checked for: the `numbers` among their fields, and the field whose text is
    the record's key, if the type has it."""

    numbers: tuple[str, ...]
    key: str | None

    def refusal(self, event: Event, key: bytes | None) -> Refused:
        """What is wrong with an event that did not pass."""
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


def check_of(event_type: type[Event], computed: Collection[str], key: str | None) -> Check:
    """The check of one type, of whose fields some are `computed` with; `key` names the field that holds the
    record's key, if the type has it."""
    hints = get_type_hints(event_type)
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
    """The source that says whether `value`, of this type, is within the magnitude allowed."""
    parts = set(get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,))
    if not parts <= {int, float, NoneType}:
        return f"{function.constant(_within)}(value)"
    within = f"{-MAX_MAGNITUDE!r} <= value <= {MAX_MAGNITUDE!r}"
    return f"value is None or {within}" if NoneType in parts else within


def _may_hold_number(hint: Any) -> bool:
    return hint in (int, float) or any(_may_hold_number(part) for part in get_args(hint))


def _within(value: Any) -> bool:
    """Whether all numbers in a field's value are finite and within the magnitude allowed."""
    if value is None or isinstance(value, (str, bytes)):
        return True
    if isinstance(value, (int, float)):
        return -MAX_MAGNITUDE <= value <= MAX_MAGNITUDE
    if isinstance(value, Mapping):
        return all(map(_within, value.values()))
    return not isinstance(value, Iterable) or all(map(_within, value))
