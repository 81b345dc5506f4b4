"""Fills fields of events from an online store, many events at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from driftline.features.declare.keys import texts_of
from driftline.features.errors import FeaturesError
from driftline.features.online.client import FeatureRow
from driftline.features.online.transient_failures import Outage, is_transient
from driftline.streams.clients.bridge import Enrichment
from driftline.streams.declare.events import Event
from driftline.streams.errors import Refused

LookupKey = tuple[str, ...]
LookupResult = FeatureRow | Refused | None
"""The row of a key; or why it cannot be read; or None if the store was given up for now."""


class FeatureReader(Protocol):
    """Reads rows of an online store: `driftline.features.online.client.FeatureClient`."""

    async def get_many_async(
        self, view: str, keys: Sequence[Mapping[str, str]], features: Sequence[str] | None = None
    ) -> list[FeatureRow]: ...

    async def close_async(self) -> None: ...


class Enricher:
    """Applies one enrichment to events of these `kinds`; `filled` and `missing` count fields with and without
    a value."""

    def __init__(self, declared: Enrichment, kinds: Sequence[type[Event]], reader: FeatureReader) -> None:
        self._declared = declared
        self._reader = reader
        self._kinds = frozenset(kind for kind in kinds if declared.fills(kind))
        self._features = tuple(dict.fromkeys(declared.fields.values()))
        self._outage: Outage | None = None
        self.filled = 0
        self.missing = 0

    async def read(self, events: Sequence[Event]) -> dict[LookupKey, LookupResult]:
        """The rows that the events need, each key read once, in one exchange with the store.

        Raises FeaturesError for a permanent failure of the store.
        """
        keys = list(dict.fromkeys(key for event in events if (key := self._key(event)) is not None))
        return dict(zip(keys, await self._found(keys), strict=True)) if keys else {}

    def enriched(self, event: Event, rows: Mapping[LookupKey, LookupResult]) -> Event:
        """The event with its fields filled from its row; raises Refused if that cannot be read."""
        if type(event) not in self._kinds:
            return event
        key = self._key(event)
        row = None if key is None else rows[key]
        if isinstance(row, Refused):
            raise row
        known = row if row is not None and self._counts(event, row) else None
        fields: dict[str, Any] = {
            name: None if known is None else known[feature] for name, feature in self._declared.fields.items()
        }
        missing = sum(value is None for value in fields.values())
        self.missing += missing
        self.filled += len(fields) - missing
        return msgspec.structs.replace(event, **fields)

    def _key(self, event: Event) -> LookupKey | None:
        """The key of the event's row, as the store has it; None if a part of it is missing."""
        if type(event) not in self._kinds:
            return None
        values = tuple(getattr(event, name) for name in self._declared.key.values())
        return None if None in values else texts_of(values)

    def _counts(self, event: Event, row: FeatureRow) -> bool:
        """Whether the row is neither too old for the event nor from its future."""
        if row.event_time is None:
            return False
        age = (event.at - row.event_time).total_seconds()
        declared = self._declared
        return -age <= declared.max_ahead and (declared.max_age is None or age <= declared.max_age)

    async def _found(self, keys: Sequence[LookupKey]) -> Sequence[LookupResult]:
        while True:
            try:
                rows = await self._ask(keys)
            except FeaturesError as error:
                cause = error.__cause__
                if cause is None:  # the store answers: one of these rows is invalid
                    if len(keys) == 1:
                        return [Refused("enrich", str(error))]
                    return [await self._found_one(key) for key in keys]
                if not isinstance(cause, Exception) or not is_transient(cause):
                    raise
                self._outage = self._outage or Outage(f"the online store of {self._declared.case.name}")
                pause = self._outage.failed(cause)
                patience = self._declared.patience
                if patience is not None and self._outage.seconds >= patience:
                    return [None] * len(keys)
                await asyncio.sleep(pause)
            else:
                if self._outage is not None:
                    self._outage.ended()
                    self._outage = None
                return rows

    async def _found_one(self, key: LookupKey) -> LookupResult:
        (fields,) = await self._found([key])
        return fields

    async def _ask(self, keys: Sequence[LookupKey]) -> list[FeatureRow]:
        names = list(self._declared.key)
        asked = [dict(zip(names, key, strict=True)) for key in keys]
        return await self._reader.get_many_async(self._declared.view, asked, self._features)
