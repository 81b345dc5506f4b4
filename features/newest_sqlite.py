"""Feast's SQLite online store, made to keep the newest row of each key.

Feast's own lets an older row replace a newer one and keeps whole seconds only (it registers a
SQLite adapter `int(datetime.timestamp())`). This one keeps the event time in microseconds in a
column of its own and compares it within the statement that writes, so that any number of writers
agree on the newest. Plain Feast reads and writes the same table and does not see the column.

A row of n features is n cells of that table. Finding each by its key costs more than writing it, so
the cells of a row, made together and hence numbered in sequence, are updated as one range of numbers:
a number is never given twice, and a range that does not hold its n cells any more is written by key.

The file is in WAL mode: readers never wait for the writer, and a transaction is one fsync. The
folder needs to be writable for readers too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import count, islice
from typing import Any

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.utils import to_naive_utc

from features import wire
from features.declaration import View
from features.state import Row, RowKey

BATCH = 1000
"""Rows in one transaction: it holds the file's only write lock for some 20 ms."""
BUSY_TIMEOUT = 1.0
"""Seconds that a statement waits for another writer before it fails."""
CACHE_KIB = 32_000
"""Memory for the file's pages, at most: some 30,000 rows of 10 features; SQLite's own 2,000 hold 2,000."""
MOST_KNOWN = 100_000
"""Keys of a view whose cells' numbers are remembered (some 200 bytes each)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_TABLE = """\
CREATE TABLE "{table}" (
  cell INTEGER PRIMARY KEY AUTOINCREMENT, entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT,
  vector_value BLOB, event_ts timestamp, created_ts timestamp, stamp_us INTEGER,
  UNIQUE (entity_key, feature_name))"""

# stamp_us is missing in cells that plain Feast has written
_NOT_OLDER = """\
CASE WHEN "{{table}}".stamp_us IS NULL THEN {seconds} >= "{{table}}".event_ts
ELSE {stamp} >= "{{table}}".stamp_us END"""

_UPSERT = f"""\
INSERT INTO "{{table}}" (entity_key, feature_name, value, event_ts, stamp_us) VALUES {{cells}}
ON CONFLICT (entity_key, feature_name) DO UPDATE SET
  value = excluded.value, value_text = NULL, event_ts = excluded.event_ts, stamp_us = excluded.stamp_us
WHERE {_NOT_OLDER.format(seconds="excluded.event_ts", stamp="excluded.stamp_us")}"""

_UPDATE = f"""\
UPDATE "{{table}}" SET value = CASE cell - ?1 {{values}} END, value_text = NULL, event_ts = ?2, stamp_us = ?3
WHERE cell BETWEEN ?1 AND ?1 + {{last}} AND {_NOT_OLDER.format(seconds="?2", stamp="?3")}"""

_REBUILD = (
    'ALTER TABLE "{table}" RENAME TO "{table}_before"',
    _TABLE,
    """\
INSERT INTO "{table}" (entity_key, feature_name, value, event_ts, created_ts)
SELECT entity_key, feature_name, value, event_ts, created_ts FROM "{table}_before" ORDER BY rowid""",
    'DROP TABLE "{table}_before"',
)

_CELLS = 'SELECT cell, feature_name FROM "{table}" WHERE entity_key = ? ORDER BY cell'


class NewestSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]
    """Feast's SQLite settings; Feast finds this class by its name."""

    type: str = "features.newest_sqlite.NewestSqliteOnlineStore"


