"""Newest feature values to and from Feast's online store.

Rows go straight to the store as protos: `FeatureStore.push` costs 5 ms a row, this some 40 us.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from features.errors import FeaturesError
from features.registry import OnlineStoreRepo, is_whole
from features.state import Row, RowKey

BATCH = 200
MOST_WAITING = 50_000
"""Keys that may wait to be written; beyond, `offer` waits."""
FLUSH_EVERY = 0.5
ATTEMPTS = 8
FIRST_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the rows of a view go, and how each feature's value becomes a proto."""

    feast_view: Any
    keys: tuple[str, ...]
    protos: tuple[tuple[str, Callable[[Any], Any]], ...]


class RowStore:
    """Writes rows at once, on the caller's thread; older ones than the store's are left out by it."""

    def __init__(self, repo: OnlineStoreRepo) -> None:
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        def whole(value: Any) -> Any:
            return Value(int64_val=int(value))

        def real(value: Any) -> Any:
            return Value(double_val=float(value))

        self._config = repo.store.config
        self._provider = repo.store._get_provider()
        self._entity_key = EntityKey
        self._value = Value
        self._missing = Value()
        self._targets = {
            view.name: _Target(
                repo.store.get_feature_view(view.name),
                view.keys,
                tuple((name, whole if is_whole(window) else real) for name, window in view.features.items()),
            )
            for view in repo.views.values()
        }

    def put(self, rows: Mapping[RowKey, Row]) -> None:
        """Write rows in batches of one view and one transaction each.

        A feature that a row lacks is written as missing, so that no earlier value outlives it. A
        batch that fails is tried again with doubling pauses (6 s in all), then its error is raised.
        """
        by_view: dict[str, list[tuple[RowKey, Row]]] = {}
        for key, row in rows.items():
            by_view.setdefault(key[0], []).append((key, row))
        for name, entries in by_view.items():
            target = self._targets[name]
            remaining = iter(entries)
            while batch := list(islice(remaining, BATCH)):
                self._send(target, self._protos(target, batch))

    def _protos(self, target: _Target, batch: Iterable[tuple[RowKey, Row]]) -> list[Any]:
        value, missing = self._value, self._missing
        protos = []
        for (_, key), (stamp, values) in batch:
            entity = self._entity_key(
                join_keys=target.keys, entity_values=[value(string_val=part) for part in key]
            )
            features = {
                name: missing if (found := values.get(name)) is None else proto(found)
                for name, proto in target.protos
            }
            protos.append((entity, features, datetime.fromtimestamp(stamp, UTC), None))
        return protos

    def _send(self, target: _Target, protos: list[Any]) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self._provider.online_write_batch(self._config, target.feast_view, protos, None)
                return
            except Exception:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(FIRST_PAUSE * 2**attempt)


class OnlineWriter:
    """Writes the newest row of each key in micro-batches, on a thread of its own.

    Of waiting rows only the newest of a key is kept, and the store keeps a newer one against an
    older one of any process. When writing fails for good the error comes out of `offer` and `close`.
    """

    def __init__(self, repo: OnlineStoreRepo) -> None:
        self._views = repo.views
        self._rows = RowStore(repo)
        self._waiting: dict[RowKey, Row] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._error: Exception | None = None
        self.written = 0
        """Rows given to the store so far."""
        self._thread = threading.Thread(target=self._run, name="online-writer", daemon=True)
        self._thread.start()

    async def offer(self, rows: Mapping[RowKey, Row]) -> None:
        """Take rows; returns at once unless too many wait.

        Raises FeaturesError when writing failed, after `close`, and for a view that is not declared.
        """
        self._raise_error()
        for view, _ in rows:
            if view not in self._views:
                raise FeaturesError(f"a row of {view!r}, which is no view of this repository")
        with self._lock:
            if self._closing:
                raise FeaturesError("online features were offered after the writer was closed")
            waiting = self._waiting
            for key, row in rows.items():
                known = waiting.get(key)
                if known is None or row[0] >= known[0]:
                    waiting[key] = row
        while len(self._waiting) > MOST_WAITING:
            self._wake.set()
            await asyncio.sleep(0.01)
            self._raise_error()

    async def close(self) -> None:
        """Write what waits and end the thread; raises FeaturesError when some could not be written."""
        with self._lock:
            self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise FeaturesError(f"writing online features failed: {self._error}") from self._error

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait(FLUSH_EVERY)
            self._wake.clear()
            with self._lock:
                rows, self._waiting = self._waiting, {}
                closing = self._closing
            try:
                self._rows.put(rows)
            except Exception as error:
                self._error = error
                return
            self.written += len(rows)


def read(repo: OnlineStoreRepo, view: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Newest values of one key: {view, keys, event_timestamp, features: {name: {value, status}}}.

    Status is Feast's: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE. Raises FeaturesError for an
    unknown view or wrong keys.
    """
    declared = repo.view(view)
    if set(keys) != set(declared.keys):
        given = ", ".join(keys) or "nothing"
        raise FeaturesError(f"view {view!r} is keyed by {', '.join(declared.keys)}, not by {given}")
    store = repo.store
    from feast.errors import FeatureViewNotFoundException
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    try:
        feast_view = store.get_feature_view(view)
    except FeatureViewNotFoundException:
        raise FeaturesError(
            f"view {view!r} is declared, but not in the registry at {repo.path}: restart the worker"
        ) from None
    response = store.get_online_features(
        features=[f"{view}:{name}" for name in declared.features], entity_rows=[dict(keys)]
    ).proto
    found: dict[str, Any] = {}
    for name, result in zip(response.metadata.feature_names.val, response.results, strict=True):
        if name not in declared.features:
            continue
        value = result.values[0]
        kind = value.WhichOneof("val")
        found[name] = {
            "value": getattr(value, kind) if kind else None,
            "status": FieldStatus.Name(result.statuses[0]),
        }
    key = entity_key(declared.keys, tuple(keys[name] for name in declared.keys))
    at = store._get_provider().online_store.newest(store.config, feast_view, key)
    stamp = None if at is None else at.isoformat()
    return {"view": view, "keys": dict(keys), "event_timestamp": stamp, "features": found}


def entity_key(names: tuple[str, ...], values: tuple[str, ...]) -> Any:
    """Feast's entity key of text values."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=names, entity_values=[Value(string_val=value) for value in values])
