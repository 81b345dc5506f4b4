"""Checks declarations: each field of a dataclass is compared with its annotation when an object is made.

    @dataclass(frozen=True, slots=True)
    class Rest:
        over: Annotated[Seconds, ABOVE_0]
        kind: Literal["short", "long"] = "short"

        def __post_init__(self) -> None:
            check(self, DeclarationError)

Durations may be given as a `timedelta`, and are stored as seconds.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from math import inf
from numbers import Integral, Real
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from driftline.errors import DeclarationError

Duration = float | timedelta
"""Seconds, or a timedelta."""
LONGEST_DURATION = 1_000 * 366 * 86_400.0
"""The longest duration, a thousand years in seconds: a deadline after the year 9999 would have no date."""
SHORTEST_DURATION = 1e-6
"""The shortest duration above 0 in seconds: the times of events are whole microseconds."""
_SHOWN = 60
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|sec|min|hour|day)[a-z]*\s*", re.IGNORECASE)
_UNITS = {"s": "SECOND", "m": "MINUTE", "h": "HOUR", "d": "DAY"}


class _Seconds:
    """Marks a field that is stored as seconds and may be given as a timedelta."""


if TYPE_CHECKING:

    class Seconds:
        """A field that is read as seconds, and may be given as a timedelta too."""

        def __get__(self, instance: object | None, owner: type) -> float: ...
        def __set__(self, instance: object, value: Duration) -> None: ...

    class MaybeSeconds:
        """As `Seconds`, or None."""

        def __get__(self, instance: object | None, owner: type) -> float | None: ...
        def __set__(self, instance: object, value: Duration | None) -> None: ...

else:
    Seconds = Annotated[float, _Seconds()]
    MaybeSeconds = Seconds | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Numbers from `low` to `high`; `above` and `below` exclude the bound itself."""

    low: float = -inf
    high: float = inf
    above: float = -inf
    below: float = inf

    def holds(self, number: float) -> bool:
        """Whether the number lies within."""
        return self.low <= number <= self.high and self.above < number < self.below

    def __str__(self) -> str:
        bounds = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{word} {bound:,.15g}" for word, bound in bounds.items() if abs(bound) != inf)


class _Endless:
    """Marks a duration that may be infinite."""


class _NotEmpty:
    """Marks a text that must not be empty."""


ENDLESS = _Endless()
NOT_EMPTY = _NotEmpty()
ABOVE_0 = Bounds(above=0)
AT_LEAST_0 = Bounds(low=0)
AT_LEAST_1 = Bounds(low=1)


class _Wrong(Exception):
    """A value is not as expected. The message says what was expected, and what was found."""


class _WrongArguments(_Wrong):
    """A function where one is expected, but that takes other arguments."""


def suggestion(given: object, known: Iterable[str]) -> str:
    """A suggestion of the known name that was meant, as the end of a message. Empty if no name is close.

    >>> suggestion("walll", ["event", "wall"])
    ". Did you mean 'wall'?"
    """
    close = get_close_matches(given, list(known), n=1, cutoff=0.6) if isinstance(given, str) else []
    return f". Did you mean {close[0]!r}?" if close else ""


