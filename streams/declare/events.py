"""The typed event contract: what may enter the log.

Events are JSON objects `{"type": tag, "id": ..., "at": RFC 3339 with a zone, ...fields}`.
`event_codec` writes and reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import msgspec.inspect
import msgspec.json
import msgspec.structs

from driftline.declaration_check import shown
from driftline.streams.declare.retirement import TAG_FIELD, EventMeta
from driftline.streams.errors import DeclarationError

# given by name, mypy would ask every subclass to say frozen=True again
_FROZEN: dict[str, Any] = {"frozen": True}


class Event(
    msgspec.Struct,
    metaclass=EventMeta,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field=TAG_FIELD,
    gc=False,
    **_FROZEN,
):
    """Something that happened. Subclass it with a `tag` and the fields it carries.

    `id` is unique over the case; `at` is the event's own time, with a zone. A field that the class has no
    more is named in `retired`, as old events hold it. With `forbid_unknown_fields=False` any other field is
    ignored, so that producers may send one more before the case knows it.

    >>> class Arrived(Event, tag="arrived", retired=("gate",)):
    ...     flight: str
    ...     delay: float
    """

    if TYPE_CHECKING:

        def __init_subclass__(
            cls,
            *,
            tag: str | None = None,
            retired: Sequence[str] = (),
            forbid_unknown_fields: bool = True,
            kw_only: bool = False,
        ) -> None: ...

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    at: Annotated[datetime, msgspec.Meta(tz=True)]


class Reference(Event):
    """A fact that holds for every partition (a plane, a product); it does not move time.

    >>> class Plane(Reference, tag="plane"):
    ...     tailnum: str
    ...     built: int
    >>> Plane.__struct_config__.tag
    'plane'
    """


class Clock(Event, tag="clock"):
    """Says that time has come to `at`: lets windows and waits end where no other event arrives.

    >>> from datetime import UTC, datetime
    >>> Clock(id="clock-1", at=datetime(2026, 1, 1, tzinfo=UTC)).at.isoformat()
    '2026-01-01T00:00:00+00:00'
    """


class WarmUp(Event, tag="warm-up"):
    """The first record of a log that begins with history: what follows is learned from, and nothing is
    put out, until `Serve`."""


class Serve(Event, tag="serve"):
    """The warm-up is over: requests from here on are answered."""


Action = Literal["promote", "rollback", "freeze", "unfreeze", "add", "remove", "budget"]


class Command(Event, tag="command"):
    """What an operator wants of the pool of key `pool`, or of every pool ("").

    `nonce` is above that of every command of the operator before it; `signature` is Ed25519, in hex (see
    `driftline.streams.declare.commands`). It does not move time. `task` is the one that it is for, where the
    log is that of another task: each obeys its own commands alone.

    >>> from datetime import UTC, datetime
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> Command(id="c1", at=at, action="promote", operator="ann", nonce=1, member="trees").pool
    ''
    """

    action: Action
    operator: str
    nonce: int
    pool: str = ""
    member: str = ""
    budget: float | None = None
    signature: str = ""
    task: str | msgspec.UnsetType = msgspec.UNSET


SYSTEM_EVENTS: tuple[type[Event], ...] = (Clock, WarmUp, Serve, Command)
"""Events that every case has."""
TIMELESS: tuple[type[Event], ...] = (Reference, WarmUp, Serve)
"""Events that reach the features and say nothing of what time it is."""


def moment(at: float) -> datetime:
    """The UTC datetime of `at` seconds since the epoch, to the microsecond."""
    return datetime.fromtimestamp(at, UTC)


_OF_EVERY_EVENT = {field.name: field.type for field in msgspec.structs.fields(Event)}
"""`id` and `at`: what the fold reads of any event."""
_JSON_TYPES: tuple[type, ...] = (bool, int, float, str, list, dict)


def check_event_class(event: type[Event]) -> None:
    """Raises DeclarationError where each record, or each with a default, would be a dead letter."""
    name = event.__name__
    try:
        fields = msgspec.structs.fields(event)
    except NameError as error:
        raise DeclarationError(
            f"{name}: {error}: an annotation names a type that its module does not have"
        ) from None
    for field in fields:
        if field.name in _OF_EVERY_EVENT:
            if field.type != _OF_EVERY_EVENT[field.name]:
                raise DeclarationError(f"{name}.{field.name}: every event has it: leave it out of the class")
            continue
        what = f"{name}.{field.name}"
        try:
            decoder = msgspec.json.Decoder(field.type)
        except TypeError as error:
            raise DeclarationError(f"{what}: {error}") from None
        for foreign in _foreign(msgspec.inspect.type_info(field.type), set()):
            simple = next((kind for kind in _JSON_TYPES if issubclass(foreign, kind)), None)
            hint = f": declare {simple.__name__}" if simple else ""
            raise DeclarationError(f"{what} holds {shown(foreign)}, which is not read from JSON{hint}")
        _check_default(what, field, decoder)


def _foreign(kind: msgspec.inspect.Type, seen: set[int]) -> Iterator[type]:
    """Classes within a type that msgspec does not know."""
    if id(kind) in seen:  # a class that holds itself
        return
    seen.add(id(kind))
    if isinstance(kind, msgspec.inspect.CustomType) and not any(issubclass(t, kind.cls) for t in _JSON_TYPES):
        yield kind.cls
    for name in kind.__struct_fields__:
        inner = getattr(kind, name)
        for part in inner if isinstance(inner, tuple) else (inner,):
            part = part.type if isinstance(part, msgspec.inspect.Field) else part
            if isinstance(part, msgspec.inspect.Type):
                yield from _foreign(part, seen)


def _check_default(what: str, field: msgspec.structs.FieldInfo, decoder: msgspec.json.Decoder[Any]) -> None:
    """A producer sends the default too: it has to be a value of the field."""
    if field.required:
        return
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    try:
        decoder.decode(msgspec.json.encode(default))
    except (TypeError, msgspec.MsgspecError) as error:
        hint = f": write {what.partition('.')[2]}: ... | None" if default is None else ""
        raise DeclarationError(f"{what}: its default is {shown(default)}: {error}{hint}") from None
