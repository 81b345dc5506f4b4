"""The client for online features. It reads directly from the store, and gives each value with its freshness.

Feast's own `get_online_features` looks up the view, builds a protobuf message for each value, and puts them
into a response that is decoded again. This takes many times the work of the store itself.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, Self

import msgspec

from driftline.declaration_check import check_argument, shown
from driftline.errors import pass_interrupt
from driftline.features.declare.declaration import View
from driftline.features.declare.keys import Key, texts_of
from driftline.features.declare.on_demand import AT, Evaluate, OnDemandView, evaluation
from driftline.features.errors import FeatureDeclarationError, FeaturesError, StoreUnreadable
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.read_counts import ReadCounts
from driftline.features.online.stores import wire
from driftline.features.online.stores.stored_row import RowsReader, StoredRow
from driftline.features.online.stores.timestamps import microseconds, time_of_stamp


class Declared(Protocol):
    """The part of a use case that the client needs."""

    @property
    def name(self) -> str: ...

    def views(self) -> list[View]: ...
    def on_demand_views(self) -> list[OnDemandView]: ...


class Status(enum.StrEnum):
    """Whether there is a value.

    `missing`: the entity was never seen, the feature has no value now, or the store has dropped the expired
    row. `expired`: the row is older than the view's ttl, or than the feature's own.
    """

    PRESENT = "present"
    MISSING = "missing"
    EXPIRED = "expired"


class FeatureValue(msgspec.Struct, frozen=True, gc=False):
    """The value of a feature, with its freshness.

    `value` is None unless `status` is "present"; the other statuses are "missing" and "expired". `event_time`
    is the event time of the value's row (UTC), and `age` the seconds from then until the read. Both are None
    if there is no row.

    >>> FeatureValue(None, "missing", None, None).status
    'missing'
    """

    value: float | int | str | None
    status: Status
    event_time: datetime | None
    age: float | None


class FeatureRow(msgspec.Struct, frozen=True):
    """The newest feature values of one key of a view. `row["delay_2h"]` is a plain value, and
    `row.features["delay_2h"]` the `FeatureValue` with its freshness.

    `event_time` (UTC) and `age` (seconds) are those of the row; of an on-demand view, those of the oldest row
    that it is computed from. They are None if there is no row.

    >>> value = FeatureValue(12.5, "present", None, 3.0)
    >>> row = FeatureRow("flights_by_origin", {"origin": "JFK"}, None, 3.0, {"delay_2h": value})
    >>> row["delay_2h"], row.features["delay_2h"].status
    (12.5, 'present')
    """

    view: str
    key: Mapping[str, Key]
    event_time: datetime | None
    age: float | None
    features: dict[str, FeatureValue]

    @property
    def status(self) -> Status:
        """Whether there is a row. It is expired if all requested values are."""
        if self.event_time is None:
            return Status.MISSING
        is_over = all(value.status is Status.EXPIRED for value in self.features.values())
        return Status.EXPIRED if is_over else Status.PRESENT

    def __getitem__(self, feature: str) -> float | int | str | None:
        return self.features[feature].value


class _Selection:
    """Some features of a view, and how their rows are read."""

    def __init__(self, view: View, features: tuple[str, ...]) -> None:
        self.view = view
        self.features = features
        self.keys = set(view.keys)
        self.encode = wire.entity_keys(view.keys)
        self.lifetime = round(view.ttl * 1e6)
        lifetimes = {name: round(view.features[name].lifetime * 1e6) for name in features}
        self.shorter = {name: lived for name, lived in lifetimes.items() if lived < self.lifetime}
        self.ages = view.clock == "wall"
        self.unseen = dict.fromkeys(features, FeatureValue(None, Status.MISSING, None, None))


class _Wanted(NamedTuple):
    """A read of an on-demand view, which is computed from `parts` of the store: (view, keys, features)."""

    view: OnDemandView
    evaluate: Evaluate
    keys: Sequence[Mapping[str, Key]]
    features: tuple[str, ...]
    requests: Sequence[Mapping[str, Any]]
    parts: list[tuple[str, list[dict[str, Key]], tuple[str, ...]]]

    def rows(self, distinct: Sequence[Sequence[FeatureRow]]) -> list[FeatureRow]:
        """The values computed from the rows of all parts."""
        by_key = zip(*distinct, strict=True) if distinct else ((),) * len(self.keys)
        return [
            self._row(key, request, rows)
            for key, request, rows in zip(self.keys, self.requests, by_key, strict=True)
        ]

    def _row(
        self, key: Mapping[str, Key], request: Mapping[str, Any], rows: Sequence[FeatureRow]
    ) -> FeatureRow:
        inputs = {name: value for row in rows for name, value in row.features.items()}
        values = {name: value.value for name, value in inputs.items()}
        try:
            computed = self.evaluate({**values, **request})
        except BaseException as error:
            pass_interrupt(error)
            raise FeaturesError(
                f"the values of {dict(key)} in view {self.view.name!r} cannot be computed: "
                f"{type(error).__name__}: {error}"
            ) from error
        oldest = min((row for row in rows if row.event_time), key=_event_time, default=None)
        event_time, age = (None, None) if oldest is None else (oldest.event_time, oldest.age)
        expired = any(value.status is Status.EXPIRED for value in inputs.values())
        absent = Status.EXPIRED if expired else Status.MISSING
        return FeatureRow(
            self.view.name,
            key,
            event_time,
            age,
            {
                name: FeatureValue(
                    computed.get(name), Status.PRESENT if name in computed else absent, event_time, age
                )
                for name in self.features
            },
        )


def _event_time(row: FeatureRow) -> datetime:
    assert row.event_time is not None
    return row.event_time


class _Computed:
    """An on-demand view, and the stored views that it needs."""

    def __init__(self, view: OnDemandView, stored: Mapping[str, View]) -> None:
        self._view = view
        self._sources = [(stored[name], names) for name, names in view.sources.items()]
        self._evaluate = evaluation(view.steps, view.unseen)

    def wanted(
        self,
        keys: Sequence[Mapping[str, Key]],
        features: Sequence[str] | None,
        at: datetime | None,
        requests: Sequence[Mapping[str, Any]] | None,
    ) -> _Wanted:
        """What must be read and computed. Raises FeaturesError for a wrong request."""
        view = self._view
        wanted = _features_of(view, features)
        for key in keys:
            if key.keys() != set(view.keys):
                raise _wrong_key(view, key)
        moment = {AT: (at or datetime.now(UTC)).timestamp()}
        given = [{**moment, **request} for request in requests or [{}] * len(keys)]
        lacking = [name for request in given for name in view.request if name not in request]
        if lacking or len(given) != len(keys):
            raise FeaturesError(
                f"view {view.name!r} needs {', '.join(view.request)} of the request of each key: give them "
                "as request={...}, or of many keys as requests=[...]"
            )
        parts = [
            (source.name, [{name: key[name] for name in source.keys} for key in keys], names)
            for source, names in self._sources
        ]
        return _Wanted(view, self._evaluate, keys, wanted, given, parts)


class FeatureClient:
    """Reads the online features of a case. Several threads may use it, and asyncio code.

    `place` says where the store is. Without it, the settings do, as for every command (DRIFTLINE_ONLINE_STORE
    and others). The client connects at the first read. Reads raise FeaturesError for an unknown view, feature
    or key, and StoreUnreadable if the store does not answer. `get_many` reads many keys at once; `get_async`
    and `get_many_async` are for asyncio.

    >>> client = FeatureClient(flights)                                          # doctest: +SKIP
    >>> client.get("flights_by_origin", {"origin": "JFK"})["delay_2h"]           # doctest: +SKIP
    12.5
    """

    def __init__(self, case: Declared, place: RepositoryLocation | None = None) -> None:
        for method in ("views", "on_demand_views"):
            if isinstance(case, type) or not callable(getattr(case, method, None)):
                raise FeatureDeclarationError(f"FeatureClient: case: expected a UseCase, not {shown(case)}")
        check_argument(place, RepositoryLocation | None, "FeatureClient: place", FeatureDeclarationError)
        self._place = place or RepositoryLocation.from_settings(case.name)
        self._views = {view.name: view for view in case.views()}
        self._computed = {view.name: _Computed(view, self._views) for view in case.on_demand_views()}
        self._selections: dict[tuple[str, tuple[str, ...] | None], _Selection] = {}
        self._opened: RowsReader | None = None
        self.reads = ReadCounts()
        """The numbers of reads so far, by result, for your own metrics."""

    def get(
        self,
        view: str,
        key: Mapping[str, Key],
        features: Sequence[str] | None = None,
        *,
        at: datetime | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> FeatureRow:
        """The newest values of one key, of the named features or of all.

        The features of an on-demand view are computed here. `request` has their other inputs, such as fields
        of a request, whose time is `at`.

        `at` is the time for which ages and expiry are computed. Without it that is now, and rows of a case
        that is fed from history (its clock is "event") never expire. Raises FeaturesError for an unknown view
        or feature, for keys that are not the view's or no text, and StoreUnreadable when the store cannot be
        read. An entity that was never seen is not an error: its values are missing.
        """
        return self.get_many(view, (key,), features, at=at, requests=None if request is None else (request,))[
            0
        ]

    def get_many(
        self,
        view: str,
        keys: Sequence[Mapping[str, Key]],
        features: Sequence[str] | None = None,
        *,
        at: datetime | None = None,
        requests: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[FeatureRow]:
        """As `get`, for many keys in one exchange with the store. The rows are in the order of the keys.

        An on-demand view takes one exchange for each view that it needs. `requests` are in the order of keys.
        """
        computed = self._computed.get(view)
        if computed is not None:
            wanted = computed.wanted(keys, features, at, requests)
            return wanted.rows([self.get_many(*part, at=at) for part in wanted.parts])
        selection, encoded = self._wanted(view, keys, features)
        with self._readable(view) as reader:
            rows = reader.read(view, selection.features, encoded)
        return self._counted(_rows(selection, keys, rows, at))

    async def get_async(
        self,
        view: str,
        key: Mapping[str, Key],
        features: Sequence[str] | None = None,
        *,
        at: datetime | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> FeatureRow:
        """As `get`."""
        requests = None if request is None else (request,)
        return (await self.get_many_async(view, (key,), features, at=at, requests=requests))[0]

    async def get_many_async(
        self,
        view: str,
        keys: Sequence[Mapping[str, Key]],
        features: Sequence[str] | None = None,
        *,
        at: datetime | None = None,
        requests: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[FeatureRow]:
        """As `get_many`."""
        computed = self._computed.get(view)
        if computed is not None:
            wanted = computed.wanted(keys, features, at, requests)
            return wanted.rows([await self.get_many_async(*part, at=at) for part in wanted.parts])
        selection, encoded = self._wanted(view, keys, features)
        with self._readable(view) as reader:
            rows = await reader.read_async(view, selection.features, encoded)
        return self._counted(_rows(selection, keys, rows, at))

    def _counted(self, rows: list[FeatureRow]) -> list[FeatureRow]:
        """The rows, counted."""
        if rows:
            self.reads.add(rows[0].view, Counter(row.status for row in rows))
        return rows

    def close(self) -> None:
        """Close the store. After reads with asyncio call `close_async`."""
        if self._opened is not None:
            self._opened.close()

    async def close_async(self) -> None:
        """Close the store, after reads with asyncio."""
        if self._opened is not None:
            await self._opened.close_async()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()

    def _wanted(
        self, view: str, keys: Sequence[Mapping[str, Key]], features: Sequence[str] | None
    ) -> tuple[_Selection, list[bytes]]:
        """The requested features, and the keys in the store's encoding."""
        selection = self._selection(view, features)
        return selection, [_encoded(selection, key) for key in keys]

    def _selection(self, view: str, features: Sequence[str] | None) -> _Selection:
        wanted = (view, None if features is None else tuple(features))
        selection = self._selections.get(wanted)
        if selection is None:
            selection = self._selections[wanted] = self._selected(view, features)
        return selection

    def _selected(self, view: str, features: Sequence[str] | None) -> _Selection:
        declared = self._views.get(view)
        if declared is None:
            known = {**self._views, **self._computed}
            raise FeaturesError(f"there is no feature view {view!r}; known are: {_listed(known)}")
        return _Selection(declared, _features_of(declared, features))

    @contextmanager
    def _readable(self, view: str) -> Iterator[RowsReader]:
        """The open store. Errors of reading it become StoreUnreadable."""
        if self._opened is None:
            self._opened = _reader(self._place)
        try:
            with self.reads.exchange(view):
                yield self._opened
        except self._opened.failures as error:
            raise StoreUnreadable(
                f"the online store at {self._opened.address} cannot be read ({error}): a worker makes it; "
                "DRIFTLINE_HOME and DRIFTLINE_ONLINE_STORE say where it is"
            ) from error


