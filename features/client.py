"""Online features for services: read straight from the store, each value with its freshness.

Feast's own `get_online_features` looks the view up, builds a protobuf message a value and puts them
into a response that is taken apart again: many times the work of the store itself.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol, Self

import msgspec

from features import wire
from features.declaration import View
from features.errors import FeaturesError
from features.online_stores.stamps import microseconds, moment
from features.online_stores.stored import RowsReader, Stored
from features.place import Place


class Declared(Protocol):
    """What a use case tells of its features."""

    @property
    def name(self) -> str: ...

    def views(self) -> list[View]: ...


class Status(enum.StrEnum):
    """Whether there is a value.

    `missing`: the entity was never seen, the feature has no value now, or the store has let the row go
    since it expired. `expired`: the row is there, but older than the view's ttl.
    """

    PRESENT = "present"
    MISSING = "missing"
    EXPIRED = "expired"


class FeatureValue(msgspec.Struct, frozen=True, gc=False):
    """A value, None unless present; the event time of its row, and the seconds from that until read."""

    value: float | int | None
    status: Status
    event_time: datetime | None
    age: float | None


class FeatureRow(msgspec.Struct, frozen=True):
    """The newest values of one key of a view; `row["delay_2h"]` is a value itself."""

    view: str
    key: Mapping[str, str]
    event_time: datetime | None
    age: float | None
    features: dict[str, FeatureValue]

    def __getitem__(self, feature: str) -> float | int | None:
        return self.features[feature].value


class _Selection:
    """Features of a view, and how their rows are asked for."""

    def __init__(self, view: View, features: tuple[str, ...]) -> None:
        self.view = view
        self.features = features
        self.keys = set(view.keys)
        self.encode = wire.entity_keys(view.keys)
        self.lifetime = round(view.ttl * 1e6)
        self.ages = view.clock == "wall"
        self.unseen = dict.fromkeys(features, FeatureValue(None, Status.MISSING, None, None))


class FeatureClient:
    """Reads a case's online features. It may be used by several threads, and within asyncio.

    Where they are comes from the environment as for every command (DRIFTLINE_ONLINE_STORE and others),
    unless a `place` is given. Nothing is connected before the first read.

    >>> client = FeatureClient(flights)                                          # doctest: +SKIP
    >>> client.get("flights_by_origin", {"origin": "JFK"})["delay_2h"]           # doctest: +SKIP
    12.5
    """

    def __init__(self, case: Declared, place: Place | None = None) -> None:
        self._place = place or Place.from_environment(case.name)
        self._views = {view.name: view for view in case.views()}
        self._selections: dict[tuple[str, tuple[str, ...] | None], _Selection] = {}
        self._opened: RowsReader | None = None

    def get(
        self,
        view: str,
        key: Mapping[str, str],
        features: Sequence[str] | None = None,
        *,
        at: datetime | None = None,
    ) -> FeatureRow:
        """The newest values of one key: of the features named, or of all.

        `at` is the time to which ages are told and at which rows expire. Without it that is now, and
        rows of a case that is fed from history (its clock is "event") never expire. Raises FeaturesError
        for an unknown view or feature, for keys that are not the view's or no text, and when the store
        cannot be read. An entity that was never seen is no error: its values are missing.
        """
        return self.get_many(view, (key,), features, at=at)[0]

    def get_many(
        self,
        view: str,
        keys: Sequence[Mapping[str, str]],
        features: Sequence[str] | None = None,
        *,
        at: datetime | None = None,
    ) -> list[FeatureRow]:
        """As `get`, of many keys in one exchange with the store; the rows are in the order of the keys."""
        selection, encoded = self._wanted(view, keys, features)
        with self._readable() as reader:
            found = reader.read(view, selection.features, encoded)
        return _rows(selection, keys, found, at)

    async def get_async(
        self,
        view: str,
        key: Mapping[str, str],
        features: Sequence[str] | None = None,
        *,
        at: datetime | None = None,
    ) -> FeatureRow:
        """As `get`."""
        return (await self.get_many_async(view, (key,), features, at=at))[0]

    async def get_many_async(
        self,
        view: str,
        keys: Sequence[Mapping[str, str]],
        features: Sequence[str] | None = None,
        *,
        at: datetime | None = None,
    ) -> list[FeatureRow]:
        """As `get_many`."""
        selection, encoded = self._wanted(view, keys, features)
        with self._readable() as reader:
            found = await reader.read_async(view, selection.features, encoded)
        return _rows(selection, keys, found, at)

    def close(self) -> None:
        """Let go of the store. Who has read with asyncio calls `close_async`."""
        if self._opened is not None:
            self._opened.close()

    async def close_async(self) -> None:
        """Let go of the store."""
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
        self, view: str, keys: Sequence[Mapping[str, str]], features: Sequence[str] | None
    ) -> tuple[_Selection, list[bytes]]:
        """The features asked for, and the keys as the store has them."""
        selection = self._selection(view, features)
        return selection, [_encoded(selection, key) for key in keys]

    def _selection(self, view: str, features: Sequence[str] | None) -> _Selection:
        wanted = (view, None if features is None else tuple(features))
        found = self._selections.get(wanted)
        if found is None:
            found = self._selections[wanted] = self._selected(view, features)
        return found

    def _selected(self, view: str, features: Sequence[str] | None) -> _Selection:
        declared = self._views.get(view)
        if declared is None:
            raise FeaturesError(f"there is no feature view {view!r}; known are: {_listed(self._views)}")
        unknown = [name for name in features or () if name not in declared.features]
        if unknown:
            raise FeaturesError(
                f"view {view!r} has no feature {unknown[0]!r}; it has: {_listed(declared.features)}"
            )
        return _Selection(declared, tuple(declared.features if features is None else features))

    @contextmanager
    def _readable(self) -> Iterator[RowsReader]:
        """The store; what keeps it from being read becomes a FeaturesError."""
        if self._opened is None:
            self._opened = _reader(self._place)
        try:
            yield self._opened
        except self._opened.failures as error:
            raise FeaturesError(
                f"the online store at {self._opened.address} cannot be read ({error}): a worker makes it; "
                "DRIFTLINE_HOME and DRIFTLINE_ONLINE_STORE say where it is"
            ) from error


def _reader(place: Place) -> RowsReader:
    if place.is_sqlite:
        from features.online_stores import sqlite_rows

        return sqlite_rows.RowsReader(place.online_file, place.project)
    from features.online_stores import redis_rows

    return redis_rows.RowsReader(place.online_store, place.project)


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"


def _encoded(selection: _Selection, key: Mapping[str, str]) -> bytes:
    view = selection.view
    if key.keys() != selection.keys:
        raise FeaturesError(
            f"view {view.name!r} is keyed by {', '.join(view.keys)}, not by {', '.join(key) or 'nothing'}"
        )
    values = tuple([key[name] for name in view.keys])
    for name, value in zip(view.keys, values, strict=True):
        if not isinstance(value, str):
            raise FeaturesError(
                f"key {name!r} of view {view.name!r} is text, not {value!r}, which is {type(value).__name__}"
            )
    return bytes(selection.encode(values))


def _rows(
    selection: _Selection, keys: Sequence[Mapping[str, str]], found: list[Stored], at: datetime | None
) -> list[FeatureRow]:
    now = microseconds(at or datetime.now(UTC))
    expires = selection.ages or at is not None
    return [_row(selection, key, row, now, expires) for key, row in zip(keys, found, strict=True)]


def _row(selection: _Selection, key: Mapping[str, str], row: Stored, now: int, expires: bool) -> FeatureRow:
    view = selection.view.name
    if row.stamp is None:
        return FeatureRow(view, key, None, None, selection.unseen)
    event_time = moment(row.stamp)
    age = (now - row.stamp) / 1e6
    if expires and now - row.stamp > selection.lifetime:
        over = FeatureValue(None, Status.EXPIRED, event_time, age)
        return FeatureRow(view, key, event_time, age, dict.fromkeys(selection.features, over))
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
    return FeatureRow(view, key, event_time, age, values)
