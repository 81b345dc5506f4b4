"""The state of the intake, and the interface to its features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from driftline.features.state.event_time import Time
from driftline.features.state.online_view import RowKey, StampedRow
from driftline.features.state.reference_tally import Tally
from driftline.features.state.windows.paged_table import PagedTables
from driftline.object_size import StateSize
from driftline.streams.declare.commands import AuthorityState
from driftline.streams.fold.deduplication import SeenEvents, StoredEvents
from driftline.streams.fold.label_join import LabelJoinState
from driftline.streams.fold.watermark import Watermark
from driftline.streams.records.output_size import Classes


class Features(Protocol):
    """Keeps the fold's features: `driftline.features.state.feature_state.FeatureState`, or an object that
    observes one."""

    @property
    def paged(self) -> PagedTables: ...
    def names(self) -> tuple[str, ...]: ...
    def read(self, request: Any, at: float) -> dict[str, Any]: ...
    def gather(self, request: Any, at: float) -> dict[str, Any]: ...
    def update(self, event: Any, at: float) -> None: ...
    def come_to(self, time: Time) -> None: ...
    def put_rows(self, rows: dict[RowKey, StampedRow]) -> None: ...
    def every_row(self, watermark: float) -> Iterator[tuple[RowKey, StampedRow]]: ...
    def retain(self, watermark: float) -> None: ...
    def problems(self) -> list[str]: ...
    def evicted(self) -> int: ...
    def keys_held(self) -> dict[str, int]: ...
    def sizes(self) -> dict[str, StateSize]: ...
    def packed_sizes(self) -> dict[str, float]: ...
    def segments(self) -> list[str]: ...
    def tallies(self) -> Mapping[tuple[type, str], Tally]: ...
    def state(self) -> Any: ...
    def restore(self, state: Any) -> None: ...


@dataclass(slots=True)
class Counts:
    """How many events entered, requests were asked, and records refused, in the wrong partition, dropped as
    repeated, or late. A record that a warm-up refuses is no dead letter, as a warm-up publishes nothing."""

    events: int = 0
    predictions: int = 0
    dead_letters: int = 0
    refused_in_warm_up: int = 0
    misplaced: int = 0
    duplicates: int = 0
    late: int = 0


@dataclass(slots=True)
class IntakeState:
    """All of an intake that changes, beside the state of its parts. `held_rows` are the online rows of a
    warm-up, which are published when it ends."""

    watermark: Watermark
    records: int = 0
    warming: bool = False
    held_rows: dict[RowKey, StampedRow] = field(default_factory=dict)
    classes: Classes = field(default_factory=Classes)
    counts: Counts = field(default_factory=Counts)


class IntakeParts(NamedTuple):
    """The state of an intake with that of its parts."""

    own: IntakeState
    seen: SeenEvents | StoredEvents
    features: Any
    pending: LabelJoinState
    authority: AuthorityState
