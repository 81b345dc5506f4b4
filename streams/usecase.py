"""A use case: one declaration from which topics, features, models and schemas are derived."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from features.declaration import DAY, Feature, View, fields_computed_with, views
from features.errors import FeatureDeclarationError
from features.expectation import Refusals
from features.keys import not_a_key
from features.on_demand import OnDemandView, on_demand_views
from features.state import FeatureState
from online_models.member import PerKey, Shared
from online_models.task import Task
from streams.commands import check_operators
from streams.errors import DeclarationError
from streams.events import Event, EventCodec, Reference
from streams.provenance import OWN_PACKAGES
from streams.retention import Retention, needed_for, seconds_of
from streams.specification import described
from streams.topics import Topics


@dataclass(frozen=True, slots=True)
class UseCase:
    """What to predict, from which events, with which features and models.

    `key` is the field that decides an event's partition, `partitions` their fixed number. Times
    are seconds: `lateness` is how far behind the newest event one may come, `max_jump` how far
    ahead of all others, `dedup_horizon` how long an event id is remembered. `clock="wall"` makes
    workers append clock events to idle partitions; a case fed from history uses "event".
    `operators` are the Ed25519 public keys, in hex, of those whose commands are obeyed, by name.
    `refusals` are what a frozen schema of the features refuses: such requests are dead letters.
    `retention` is how long the topics are kept (seconds, a timedelta, or infinite): by default 30 days, and
    more where labels or windows need events for longer. It decides no prediction, so it may change any time.
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
    operators: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    refusals: Refusals | None = field(default=None, kw_only=True)
    retention: Retention = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.codec()
        check_operators(self.operators)
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
        keys = [(event, self.key) for event in self.events]
        keys += [(event, label.on) for event in (ask, label.event, *label.void)]
        keys += [(ask, name) for name in self.slices]
        for event, name in keys:
            if (reason := not_a_key(event, name)) is not None:
                raise DeclarationError(f"{self.name}: {reason}")
        for name in () if self.refusals is None else self.refusals.features:
            if name not in self.features:
                raise DeclarationError(f"{self.name}: requests are refused by {name!r}, which is no feature")
        if self.partitions < 1:
            raise DeclarationError(f"{self.name}: partitions must be at least 1, not {self.partitions}")
        if isinstance(self.models, Shared) and self.partitions > 1:
            raise DeclarationError(
                f"{self.name}: Shared models need partitions=1 (one learner over several partitions is not "
                "supported yet); use PerKey, whose models do not depend on how keys fall on partitions"
            )
        try:
            self.feature_state(self.views())
            self.on_demand_views()
        except FeatureDeclarationError as error:
            raise DeclarationError(f"{self.name}: {error}") from error
        self._retention()

    def _retention(self) -> float:
        """How long the topics are kept, in seconds."""
        needed = needed_for(self.task.label, self.dedup_horizon, self.lateness, self.views())
        return seconds_of(self.name, self.retention, needed)

    def codec(self) -> EventCodec:
        """Encodes and decodes this case's events."""
        computed = fields_computed_with(self.features, self.task.ask)
        return EventCodec(self.events, self.key, self.max_event_bytes, computed)

    def views(self) -> list[View]:
        """The online feature views, one a key."""
        return views(self.name, self.features, self.clock)

    def on_demand_views(self) -> list[OnDemandView]:
        """The views of features that are computed from others as they are read."""
        return on_demand_views(self.name, self.features, self.views(), self.task.ask)

    @property
    def models_with_notes(self) -> PerKey | Shared:
        """The models, their monitoring without the features whose notes say so."""
        monitoring = self.models.monitoring
        noted = frozenset(name for name, feature in self.features.items() if not feature.note.monitor)
        if monitoring is None or noted <= monitoring.unwatched:
            return self.models
        return replace(self.models, monitoring=replace(monitoring, unwatched=monitoring.unwatched | noted))

    def feature_state(self, views: Sequence[View] = ()) -> FeatureState:
        """The feature state of one partition before its first event; it keeps online rows of the `views`."""
        return FeatureState(self.features, self.task.ask, self.key, views)

    def topics(self, namespace: str = "") -> Topics:
        """Names and settings of the case's topics."""
        return Topics(self.name, self.partitions, namespace, self._retention())

    @property
    def spec_hash(self) -> str:
        """sha256 over the declaration, its functions with what they use, and its estimators' parameters.

        Raises Undescribable for a part of which nobody could say whether it changed.
        """
        deciding = replace(self, retention=None)  # how long records are kept changes none of them
        return hashlib.sha256(described(deciding, self.packages).encode()).hexdigest()

    @property
    def packages(self) -> frozenset[str]:
        """Top-level packages of the declaration's own code, wherever they are installed."""
        return frozenset(event.__module__.partition(".")[0] for event in self.events) - {*OWN_PACKAGES}


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
