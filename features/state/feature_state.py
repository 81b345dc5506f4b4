"""The whole feature state of one partition of the log: windows and references, read as of an event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Any

from driftline.features.declare.declaration import (
    Derived,
    Elapsed,
    Feature,
    Lookup,
    OnDemand,
    RequestField,
    View,
    Window,
)
from driftline.features.declare.field_check import check_fields
from driftline.features.declare.on_demand import check_inputs, evaluation, step
from driftline.features.declare.ranges import Ranges, RangesState
from driftline.features.errors import FeatureValueError
from driftline.features.state.event_time import Time
from driftline.features.state.feature_value import check_keys
from driftline.features.state.online_view import OnlineView, RowKey, StampedRow, ViewState, WindowReading
from driftline.features.state.reference_tally import Tally
from driftline.features.state.references import References, ReferencesState
from driftline.features.state.request_row import (
    DerivedReading,
    FieldReading,
    LookupReading,
    RequestRow,
    is_plain,
)
from driftline.features.state.segment_store import IN_MEMORY, SegmentStore
from driftline.features.state.window_feed import Take, WindowFeed
from driftline.features.state.windows.aggregate import new_table, reader_of, table_identity
from driftline.features.state.windows.paged_table import PagedTables
from driftline.features.state.windows.window import CountWindow
from driftline.features.state.windows.window_table import BoundedTable, SavedTable, WindowTable
from driftline.object_size import SAMPLED, StateSize, size_of


@dataclass(slots=True)
class FeatureParts:
    """The state of a partition's features, as checkpoints store it: tables of windows and references in the
    order of declaration, views by name, and the valid ranges."""

    tables: Sequence[WindowTable | SavedTable]
    references: list[ReferencesState]
    views: dict[str, ViewState]
    ranges: RangesState


def _take_nothing(event: Any, at: float) -> None:
    """No window holds events of this type."""


class FeatureState:
    """Feature values of one partition: events update them, requests read them.

    A value read at `t` counts the events that precede the request in the log and whose own time lies in
    (t - over, t]. For each of the `views`, `put_rows` gives the newest online row of every changed key.
    """

    def __init__(
        self,
        features: Mapping[str, Feature],
        ask: type,
        views: Sequence[View] = (),
        store: SegmentStore = IN_MEMORY,
    ) -> None:
        self._ask = ask
        self._store = store
        self._tables: dict[tuple[Any, ...], WindowTable] = {}
        self._feeds: dict[type, WindowFeed] = {}
        self._references: dict[tuple[type, str], References] = {}
        self._lookups: dict[type, list[tuple[References, Callable[[Any], Any]]]] = {}
        self._row = RequestRow()
        self.order = tuple(features)
        for name, feature in features.items():
            check_fields(name, feature, ask)
            self._declare(name, feature)
            check_inputs(name, features, ask)
        # Elapsed features are read from their windows, which have the time of every event
        steps = tuple(step(name, f) for name, f in features.items() if isinstance(f, OnDemand))
        self._computed = evaluation(steps, {}) if steps else None
        self._computed_names = tuple(one.name for one in steps)
        self._ranges = Ranges({name: feature.note for name, feature in features.items()})
        self._is_ranged = bool(self._ranges)
        self._views: list[OnlineView] = []
        for view in views:
            self._show(view)
        self._read_row = self._row.reader()
        self._gathered_names = tuple(self._row.names())
        self.paged = PagedTables(self._tables.values())
        self._updates = {event: self._update_of(event) for event in (*self._feeds, *self._lookups, ask)}

    def _table(self, feature: Window) -> WindowTable:
        identity = table_identity(feature)
        table = self._tables.get(identity)
        if table is None:
            table = self._tables[identity] = new_table(feature, self._store)
            self._feeds.setdefault(feature.event, WindowFeed()).feed(table, feature)
        table.keep_for(feature.over)
        return table

    def _reading(self, name: str, feature: Window, place: int) -> WindowReading:
        windows = self._table(feature).get
        return WindowReading(name, place, windows, reader_of(feature), feature.over, feature.empty)

    def _readings(self, view: View) -> list[WindowReading]:
        """How the view's rows are read; that leaves windows where they are."""
        return [
            self._reading(name, window, 0)._replace(window_of=self._table(window).peeker())
            for name, window in view.features.items()
        ]

    def _show(self, view: View) -> None:
        """Maintain the online rows of the view."""
        tables = {id(table): table for table in map(self._table, view.features.values())}
        online = OnlineView(view, self._readings(view), tuple(tables.values()))
        self._views.append(online)
        for event in dict.fromkeys(window.event for window in view.features.values()):
            self._feeds[event].show(online, view.keys)

    def _declare(self, name: str, feature: Feature) -> None:
        """Prepare the state that the feature is read from. Its fields have been checked."""
        if isinstance(feature, Elapsed):
            reading = self._reading(name, feature.window, self._row.place(feature.window.by))
            self._row.windows.append(reading._replace(read=CountWindow.elapsed))
        elif isinstance(feature, Window):
            self._row.windows.append(self._reading(name, feature, self._row.place(feature.by)))
        elif isinstance(feature, Lookup):
            self._declare_lookup(name, feature)
        elif isinstance(feature, Derived):
            self._row.derived.append(DerivedReading(name, feature.function))
        elif isinstance(feature, RequestField):
            plain = is_plain(self._ask, feature.name)
            self._row.fields.append(FieldReading(name, feature.name, plain))

    def _declare_lookup(self, name: str, feature: Lookup) -> None:
        ttl = float("inf") if feature.ttl is None else feature.ttl
        references = self._references.get((feature.event, feature.by))
        if references is None:
            references = self._references[feature.event, feature.by] = References(ttl)
            self._lookups.setdefault(feature.event, []).append((references, attrgetter(feature.by)))
        references.keep_for(ttl)
        plain = is_plain(feature.event, feature.field)
        self._row.lookups.append(LookupReading(name, references, feature.by, feature.field, plain, ttl))

    def _update_of(self, kind: type) -> Take:
        """The function that adds events of a type: to windows alone, where they are nothing else."""
        take = self._feeds[kind].take() if kind in self._feeds else _take_nothing
        settles = kind is self._ask and self._is_ranged
        lookups = self._lookups.get(kind, [])
        if not settles and not lookups:
            return take
        names = [(name,) for event_type, name in self._references if event_type is kind]

        def update(event: Any, at: float) -> None:
            keys = [key_of(event) for _, key_of in lookups]
            check_keys(names, keys)
            take(event, at)
            if settles:
                self.settle()
            for (references, _), key in zip(lookups, keys, strict=True):
                references.put(key, at, event)

        return update

    def update(self, event: Any, at: float) -> None:
        """Add an event at `at` (seconds). Raises FeatureValueError, with nothing changed, when user code
        fails or a value cannot be a key."""
        update = self._updates.get(event.__class__)
        if update is not None:
            update(event, at)

    def tallies(self) -> Mapping[tuple[type, str], Tally]:
        """The tally of each kind of reference, by event type and the field it is looked up by."""
        return {place: references.tally for place, references in self._references.items()}

    def come_to(self, time: Time) -> None:
        """The partition's time is now `time`. Each read states its own time, so nothing changes here."""

    def put_rows(self, rows: dict[RowKey, StampedRow]) -> None:
        """Add to `rows` the newest online row of every key that had an event since the last call. A row is
        as of the key's newest event.

        Only another event of the key changes such a row, and then the key is due again. `retain` may drop
        values that a row counts, so call this before it.
        """
        for view in self._views:
            view.put_rows(rows)

    def every_row(self, watermark: float) -> Iterator[tuple[RowKey, StampedRow]]:
        """The online row of every key, changed or not, as of the watermark (seconds); see `OnlineView`."""
        for view in self._views:
            yield from view.every_row(watermark)

    def reader(self, view: View) -> Callable[[Any, float], dict[str, Any]]:
        """A function that gives the row of a key of the view as of a time."""
        return OnlineView(view, self._readings(view)).values

    def names(self) -> tuple[str, ...]:
        """The features in the order in which a request has them."""
        return (*self._gathered_names, *self._computed_names)

    def read(self, request: Any, at: float) -> dict[str, Any]:
        """The request's feature values; missing ones are absent. Raises FeatureValueError."""
        x = self.gather(request, at)
        self.complete(x)
        return x

    def gather(self, request: Any, at: float) -> dict[str, Any]:
        """The features that are read directly, before their ranges are applied and on-demand features are
        computed from them."""
        if self._is_ranged:
            self._ranges.begin()
        return self._read_row(request, at)

    def ordered(self, gathered: Mapping[str, Any]) -> dict[str, Any]:
        """Values that were gathered in several stages, in the order in which `gather` gives them."""
        if self._is_ranged:
            self._ranges.begin()
        return {name: gathered[name] for name in self._gathered_names if name in gathered}

    def complete(self, x: dict[str, Any]) -> None:
        """Apply the valid ranges to gathered values, and add the on-demand features. Raises
        FeatureValueError."""
        if self._is_ranged:
            self._ranges.confine(x)
        if self._computed is not None:
            computed = self._computed(x, self._problem)
            self._ranges.note_inside(computed)
            x.update(computed)

    def within_ranges(self, x: Mapping[str, Any]) -> dict[str, Any]:
        """A copy without the values that count as missing because they are outside their range."""
        kept = dict(x)
        self._ranges.silently(kept)
        return kept

    def settle(self) -> None:
        """Note that the request completed last was accepted: its problems will be reported."""
        if self._is_ranged:
            self._ranges.settle()

    def _problem(self, name: str, value: Any, error: BaseException | None) -> None:
        if error is not None:
            raise FeatureValueError(name, "its function raised") from error
        self._ranges.note_outside(name, value)

    def problems(self) -> list[str]:
        """Problems of the last request: one for each feature whose value left its valid range for the first
        time."""
        return self._ranges.take_problems() if self._is_ranged else []

    def evicted(self) -> int:
        """How many keys were evicted so far, because `max_keys` was reached."""
        return sum(table.evicted for table in self._tables.values() if isinstance(table, BoundedTable))

    def keys_held(self) -> dict[str, int]:
        """The number of keys in the windows, by event type and key fields: `Arrived by carrier`."""
        held: dict[str, int] = {}
        for (_, event, _, by, *_), table in self._tables.items():
            windows = f"{event.__name__} by {', '.join(by) or 'nothing'}"
            held[windows] = held.get(windows, 0) + table.held
        return held

    def sizes(self) -> dict[str, StateSize]:
        """For each kind of window, the number of keys and the bytes of a key with its window."""
        sizes = {}
        for name, table in self._named_tables():
            sizes[name] = size_of(table.held_in_memory, islice(table.in_memory(), SAMPLED))
            if (packed := table.packed_size).held:
                sizes[f"{name}, packed"] = packed
        return sizes

    def packed_sizes(self) -> dict[str, float]:
        """For each kind of window in memory, the bytes of one in a page, by a sample."""
        return {name: table.packed_bytes() for name, table in self._named_tables() if len(table)}

    def _named_tables(self) -> Iterator[tuple[str, WindowTable]]:
        """Each table with what is said of it."""
        for (window, event, value, by, *_), table in self._tables.items():
            values = f"{event.__name__}.{value}" if isinstance(value, str) else event.__name__
            yield (
                f"{window.__name__} of {values} by {', '.join(by) or 'nothing'} over {table.over:g} s",
                table,
            )

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return [name for table in self._tables.values() for name in table.segments()]

    def retain(self, watermark: float) -> None:
        """Drop values that no request at or after the watermark (seconds) can read."""
        for table in self._tables.values():
            table.retain(watermark)
        for references in self._references.values():
            references.retain(watermark)
        for view in self._views:
            view.retain(watermark)

    def state(self) -> FeatureParts:
        """The whole state. It shares its parts with this object: nothing is copied."""
        return FeatureParts(
            list(self._tables.values()),
            [references.state for references in self._references.values()],
            {view.name: view.state for view in self._views},
            self._ranges.state(),
        )

    def restore(self, state: FeatureParts) -> None:
        """Take over a state that the same declarations made."""
        for table, stored in zip(self._tables.values(), state.tables, strict=True):
            table.restore(stored, self._store)
        for references, known in zip(self._references.values(), state.references, strict=True):
            references.restore(known)
        for view in self._views:
            if view.name in state.views:
                view.state = state.views[view.name]
        self._ranges.restore(state.ranges)
