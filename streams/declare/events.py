"""The base classes of events, which define what may enter the log.

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

# if the options were given by name, mypy would ask every subclass to repeat frozen=True
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
    """Something that happened. Subclass it with a `tag`, the `type` of its JSON objects, and its fields.

    Every event has two fields: `id`, a text that is unique in the case, and `at`, the event time, a datetime
    with a zone. Optional arguments of a subclass: `retired` names fields that old events have and the class
    no longer has. `forbid_unknown_fields=False` ignores unknown fields instead of refusing the event, so that
    producers may send a new field before the case knows it.

    >>> from datetime import UTC, datetime
    >>> class Arrived(Event, tag="arrived", retired=("gate",)):
    ...     flight: str
    ...     delay: float
    >>> Arrived(id="1", at=datetime(2026, 1, 1, tzinfo=UTC), flight="UA1545", delay=12.0).delay
    12.0
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


def tag_of(kind: type[Event]) -> str:
    """The name of an event type in the log: the `type` of its events."""
    return str(kind.__struct_config__.tag)


class Reference(Event):
    """A fact for every partition, such as a plane or a product. Features read it with `lookup`.

    It is declared like an `Event`. Producers send it to all partitions, and it does not move event time.

    >>> from datetime import UTC, datetime
    >>> class Plane(Reference, tag="plane"):
    ...     tailnum: str
    ...     built: int
    >>> Plane(id="1", at=datetime(2026, 1, 1, tzinfo=UTC), tailnum="N14228", built=1999).built
    1999
    """


class Clock(Event, tag="clock"):
    """States that the event time is `at`, in every partition. Waits for labels end by it when there are no
    other events, as at the end of a file.

    >>> from datetime import UTC, datetime
    >>> Clock(id="clock-1", at=datetime(2026, 1, 1, tzinfo=UTC)).at.isoformat()
    '2026-01-01T00:00:00+00:00'
    """


class WarmUp(Event, tag="warm-up"):
    """The first record of a log that begins with history. Until `Serve`, models learn from the events and
    nothing is published."""


class Serve(Event, tag="serve"):
    """The end of a warm-up: requests from here on are answered."""


Action = Literal["promote", "rollback", "freeze", "unfreeze", "add", "remove", "budget"]


class Command(Event, tag="command"):
    """A command of an operator for the pool with key `pool`, or for every pool (""). `new_command` makes one.

    `nonce` must exceed the nonces of the operator's earlier commands. `signature` is Ed25519, in hex (see
    `driftline.streams.declare.commands`). `task` is the task that it is for, where the log is that of another
    task: each task obeys only its own commands. A command does not move event time.

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
"""Events that reach the features and do not move event time."""


_datetime_of = datetime.fromtimestamp


def moment(at: float) -> datetime:
    """The UTC datetime of `at` seconds since the epoch, to the microsecond."""
    return _datetime_of(at, UTC)


_OF_EVERY_EVENT = {field.name: field.type for field in msgspec.structs.fields(Event)}
"""`id` and `at`, the fields of every event."""
_JSON_TYPES: tuple[type, ...] = (bool, int, float, str, list, dict)


def check_event_class(event: type[Event]) -> None:
    """Raise DeclarationError if every event of the class, or every one with a default, would be a dead
    letter."""
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
                raise DeclarationError(
                    f"{name}.{field.name}: every event has this field: leave it out of the class"
                )
            continue
        what = f"{name}.{field.name}"
        try:
            decoder = msgspec.json.Decoder(field.type)
        except TypeError as error:
            raise DeclarationError(f"{what}: {error}") from None
        for foreign in _foreign(msgspec.inspect.type_info(field.type), set()):
            simple = next((kind for kind in _JSON_TYPES if issubclass(foreign, kind)), None)
            hint = f": declare {simple.__name__}" if simple else ""
            raise DeclarationError(f"{what} has {shown(foreign)}, which cannot be read from JSON{hint}")
        _check_default(what, field, decoder)


def _foreign(kind: msgspec.inspect.Type, seen: set[int]) -> Iterator[type]:
    """Classes within a type that msgspec does not know."""
    if id(kind) in seen:  # a recursive class
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
    """Check that the default is a valid value of the field, since producers send it too."""
    if field.required:
        return
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    try:
        decoder.decode(msgspec.json.encode(default))
    except (TypeError, msgspec.MsgspecError) as error:
        hint = f": write {what.partition('.')[2]}: ... | None" if default is None else ""
        raise DeclarationError(f"{what}: its default is {shown(default)}: {error}{hint}") from None
