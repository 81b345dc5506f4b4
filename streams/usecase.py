"""A use case: one declaration from which topics, features, models and schemas are derived."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from features.declaration import DAY, Feature, View, views
from features.errors import FeatureDeclarationError
from features.state import FeatureState
from online_models.member import PerKey, Shared
from online_models.task import Task
from streams.errors import DeclarationError
from streams.events import Event, EventCodec, Reference
from streams.topics import Topics


@dataclass(frozen=True, slots=True)
class UseCase:
    """What to predict, from which events, with which features and models.

    `key` is the field that decides an event's partition, `partitions` their fixed number. Times
    are seconds: `lateness` is how far behind the newest event one may come, `max_jump` how far
    ahead of all others, `dedup_horizon` how long an event id is remembered. `clock="wall"` makes
    workers append clock events to idle partitions; a case fed from history uses "event".
    """

    name: str
    key: str
    events: Sequence[type[Event]]
    features: Mapping[str, Feature]
    task: Task
    models: PerKey | Shared
    partitions: int = 1
    slices: Sequence[str] = ()
    source: str | None = None
    lateness: float = 0.0
    max_jump: float = 7 * DAY
    dedup_horizon: float = DAY
    clock: Literal["event", "wall"] = "event"
    max_event_bytes: int = 65_536
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        self.codec()
        ask = self.task.ask
        label = self.task.label
        for event in (ask, label.event, *label.void):
            if event not in self.events:
                raise DeclarationError(
                    f"{self.name}: the task uses {event.__name__}, which is not among events"
                )
            if issubclass(event, Reference):
                raise DeclarationError(f"{self.name}: {event.__name__} is a reference; the task needs events")
            if label.on not in getattr(event, "__struct_fields__", ()):
                raise DeclarationError(
                    f"{self.name}: labels join on {label.on!r}, which {event.__name__} lacks"
                )
        for name in self.slices:
            if name not in getattr(ask, "__struct_fields__", ()):
                raise DeclarationError(f"{self.name}: slice {name!r} is no field of {ask.__name__}")
        if self.partitions < 1:
            raise DeclarationError(f"{self.name}: partitions must be at least 1, not {self.partitions}")
        if isinstance(self.models, Shared) and self.partitions > 1:
            raise DeclarationError(
                f"{self.name}: Shared models need partitions=1 (one learner over several partitions is not "
                "supported yet); use PerKey, whose models do not depend on how keys fall on partitions"
            )
        try:
            FeatureState(self.features, ask, self.key, self.views())
        except FeatureDeclarationError as error:
            raise DeclarationError(f"{self.name}: {error}") from error

    def codec(self) -> EventCodec:
        """Encodes and decodes this case's events."""
        return EventCodec(self.events, self.key, self.max_event_bytes)

    def views(self) -> list[View]:
        """The online feature views, one a key."""
        return views(self.name, self.features)

    def topics(self, namespace: str = "") -> Topics:
        """Names and settings of the case's topics."""
        return Topics(self.name, self.partitions, namespace)

    @property
    def spec_hash(self) -> str:
        """sha256 over the declaration, the source of its functions and its estimators' parameters."""
        parts: list[str] = []
        _describe(self, parts)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _describe(value: Any, parts: list[str]) -> None:
    """Append a canonical description of a declaration's value."""
    if isinstance(value, type):
        parts.append(f"type {value.__qualname__} {getattr(value, '__annotations__', {})}")
    elif is_dataclass(value):
        parts.append(type(value).__name__)
        for entry in fields(value):
            parts.append(entry.name)
            _describe(getattr(value, entry.name), parts)
        build = getattr(value, "build", None)
        if callable(build):
            built = build()
            parts.append(_without_address(repr(built)))
            parts.append(_source(type(built)))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            parts.append(repr(key))
            _describe(item, parts)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _describe(item, parts)
    elif isinstance(value, partial):
        _describe([value.func, value.args, value.keywords], parts)
    elif callable(value):
        parts.append(_source(value))
        # what a function was made with is not in its source
        _describe([getattr(value, "__defaults__", None), getattr(value, "__kwdefaults__", None)], parts)
        for cell in getattr(value, "__closure__", None) or ():
            held = cell.cell_contents
            parts.append(_source(held)) if callable(held) else _describe(held, parts)
    else:
        parts.append(_without_address(repr(value)))


def _without_address(text: str) -> str:
    """The default repr names an address, which is another in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return _without_address(repr(function)) if code is None else f"{code.co_code.hex()} {code.co_consts}"


def load(path: str) -> Any:
    """The object at `module:attribute`, looked for in the current folder too."""
    module_name, _, attribute = path.partition(":")
    if not attribute:
        raise DeclarationError(
            f"{path!r} is not of the form module:attribute, such as examples.flights:flights"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise DeclarationError(f"{path!r}: cannot import {error.name!r} (looked in {here} too)") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise DeclarationError(f"{path!r}: {module_name} has no attribute {attribute!r}") from None


def load_case(path: str) -> UseCase:
    """The use case at `module:attribute`; raises DeclarationError when there is none."""
    case = load(path)
    if not isinstance(case, UseCase):
        raise DeclarationError(f"{path!r} is a {type(case).__name__}, not a UseCase")
    return case