def shown(value: object) -> str:
    """A value as text for a message: a class or a function by name, any other value shortened if it is
    long."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {getattr(value, '__name__', 'of no name')}"
    text = " ".join(repr(value).split())
    if len(text) > _SHOWN or " at 0x" in text:
        return f"a {type(value).__name__}" if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return text


def seconds(given: object, where: str, error: type[DeclarationError], bounds: Bounds | None = None) -> float:
    """A duration in seconds.

    >>> seconds(timedelta(hours=1), "over", DeclarationError)
    3600.0
    >>> seconds("1h", "over", DeclarationError)
    Traceback (most recent call last):
    driftline.errors.DeclarationError: over: expected seconds or a timedelta, not '1h': write 1 * HOUR
    """
    try:
        number = _seconds(given)
        if bounds is not None and not bounds.holds(number):
            raise _Wrong(f"it must be {bounds}, not {shown(given)}")
    except _Wrong as wrong:
        raise error(f"{where}: {wrong}") from None
    return number


def names(given: object, where: str, error: type[DeclarationError]) -> tuple[str, ...]:
    """One name or several, as a tuple without repetition. At least one is needed."""
    listed = (given,) if isinstance(given, str) else given
    if not isinstance(listed, (list, tuple)) or not all(isinstance(name, str) and name for name in listed):
        raise error(f"{where}: expected the name of a field, or several as a tuple, not {shown(given)}")
    if not listed or len(set(listed)) < len(listed):
        raise error(f"{where}: expected at least one name, each once, not {shown(given)}")
    return tuple(listed)


def check_keywords(
    given: Collection[str], known: Collection[str], what: str, error: type[DeclarationError]
) -> None:
    """Raise an error for an unknown keyword."""
    for name in given:
        if name not in known:
            raise error(
                f"{what} takes no {name!r}{suggestion(name, known)}"
                + ("" if suggestion(name, known) else f": it takes {', '.join(known)}")
            )


def check_argument(given: object, hint: Any, where: str, error: type[DeclarationError]) -> None:
    """Compare an argument with an annotation, as `check` does with each field.

    >>> check_argument(0, Annotated[int, AT_LEAST_1], "kept", DeclarationError)
    Traceback (most recent call last):
    driftline.errors.DeclarationError: kept: it must be at least 1, not 0
    """
    try:
        _accepted(given, hint)
    except _Wrong as wrong:
        raise error(f"{where}: {wrong}") from None


def check(declaration: Any, error: type[DeclarationError], name: str = "") -> None:
    """Compare every field of a frozen dataclass with its annotation; timedeltas become seconds.

    `name` is the declaration's name in the message. Raises `error` for the first field that has another type,
    is not finite, or is outside its bounds.
    """
    kind = type(declaration)
    hints = _hints(kind)  # type: ignore[arg-type]  # a class can be hashed
    for one in fields(declaration):
        given = getattr(declaration, one.name)
        try:
            accepted = _accepted(given, hints[one.name])
        except _Wrong as wrong:
            of = f"{kind.__name__}({name!r})" if name and isinstance(name, str) else kind.__name__
            raise error(f"{of}: {one.name}: {wrong}") from None
        if accepted is not given:
            object.__setattr__(declaration, one.name, accepted)


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _accepted(value: Any, hint: Any) -> Any:
    """The value as it is stored. Raises _Wrong."""
    if isinstance(hint, TypeVar) or hint is Any or hint is object:
        return value
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(value, *parts)
    if origin in (Union, types.UnionType):
        return _one_of(value, parts)
    if origin is Literal:
        if value in parts and type(value) in map(type, parts):
            return value
        expected = " or ".join(map(repr, parts))
        raise _Wrong(f"expected {expected}, not {shown(value)}{suggestion(value, parts)}")
    return _of_kind(value, hint if origin is None else origin, parts)


def _annotated(value: Any, hint: Any, *marks: Any) -> Any:
    if value == inf and ENDLESS in marks:
        return inf
    accepted = (
        _seconds(value) if any(isinstance(mark, _Seconds) for mark in marks) else _accepted(value, hint)
    )
    if accepted == "" and NOT_EMPTY in marks:
        raise _Wrong("expected a text that is not empty")
    for mark in marks:
        if isinstance(mark, Bounds) and accepted is not None and not mark.holds(accepted):
            raise _Wrong(f"it must be {mark}, not {shown(value)}")
    return accepted


def _one_of(value: Any, hints: Sequence[Any]) -> Any:
    """The value as accepted by the first of several hints that fits."""
    wrong = []
    for hint in hints:
        try:
            return _accepted(value, hint)
        except _WrongArguments:
            raise
        except _Wrong as error:
            wrong.append((hint, error))
    only = [error for hint, error in wrong if hint is not types.NoneType]
    if len(only) == 1:
        raise only[0]
    raise _Wrong(f"expected {' or '.join(_described(hint) for hint, _ in wrong)}, not {shown(value)}")


def _described(hint: Any) -> str:
    """A hint in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return (
            "seconds or a timedelta" if any(isinstance(p, _Seconds) for p in parts) else _described(parts[0])
        )
    if origin in (Union, types.UnionType):
        return " or ".join(map(_described, parts))
    plain = hint if origin is None else origin
    words = {
        types.NoneType: "None", str: "text", int: "a whole number", float: "a number", bool: "True or False",
        Callable: "a function", Sequence: "a list", Mapping: "a mapping", tuple: "a tuple", type: "a class",
    }  # fmt: skip
    if plain in words:
        return words[plain]
    name = getattr(plain, "__name__", str(plain))
    return f"{'an' if name[:1] in 'AEIO' else 'a'} {name}"


def _of_kind(value: Any, kind: Any, parts: tuple[Any, ...]) -> Any:
    if kind in (int, float, bool):
        return _number(value, kind)
    if kind is type:
        return _class(value, parts)
    if kind is Callable:
        if callable(value):
            return _taking(value, parts[0] if parts else ...)
    elif kind in (Sequence, tuple):
        return _sequence(value, kind, parts)
    elif kind is frozenset:
        return _set(value, parts)
    elif kind is Mapping:
        return _mapping(value, parts)
    elif kind is types.NoneType:
        if value is None:
            return None
    elif getattr(kind, "_is_protocol", False) or isinstance(value, kind):
        return value  # the class that declares a protocol checks its members itself
    expected = _described(kind)
    if isinstance(value, type) and isinstance(kind, type) and issubclass(value, kind):
        raise _Wrong(f"expected {expected}, not its class: write {value.__name__}(...)")
    raise _Wrong(f"expected {expected}, not {shown(value)}")


