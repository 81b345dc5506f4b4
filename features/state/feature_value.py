"""What may be a feature's value or a key: what user code returns is checked and made plain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from driftline.errors import pass_interrupt
from driftline.features.errors import FeatureValueError

LARGEST = 1e15
"""The largest absolute value of a number."""


def checked(name: str, value: Any) -> Any:
    """The value as plain None, text, bool or a finite number within ±1e15, if it is one of these."""
    kind = value.__class__
    if kind is float or kind is int:
        if -LARGEST <= value <= LARGEST:
            return value
    elif kind is bool or value is None:
        return value
    elif kind is str:
        if value.isascii() or _encodable(value):
            return value
    else:
        plain = _plain(value)
        if plain is not value:
            return checked(name, plain)
    raise FeatureValueError(name, f"{_shown(value)} is not a finite number, text, bool or None")


def failed(name: str, error: BaseException) -> FeatureValueError:
    """What to raise when user code raised; an interrupt is passed on."""
    pass_interrupt(error)
    return FeatureValueError(name, "its function raised")


def number(name: str, value: Any) -> Any:
    """The value as `checked` gives it, if windows can add it up (or None)."""
    plain = checked(name, value)
    if plain.__class__ is str:
        raise FeatureValueError(name, f"{value!r} is text, and windows hold numbers")
    return plain


def check_keys(by: Iterable[tuple[str, ...]], keys: Sequence[Any]) -> None:
    """Raises FeatureValueError when one of an event's keys, each of the fields `by`, cannot be looked up."""
    try:
        hash(tuple(keys))
    except TypeError:
        for names, key in zip(by, keys, strict=True):
            try:
                hash(key)
            except TypeError:
                raise FeatureValueError(" and ".join(names), f"{_shown(key)} cannot be a key") from None
        raise


def _shown(value: Any) -> str:
    """The value for a message, the same whenever the log is folded again: no memory addresses."""
    return repr(value)[:100] if isinstance(value, (int, float, str)) else f"a {type(value).__name__}"


def _encodable(text: str) -> bool:
    """Whether the text can be written: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """A number, bool or text of numpy or of an enumeration as Python's own; others as they are."""
    if isinstance(value, Enum):
        return value.value
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        return item()
    for plain in (float, int, str):
        if isinstance(value, plain):
            return plain.__str__(value) if plain is str else plain(value)
    return value