class NewestSqliteOnlineStore(SqliteOnlineStore):  # type: ignore[misc]
    """A row is written only when its event time is not before that of the row in the store."""

    _conn: sqlite3.Connection | None = None

    def _get_conn(self, config: Any) -> sqlite3.Connection:
        opened = self._conn is not None
        connection: sqlite3.Connection = super()._get_conn(config)
        if not opened:
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        return connection

    def disconnect(self) -> None:
        """Let go of the file; the next access opens it anew."""
        connection, self._conn = self._conn, None
        if connection is not None:
            connection.close()

    def update(
        self,
        config: Any,
        tables_to_delete: Sequence[Any],
        tables_to_keep: Sequence[Any],
        *rest: Any,
        **named: Any,
    ) -> None:
        """As Feast's, with numbered cells and a column for microseconds; a table of Feast's is rebuilt."""
        connection = self._get_conn(config)
        connection.execute("PRAGMA journal_mode = WAL")  # the file remembers it
        for view in tables_to_keep:
            table = _table(config, view)
            columns = {column[1] for column in connection.execute(f'PRAGMA table_info("{table}")')}
            if not columns:
                connection.execute(_TABLE.format(table=table))
            elif "cell" not in columns:
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    for statement in _REBUILD:
                        connection.execute(statement.format(table=table))
        super().update(config, tables_to_delete, tables_to_keep, *rest, **named)
        connection.commit()

    def online_write_batch(
        self,
        config: Any,
        table: Any,
        data: Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write Feast's own rows of one view in one transaction; older ones leave the store as it is."""
        version = config.entity_key_serialization_version
        cells = [
            (key_bytes, seconds, stamp, name, value.SerializeToString())
            for key, values, at, _ in data
            for key_bytes in [serialize_entity_key(key, entity_key_serialization_version=version)]
            for seconds, stamp in [(_feast_seconds(at), microseconds(at))]
            for name, value in values.items()
        ]
        with self._get_conn(config) as connection:
            connection.executemany(
                _UPSERT.format(table=_table(config, table), cells="(?1, ?4, ?5, ?2, ?3)"), cells
            )
        if progress is not None:
            progress(len(data))

    def rows_writer(self, config: Any, feast_view: Any, view: View) -> RowsWriter:
        """The writer of a view's rows."""
        return RowsWriter(lambda: self._get_conn(config), _table(config, feast_view), view)

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


class RowsWriter:
    """Writes whole rows of one view: a feature that a row lacks becomes missing."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], table: str, view: View) -> None:
        self._connect = connect
        self._view = view
        self._names = list(view.features)
        self._encoders = [
            (name, wire.whole_value if window.is_whole else wire.real_value)
            for name, window in view.features.items()
        ]
        self._key = wire.entity_keys(view.keys)
        self._first_cells: dict[tuple[str, ...], int] = {}
        self._schema: int | None = None
        numbered = list(zip(count(4), self._names))
        texts = [(number, name.replace("'", "''")) for number, name in numbered]
        self._upsert = _UPSERT.format(
            table=table, cells=", ".join(f"(?1, '{name}', ?{number}, ?2, ?3)" for number, name in texts)
        )
        self._update = _UPDATE.format(
            table=table,
            values=" ".join(f"WHEN {n} THEN ?{number}" for n, (number, _) in enumerate(numbered)),
            last=len(numbered) - 1,
        )
        self._cells = _CELLS.format(table=table)

    def write(self, rows: Iterable[tuple[RowKey, Row]]) -> None:
        """Write rows in transactions of at most `BATCH`; raises sqlite3.Error with the last one undone."""
        remaining = iter(rows)
        while batch := list(islice(remaining, BATCH)):
            self._write(batch)

    def _write(self, batch: list[tuple[RowKey, Row]]) -> None:
        encoded = [(key, self._encode(row)) for (_, key), row in batch]
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            self._check_schema(connection)
            found, others = [], []
            for key, values in encoded:
                first = self._first_cell(connection, key)
                if first is None:
                    others.append((self._key(key), *values))
                else:
                    found.append((first, *values))
            changed = connection.executemany(self._update, found).rowcount if found else 0
            if changed != len(found) * len(self._names):
                # some are older than the store's, or their cells are gone: by key both come out right
                for key, _ in encoded:
                    self._first_cells.pop(key, None)
                others = [(self._key(key), *values) for key, values in encoded]
            connection.executemany(self._upsert, others)

    def _encode(self, row: Row) -> list[Any]:
        stamp, values = row
        get = values.get
        return [
            _feast_seconds_of(int(stamp)),
            round(stamp * 1e6),
            *[
                wire.MISSING if (value := get(name)) is None else encode(value)
                for name, encode in self._encoders
            ],
        ]

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        """Cell numbers hold as long as the table does."""
        schema = connection.execute("PRAGMA schema_version").fetchone()[0]
        if schema != self._schema:
            self._first_cells.clear()
            self._schema = schema

    def _first_cell(self, connection: sqlite3.Connection, key: tuple[str, ...]) -> int | None:
        """The number of a row's first cell; None when its cells are not there or not in sequence."""
        first = self._first_cells.get(key)
        if first is None:
            cells = connection.execute(self._cells, (self._key(key),)).fetchall()
            if not cells or cells != list(zip(count(cells[0][0]), self._names)):
                return None
            first = cells[0][0]
            if len(self._first_cells) >= MOST_KNOWN:
                del self._first_cells[next(iter(self._first_cells))]
            self._first_cells[key] = first
        return first


def microseconds(at: datetime) -> int:
    """Whole microseconds since the epoch."""
    return (at - _EPOCH) // _MICROSECOND


def _feast_seconds(at: datetime) -> int:
    """What Feast's adapter makes of an event time: UTC told as if it were local time."""
    return int(to_naive_utc(at).timestamp())


@lru_cache(maxsize=4096)
def _feast_seconds_of(second: int) -> int:
    return _feast_seconds(datetime.fromtimestamp(second, UTC))


def _table(config: Any, view: Any) -> str:
    versioned: bool = config.registry.enable_online_feature_view_versioning
    return str(compute_table_id(config.project, view, versioned)).replace('"', '""')
