"""The role of each event type in a case, and the pool that answers a request: decided once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

from driftline.features.declare.keys import key_text
from driftline.online_models.members.member import Shared
from driftline.streams.declare.events import SYSTEM_EVENTS, TIMELESS, Clock, Event, Reference, Serve, WarmUp
from driftline.streams.declare.usecase import UseCase

ONE_POOL = ""
"""The key of the only pool of a case whose models are shared."""


class Asked(Protocol):
    """A request: its key, and the fields that its prediction repeats."""

    @property
    def key(self) -> str: ...

    @property
    def keys(self) -> dict[str, Any]: ...


PoolKey = Callable[[Asked], str]


@dataclass(frozen=True, slots=True)
class Route:
    """The role of an event type in the case; `tag` is its name in the log. Types with `is_event` move time,
    as a clock does; references and marks do not."""

    tag: str
    is_event: bool
    is_clock: bool
    is_reference: bool
    counted: bool
    marks: bool
    asks: bool
    labels: bool
    voids: bool
    corrects: str | None
    joins: bool
    keyed: bool


def routes(case: UseCase) -> dict[type[Event], Route]:
    """The route of every event type that the log may hold."""
    task, label, broadcast = case.task, case.task.label, case.codec().broadcast
    kinds: list[type[Event]] = [*case.events, *SYSTEM_EVENTS]
    return {
        kind: Route(
            tag=str(kind.__struct_config__.tag),
            is_event=not issubclass(kind, (Clock, *TIMELESS)),
            is_clock=kind is Clock,
            is_reference=issubclass(kind, Reference),
            counted=kind not in SYSTEM_EVENTS,
            marks=kind is WarmUp or kind is Serve,
            asks=kind is task.ask,
            labels=kind is label.event,
            voids=kind in label.void,
            corrects=label.correction_field(kind),
            joins=kind in (task.ask, label.event, *label.void),
            keyed=kind not in broadcast,
        )
        for kind in kinds
    }


def pool_key_of(case: UseCase) -> PoolKey:
    """A function that gives the key of the pool which answers a request, and learns from its label."""
    models = case.models
    if isinstance(models, Shared):
        return lambda _: ONE_POOL
    field = models.by
    if field is None or field == case.key:
        return attrgetter("key")

    def by_field(asked: Asked) -> str:
        # other code may have published other keys for a request that is refused here
        return key_text(asked.keys[field]) if field in asked.keys else asked.key

    return by_field
