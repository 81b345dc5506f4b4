"""Newest feature values to and from Feast's online store.

Rows go straight to the store as protos: `FeatureStore.push` costs 5 ms a row, this some 50 us.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from features.errors import FeaturesError
from features.registry import OnlineStoreRepo
from features.state import Row, RowKey

BATCH = 200
MOST_WAITING = 50_000
"""Keys that may wait to be written; beyond, `offer` waits."""
FLUSH_EVERY = 0.5
ATTEMPTS = 8


class OnlineWriter:
    """Writes the newest row of each key in micro-batches, on a thread of its own.

    An older row never replaces a newer one: of waiting rows only the newest is kept, and the first
    time a key is written its stamp in the store is read. A write that fails is tried again with
    growing pauses; after `ATTEMPTS` the error comes out of `offer` and `close`.
    """

    def __init__(self, repo: OnlineStoreRepo) -> None:
        self._repo = repo
        self._store = repo.store
        self._feast_views = {name: self._store.get_feature_view(name) for name in repo.views}
        self._waiting: dict[RowKey, Row] = {}
        self._stamps: dict[RowKey, float] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._error: Exception | None = None
        self.written = 0
        self._thread = threading.Thread(target=self._run, name="online-writer", daemon=True)
        self._thread.start()

    async def offer(self, rows: dict[RowKey, Row]) -> None:
        """Take rows; returns at once unless too many wait. Raises FeaturesError when writing failed."""
        self._raise_error()
        with self._lock:
            waiting = self._waiting
            for key, row in rows.items():
                known = waiting.get(key)
                if known is None or row[0] >= known[0]:
                    waiting[key] = row
        while len(self._waiting) > MOST_WAITING:
            self._wake.set()
            await asyncio.sleep(0.01)
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise FeaturesError(f"writing online features failed: {self._error}") from self._error

    async def close(self) -> None:
        """Write what waits and end the thread."""
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)
        self._raise_error()

    def _run(self) -> None:
        while True:
            self._wake.wait(FLUSH_EVERY)
            self._wake.clear()
            closing = self._closing
            with self._lock:
                rows, self._waiting = self._waiting, {}
            try:
                self._write(rows)
            except Exception as error:
                self._error = error
                return
            if closing and not self._waiting:
                return

    def _write(self, rows: dict[RowKey, Row]) -> None:
        by_view: dict[str, list[tuple[RowKey, Row]]] = {}
        for key, row in rows.items():
            by_view.setdefault(key[0], []).append((key, row))
        for name, entries in by_view.items():
            remaining = iter(entries)
            while batch := list(islice(remaining, BATCH)):
                self._write_batch(name, batch)

    def _write_batch(self, view: str, batch: list[tuple[RowKey, Row]]) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self._send(view, batch)
                return
            except Exception:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.05 * 2**attempt)

    def _send(self, view: str, batch: list[tuple[RowKey, Row]]) -> None:
        names = self._repo.view(view).keys
        stamps = self._stamps
        unknown = [key for key, _ in batch if key not in stamps]
        if unknown:
            found = self._store._get_provider().online_read(
                config=self._store.config,
                table=self._feast_views[view],
                entity_keys=[entity_key(names, key[1]) for key in unknown],
                requested_features=[],
            )
            for key, (at, _) in zip(unknown, found, strict=True):
                stamps[key] = at.replace(tzinfo=UTC).timestamp() if at is not None else float("-inf")
        protos = []
        newer = [(key, row) for key, row in batch if row[0] >= stamps[key]]
        for key, (stamp, values) in newer:
            at = datetime.fromtimestamp(stamp, UTC)
            protos.append((entity_key(names, key[1]), {n: _proto(v) for n, v in values.items()}, at, None))
        if protos:
            self._store._get_provider().online_write_batch(
                self._store.config, self._feast_views[view], protos, None
            )
        for key, (stamp, _) in newer:
            stamps[key] = stamp
        self.written += len(protos)


def entity_key(names: tuple[str, ...], values: tuple[str, ...]) -> Any:
    """Feast's entity key of text values."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=names, entity_values=[Value(string_val=value) for value in values])


def _proto(value: float | int) -> Any:
    from feast.protos.feast.types.Value_pb2 import Value

    return Value(int64_val=value) if isinstance(value, int) else Value(double_val=value)


def read(repo: OnlineStoreRepo, view: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Newest values of one key: {view, keys, event_timestamp, features: {name: {value, status}}}.

    Status is Feast's: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE. Raises FeaturesError for an
    unknown view or wrong keys.
    """
    declared = repo.view(view)
    if set(keys) != set(declared.keys):
        raise FeaturesError(f"view {view!r} is keyed by {', '.join(declared.keys)}, not by {', '.join(keys)}")
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    response = repo.store.get_online_features(
        features=[f"{view}:{name}" for name in declared.features], entity_rows=[dict(keys)]
    ).proto
    found: dict[str, Any] = {}
    stamp = None
    for name, result in zip(response.metadata.feature_names.val, response.results, strict=True):
        if name not in declared.features:
            continue
        value = result.values[0]
        kind = value.WhichOneof("val")
        found[name] = {
            "value": getattr(value, kind) if kind else None,
            "status": FieldStatus.Name(result.statuses[0]),
        }
        at = result.event_timestamps[0].ToDatetime(tzinfo=UTC)
        stamp = at.isoformat() if at.timestamp() > 0 else stamp
    return {"view": view, "keys": dict(keys), "event_timestamp": stamp, "features": found}
