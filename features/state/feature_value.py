"""Which values a feature or a key may have. Values from user code are checked and made plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from driftline.errors import pass_interrupt
from driftline.features.errors import FeatureValueError

LARGEST = 1e15
"""The largest absolute value that a number may have."""


def checked(name: str, value: Any) -> Any:
    """The value as plain None, text, bool or finite number within ±1e15. Raises FeatureValueError for any
    other value."""
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
    """The error to raise when user code raised. Interrupts are raised again as they are."""
    pass_interrupt(error)
    return FeatureValueError(name, "its function raised")


def number(name: str, value: Any) -> Any:
    """The value as `checked` gives it, if windows can sum it, or None. Raises FeatureValueError for text."""
    plain = checked(name, value)
    if plain.__class__ is str:
        raise FeatureValueError(name, f"{value!r} is text, and windows hold numbers")
    return plain


def check_keys(by: Iterable[tuple[str, ...]], keys: Sequence[Any]) -> None:
    """Raise FeatureValueError when one of an event's `keys` cannot be looked up. `by` names the fields of
    each."""
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
    """The value as text for a message. It has no memory address, so that every fold of the log gives the
    same text."""
    return repr(value)[:100] if isinstance(value, (int, float, str)) else f"a {type(value).__name__}"


def _encodable(text: str) -> bool:
    """Whether the text can be encoded as UTF-8: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """Numbers, bools and texts of numpy or an enumeration as Python's own types; other values unchanged."""
    if isinstance(value, Enum):
        return value.value
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        return item()
    for plain in (float, int, str):
        if isinstance(value, plain):
            return plain.__str__(value) if plain is str else plain(value)
    return value
