"""A bridge: how records of a foreign topic become events of a case, with features read on the way.

The feature values become part of the event, so the fold over the log stays pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Annotated, Any, cast, get_args

import msgspec

from driftline.declaration_check import AT_LEAST_0, MaybeSeconds, Seconds, check, shown, suggestion
from driftline.errors import pass_interrupt
from driftline.features.declare.declaration import MINUTE
from driftline.features.declare.field_types import field_types
from driftline.online_models.errors import reason_of
from driftline.streams.declare.events import Event
from driftline.streams.declare.topics import LONGEST_BRIDGE
from driftline.streams.declare.usecase import UseCase, load_object
from driftline.streams.errors import DeclarationError, Refused

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REASON = 200


class ForeignRecord(msgspec.Struct, frozen=True):
    """One record of a foreign topic. `timestamp` is in milliseconds since the epoch; `at` is the same as a
    datetime in UTC, and `json()` decodes the value.

    `id` depends only on the record's position, so a record that is bridged twice has the same id:

    >>> record = ForeignRecord("pos.sales", "topic-id", 0, 17, 1_767_225_600_000, None, b"{}")
    >>> record.id == ForeignRecord("pos.sales", "topic-id", 0, 17, 0, None, None).id
    True
    """

    topic: str
    topic_id: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def id(self) -> str:
        """An id that is the same at every read of the record, and unique even if the topic is recreated."""
        return f"{self.topic_id}:{self.partition}:{self.offset}"

    @property
    def at(self) -> datetime:
        """The record's timestamp in UTC: its producer's, or the broker's append time."""
        return _EPOCH + timedelta(milliseconds=self.timestamp)

    def json(self) -> Any:
        """The value decoded as JSON. Raises ValueError if it is not JSON."""
        return json.loads(self.value or b"")


@dataclass(frozen=True, slots=True)
class Enrichment:
    """Fields of bridged events that are filled from an online store.

    A field is None if there is no value: the entity was never seen, one of its keys is None, or the row has
    expired or has the wrong age. Durations are in seconds or a timedelta.

    Parameters
    ----------
    case, view
        The case and its feature view to read from: the bridge's case, or another one.
    key
        For each key of the view, the event field with its value.
    fields
        For each event field to fill, the feature.
    max_age
        The largest age of a row in event time; None: as long as the view's ttl.
    max_ahead
        How far a row may be newer than the event. A newer one is in the event's future, as when history is
        bridged.
    patience
        How long the bridge waits for a store that does not answer; then fields are None. None: it waits
        without limit, and reads no further records meanwhile.

    Raises DeclarationError for an unknown view, key, field or feature.

    >>> from driftline.examples.flights import flights
    >>> late = Enrichment(flights, "flights_by_origin", key={"origin": "airport"}, fields={"late": "late_1h"})
    >>> late.max_ahead
    60.0
    """

    case: UseCase
    view: str
    key: Mapping[str, str]
    fields: Mapping[str, str]
    max_age: Annotated[MaybeSeconds, AT_LEAST_0] = field(default=cast(Any, None))
    max_ahead: Annotated[Seconds, AT_LEAST_0] = field(default=cast(Any, MINUTE))
    patience: Annotated[MaybeSeconds, AT_LEAST_0] = field(default=cast(Any, None))

    def __post_init__(self) -> None:
        check(self, DeclarationError, self.view)
        if self.case.tasks:
            one = self.case.tasks[0].name
            raise DeclarationError(
                f"{self.case.name} has several tasks, whose workers keep online rows apart: name one, as "
                f"Enrichment({self.case.name}.of({one!r}), ...)"
            )
        views = {view.name: view for view in self.case.views()}
        view = views.get(self.view)
        if view is None:
            raise DeclarationError(
                f"{self.case.name} has no feature view {self.view!r}; it has: "
                f"{', '.join(sorted(views)) or 'none'}{suggestion(self.view, views)}"
            )
        if set(self.key) != set(view.keys):
            raise DeclarationError(
                f"view {self.view} is keyed by {', '.join(view.keys)}, not by "
                f"{', '.join(self.key) or 'nothing'}"
            )
        unknown = sorted(set(self.fields.values()) - set(view.features))
        if unknown or not self.fields:
            raise DeclarationError(
                f"view {self.view} has no feature {unknown[0]!r}{suggestion(unknown[0], view.features)}"
                if unknown
                else f"the enrichment from view {self.view} fills no field"
            )

    def fills(self, kind: type[Event]) -> bool:
        """Whether events of this type have the fields to fill; raises DeclarationError if one cannot be None,
        or a key field is missing."""
        hints = field_types(kind)
        if not set(self.fields) <= set(hints):
            return False
        for name in self.fields:
            if NoneType not in get_args(hints[name]):
                raise DeclarationError(
                    f"{kind.__name__}.{name} is filled from view {self.view}, where a value may be missing: "
                    f"declare it as {name}: float | None = None"
                )
        lacking = sorted(set(self.key.values()) - set(hints))
        if lacking:
            raise DeclarationError(
                f"{kind.__name__} lacks {lacking[0]!r}, a key of view {self.view} that it is filled from"
                f"{suggestion(lacking[0], hints)}"
            )
        return True


