"""Feast's SQLite online store, made to keep the newest row of each key.

Feast's own lets an older row replace a newer one and keeps whole seconds only (it registers a
SQLite adapter `int(datetime.timestamp())`). This one keeps the event time in microseconds in a
column of its own and compares it within the upsert, so that any number of writers agree on the
newest. Plain Feast reads the same table and does not see the column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, extract_text_and_num
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.utils import to_naive_utc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_UPSERT = """\
INSERT INTO "{table}" (entity_key, feature_name, value, value_text, event_ts, stamp_us)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (entity_key, feature_name) DO UPDATE SET
  value = excluded.value, value_text = excluded.value_text,
  event_ts = excluded.event_ts, stamp_us = excluded.stamp_us
WHERE CASE WHEN "{table}".stamp_us IS NULL THEN excluded.event_ts >= "{table}".event_ts
  ELSE excluded.stamp_us >= "{table}".stamp_us END"""


class NewestSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]
    """Feast's SQLite settings; Feast finds this class by its name."""

    type: str = "features.newest_sqlite.NewestSqliteOnlineStore"


class NewestSqliteOnlineStore(SqliteOnlineStore):  # type: ignore[misc]
    """A row is written only when its event time is not before that of the row in the store."""

    def update(
        self,
        config: Any,
        tables_to_delete: Sequence[Any],
        tables_to_keep: Sequence[Any],
        *rest: Any,
        **named: Any,
    ) -> None:
        """As Feast's, with the column for microseconds."""
        super().update(config, tables_to_delete, tables_to_keep, *rest, **named)
        connection = self._get_conn(config)
        for view in tables_to_keep:
            table = _table(config, view)
            columns = {column[1] for column in connection.execute(f'PRAGMA table_info("{table}")')}
            if "stamp_us" not in columns:
                connection.execute(f'ALTER TABLE "{table}" ADD COLUMN stamp_us INTEGER')
        connection.commit()

    def online_write_batch(
        self,
        config: Any,
        table: Any,
        data: Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows of one view in one transaction; older ones leave the store as it is."""
        version = config.entity_key_serialization_version
        cells = []
        for key, values, at, _ in data:
            key_bytes = serialize_entity_key(key, entity_key_serialization_version=version)
            stamp = microseconds(at)
            seconds = int(to_naive_utc(at).timestamp())  # what Feast's adapter makes of it, once a row
            for name, value in values.items():
                text, _ = extract_text_and_num(value, False)
                cells.append((key_bytes, name, value.SerializeToString(), text, seconds, stamp))
        with self._get_conn(config) as connection:
            connection.executemany(_UPSERT.format(table=_table(config, table)), cells)
        if progress is not None:
            progress(len(data))

    def newest(self, config: Any, view: Any, key: Any) -> datetime | None:
        """Event time of the row of an entity key, to the microsecond; None when there is none."""
        version = config.entity_key_serialization_version
        key_bytes = serialize_entity_key(key, entity_key_serialization_version=version)
        stamp = (
            self._get_conn(config)
            .execute(f'SELECT max(stamp_us) FROM "{_table(config, view)}" WHERE entity_key = ?', (key_bytes,))
            .fetchone()[0]
        )
        return None if stamp is None else _EPOCH + stamp * _MICROSECOND


def microseconds(at: datetime) -> int:
    """Whole microseconds since the epoch."""
    return (at - _EPOCH) // _MICROSECOND


def _table(config: Any, view: Any) -> str:
    versioned: bool = config.registry.enable_online_feature_view_versioning
    return str(compute_table_id(config.project, view, versioned)).replace('"', '""')