def _reader(place: RepositoryLocation) -> RowsReader:
    if place.is_sqlite:
        from driftline.features.online.stores import sqlite_rows

        return sqlite_rows.SqliteRowsReader(place.online_file, place.project)
    from driftline.features.online.stores import redis_rows

    return redis_rows.RedisRowsReader(place.online_store, place.project)


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"


def _features_of(view: View | OnDemandView, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The requested features of a view, by default all. Raises FeaturesError for an unknown one."""
    unknown = [name for name in wanted or () if name not in view.features]
    if unknown:
        raise FeaturesError(
            f"view {view.name!r} has no feature {unknown[0]!r}; it has: {_listed(view.features)}"
        )
    return tuple(view.features if wanted is None else wanted)


def _wrong_key(view: View | OnDemandView, key: Mapping[str, Key]) -> FeaturesError:
    keys, given = (", ".join(names) or "nothing" for names in (view.keys, key))
    return FeaturesError(f"view {view.name!r} is keyed by {keys}, not by {given}")


def _encoded(selection: _Selection, key: Mapping[str, Key]) -> bytes:
    view = selection.view
    if key.keys() != selection.keys:
        raise _wrong_key(view, key)
    values = tuple([key[name] for name in view.keys])
    for name, value in zip(view.keys, values, strict=True):
        if not isinstance(value, Key):
            raise FeaturesError(
                f"key {name!r} of view {view.name!r} cannot be {value!r}, which is {type(value).__name__}: "
                "give it as in an event, or its text"
            )
    return bytes(selection.encode(texts_of(values)))


def _rows(
    selection: _Selection, keys: Sequence[Mapping[str, Key]], values: list[StoredRow], at: datetime | None
) -> list[FeatureRow]:
    now = microseconds(at or datetime.now(UTC))
    expires = selection.ages or at is not None
    return [_row(selection, key, row, now, expires) for key, row in zip(keys, values, strict=True)]


def _row(
    selection: _Selection, key: Mapping[str, Key], row: StoredRow, now: int, expires: bool
) -> FeatureRow:
    view = selection.view.name
    if row.stamp is None:
        return FeatureRow(view, key, None, None, selection.unseen)
    event_time = time_of_stamp(row.stamp)
    age = (now - row.stamp) / 1e6
    if expires and now - row.stamp > selection.lifetime:
        over = FeatureValue(None, Status.EXPIRED, event_time, age)
        return FeatureRow(view, key, event_time, age, dict.fromkeys(selection.features, over))
    elapsed = now - row.stamp if expires else 0
    missing = FeatureValue(None, Status.MISSING, event_time, age)
    try:
        values = {
            name: FeatureValue(value, Status.PRESENT, event_time, age)
            if (value := wire.value(encoded)) is not None
            else missing
            for name, encoded in zip(selection.features, row.values, strict=True)
        }
    except ValueError as error:
        raise FeaturesError(f"the row of {dict(key)} in view {view!r} holds {error}") from None
    for name, lifetime in selection.shorter.items():
        if elapsed > lifetime:
            values[name] = FeatureValue(None, Status.EXPIRED, event_time, age)
    return FeatureRow(view, key, event_time, age, values)