@dataclass(frozen=True, slots=True)
class Bridge:
    """Copies the records of a foreign Kafka topic into the log of a case, as events. `driftline bridge
    module:attribute` runs it.

    Parameters
    ----------
    name
        The bridge's name, with which its topic of dead letters and its consumer group are named.
    case
        The case whose log gets the events.
    topic
        The foreign topic.
    map
        A function that gets each `ForeignRecord`, in the order of its partition, and returns the event,
        several events, or None to skip the record. It must always return the same for a record: after a crash
        records are bridged again, and the fold drops repeats by their id. So use an id in the record, or
        `record.id`.
    enrich
        Event fields that are read from online stores.

    If `map` raises, or returns a malformed event, the record goes unchanged to the bridge's dead letters,
    with the reason. Raises DeclarationError for a wrong argument.

    >>> Bridge("till", orders, topic="pos.sales", map=sale, enrich=[...])          # doctest: +SKIP
    """

    name: str
    case: UseCase
    topic: str
    map: Callable[[ForeignRecord], Event | Iterable[Event] | None]
    enrich: Sequence[Enrichment] = field(default=())

    def __post_init__(self) -> None:
        check(self, DeclarationError, self.name)
        object.__setattr__(self, "case", self.case.writing)
        if not _NAME.fullmatch(self.name) or len(self.name) > LONGEST_BRIDGE:
            raise DeclarationError(
                f"a bridge's name has lower-case letters, digits, - and _, at most {LONGEST_BRIDGE} of them, "
                f"unlike {shown(self.name)}"
            )
        if self.case.allowed_lateness > self.case.dedup_horizon:
            raise DeclarationError(
                f"{self.name}: {self.case.name} takes events {self.case.allowed_lateness:g} s late, but "
                f"remembers ids for {self.case.dedup_horizon:g} s: an event bridged twice could count twice"
            )
        for enrichment in self.enrich:
            filled = [kind for kind in self.case.events if enrichment.fills(kind)]
            if not filled:
                raise DeclarationError(
                    f"{self.name}: no event of {self.case.name} has the fields {', '.join(enrichment.fields)}"
                )

    def events_of(self, record: ForeignRecord) -> list[Event]:
        """The events that a record becomes, not enriched yet; raises Refused."""
        try:
            mapped = self.map(record)
            events = [] if mapped is None else [mapped] if isinstance(mapped, Event) else list(mapped)
        except BaseException as error:
            pass_interrupt(error)
            raise Refused("map", reason_of(error)[:_REASON]) from error
        for event in events:
            if type(event) not in self.case.events:
                raise Refused("map", f"a {type(event).__name__} is no event of {self.case.name}")
        ids = [event.id for event in events]
        if len(set(ids)) < len(ids):
            raise Refused("map", "two events of one record have the same id: the second would be dropped")
        return events

    def dead_letters(self, namespace: str = "") -> str:
        """The topic of the records that were refused."""
        return self.case.topics(namespace).of_bridge(self.name)

    def group(self, topic_id: str, namespace: str = "") -> str:
        """The consumer group; a topic that is recreated under the same name has another group."""
        return f"{self.case.topics(namespace).log}.bridge.{self.name}.{topic_id}"


def load_bridge(path: str) -> Bridge:
    """The bridge at `module:attribute`; raises DeclarationError when there is none."""
    bridge = load_object(path)
    if not isinstance(bridge, Bridge):
        raise DeclarationError(f"{path!r} is a {type(bridge).__name__}, not a Bridge")
    return bridge