def _taking(function: Callable[..., Any], arguments: Any) -> Any:
    """The function, if it can be called with so many arguments, or may be for all that is known."""
    if arguments is ...:
        return function
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of something that is not written in Python
        return function
    try:
        signature.bind(*arguments)
    except TypeError as error:
        count = {0: "no argument", 1: "one argument"}.get(len(arguments), f"{len(arguments)} arguments")
        raise _WrongArguments(f"expected a function of {count}, but {shown(function)}: {error}") from None
    return function


def is_finite(number: Any) -> bool:
    """Whether a real number is neither NaN nor beyond the floats, as an int may be.

    >>> is_finite(10**400), is_finite(float("nan")), is_finite(-1.5)
    (False, False, True)
    """
    return bool(-sys.float_info.max <= number <= sys.float_info.max)


def _number(value: Any, kind: type) -> Any:
    if kind is bool or isinstance(value, bool):
        if kind is bool and isinstance(value, bool):
            return value
    elif isinstance(value, Integral if kind is int else Real):
        if not is_finite(value):
            raise _Wrong(f"expected a finite number, not {shown(value)}")
        return value if isinstance(value, (int, float)) else kind(value)
    raise _Wrong(f"expected {_described(kind)}, not {shown(value)}")


def _seconds(value: Any) -> float:
    if isinstance(value, timedelta):
        return _possible(value.total_seconds(), value)
    if isinstance(value, Real) and not isinstance(value, bool):
        if not is_finite(value):
            raise _Wrong(f"expected a finite number of seconds, not {shown(value)}")
        return _possible(float(value), value)
    written = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    hint = "" if written is None else f": write {written[1]} * {_UNITS[written[2][0].lower()]}"
    raise _Wrong(f"expected seconds or a timedelta, not {shown(value)}{hint}")


def _possible(seconds: float, given: Any) -> float:
    if abs(seconds) > LONGEST_DURATION:
        raise _Wrong(f"it must be at most a thousand years, not {shown(given)}")
    if 0.0 < seconds < SHORTEST_DURATION:
        raise _Wrong(f"it must be a microsecond or more, not {shown(given)}")
    return seconds


def _class(value: Any, parts: tuple[Any, ...]) -> Any:
    base = parts[0] if parts and isinstance(parts[0], type) else object
    if isinstance(value, type) and issubclass(value, base):
        return value
    expected = "a class" if base is object else f"a subclass of {base.__name__}"
    raise _Wrong(f"expected {expected}, not {shown(value)}")


def _sequence(value: Any, kind: Any, parts: tuple[Any, ...]) -> Any:
    each = parts[0] if parts else Any
    if not isinstance(value, (list, tuple)):
        alone = "" if isinstance(value, AbstractSet | Mapping) or value is None else _in_a_list(value)
        raise _Wrong(f"expected a list, not {shown(value)}{alone}")
    if kind is tuple and parts and parts[-1] is not Ellipsis:
        if len(value) != len(parts):
            raise _Wrong(f"expected {len(parts)} values, not {shown(value)}")
        accepted: list[Any] = [_accepted(one, hint) for one, hint in zip(value, parts, strict=True)]
    else:
        accepted = [_at(f"item {place}", one, each) for place, one in enumerate(value)]
    same = all(a is b for a, b in zip(accepted, value, strict=True))
    return value if same and (kind is Sequence or isinstance(value, tuple)) else tuple(accepted)


def _in_a_list(value: Any) -> str:
    name = value.__name__ if isinstance(value, type) else shown(value)
    return f": write [{name}]"


def _set(value: Any, parts: tuple[Any, ...]) -> Any:
    if not isinstance(value, (AbstractSet, list, tuple)):
        raise _Wrong(f"expected a set, not {shown(value)}")
    for one in value:
        _accepted(one, parts[0] if parts else Any)
    return value if isinstance(value, frozenset) else frozenset(value)


def _mapping(value: Any, parts: tuple[Any, ...]) -> Any:
    if not isinstance(value, Mapping):
        raise _Wrong(f"expected a mapping, such as {{name: ...}}, not {shown(value)}")
    keys, values = parts or (Any, Any)
    accepted = {_at("a key", key, keys): _at(repr(key), one, values) for key, one in value.items()}
    return value if all(accepted[key] is one for key, one in value.items()) else accepted


def _at(where: str, value: Any, hint: Any) -> Any:
    try:
        return _accepted(value, hint)
    except _Wrong as wrong:
        raise _Wrong(f"{where}: {wrong}") from None
