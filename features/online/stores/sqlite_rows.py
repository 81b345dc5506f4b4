"""Rows in the tables of the SQLite online store.

The event time is kept in microseconds in a column of its own and compared within the statement that
writes, so that any number of writers agree on the newest. Plain Feast reads and writes the same table
and does not see the column.

A row of n features is n cells of that table. Finding each by its key costs more than writing it, so
the cells of a row, made together and hence numbered in sequence, are updated as one range of numbers:
a number is never given twice, and a range that does not hold its n cells any more is written by key.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count, islice
from pathlib import Path

from driftline.features.declare.declaration import View
from driftline.features.online.stores import wire
from driftline.features.online.stores.stored_row import StoredRow, row_encoder
from driftline.features.online.stores.timestamps import microseconds
from driftline.features.state.online_view import RowKey, StampedRow

ROWS_IN_TRANSACTION = 1000
"""Rows in one transaction: it holds the file's only write lock for some 20 ms."""
BUSY_TIMEOUT = 1.0
"""Seconds that a statement waits for another writer before it fails."""
CACHE_KIB = 32_000
"""Memory for the file's pages, at most: some 30,000 rows of 10 features; SQLite's own 2,000 hold 2,000."""
MOST_KNOWN = 100_000
"""Keys of a view whose cells' numbers are remembered (some 200 bytes each)."""
MOST_AT_ONCE = 500
"""Keys in one statement that reads."""

TABLE = """\
CREATE TABLE "{table}" (
  cell INTEGER PRIMARY KEY AUTOINCREMENT, entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT,
  vector_value BLOB, event_ts timestamp, created_ts timestamp, stamp_us INTEGER,
  UNIQUE (entity_key, feature_name))"""

# stamp_us is missing in cells that plain Feast has written
_NOT_OLDER = """\
CASE WHEN "{{table}}".stamp_us IS NULL THEN {seconds} >= "{{table}}".event_ts
ELSE {stamp} >= "{{table}}".stamp_us END"""

UPSERT = f"""\
INSERT INTO "{{table}}" (entity_key, feature_name, value, event_ts, stamp_us) VALUES {{cells}}
ON CONFLICT (entity_key, feature_name) DO UPDATE SET
  value = excluded.value, value_text = NULL, event_ts = excluded.event_ts, stamp_us = excluded.stamp_us
WHERE {_NOT_OLDER.format(seconds="excluded.event_ts", stamp="excluded.stamp_us")}"""

_UPDATE = f"""\
UPDATE "{{table}}" SET value = CASE cell - ?1 {{values}} END, value_text = NULL, event_ts = ?2, stamp_us = ?3
WHERE cell BETWEEN ?1 AND ?1 + {{last}} AND {_NOT_OLDER.format(seconds="?2", stamp="?3")}"""

REBUILD = (
    'ALTER TABLE "{table}" RENAME TO "{table}_before"',
    TABLE,
    """\
INSERT INTO "{table}" (entity_key, feature_name, value, event_ts, created_ts)
SELECT entity_key, feature_name, value, event_ts, created_ts FROM "{table}_before" ORDER BY rowid""",
    'DROP TABLE "{table}_before"',
)

_CELLS = 'SELECT cell, feature_name FROM "{table}" WHERE entity_key = ? ORDER BY cell'

_STORED = """\
SELECT entity_key, feature_name, value, stamp_us, event_ts FROM "{table}" WHERE entity_key IN ({keys})"""


def prepare(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Settings of a connection that writes."""
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def stored(
    connection: sqlite3.Connection, table: str, keys: Sequence[bytes]
) -> dict[bytes, tuple[int, dict[str, bytes]]]:
    """Event time in microseconds and values by name of those entity keys that have a row."""
    rows: dict[bytes, tuple[int, dict[str, bytes]]] = {}
    for start in range(0, len(keys), MOST_AT_ONCE):
        some = keys[start : start + MOST_AT_ONCE]
        statement = _STORED.format(table=table, keys=", ".join("?" * len(some)))
        for key, name, value, stamp, seconds in connection.execute(statement, some):
            at = stamp if stamp is not None else _from_feast_seconds(seconds)
            newest, values = rows.get(key) or (at, {})
            values[name] = value
            rows[key] = (at if at > newest else newest, values)
    return rows


class SqliteRowsReader:
    """Reads the rows of one project on a connection of its own, from any thread."""

    failures: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, file: Path, project: str) -> None:
        self.address = str(file)
        self._uri = f"{file.absolute().as_uri()}?mode=rw"  # a file that is not there is not made
        self._project = project
        self._file = file
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None

    def read(self, view: str, features: tuple[str, ...], keys: Sequence[bytes]) -> list[StoredRow]:
        """The rows of entity keys, with the values of those features in their order."""
        table = f"{self._project}_{view}".replace('"', '""')
        with self._lock:
            rows = stored(self._connected(), table, keys)
        answers = []
        for key in keys:
            row = rows.get(key)
            answers.append(
                StoredRow(None, ()) if row is None else StoredRow(row[0], [*map(row[1].get, features)])
            )
        return answers

    def _connected(self) -> sqlite3.Connection:
        """A connection to the file that exists now: it may have been removed and created again."""
        try:
            there = os.stat(self._file)
        except OSError:
            there = None  # SQLite then says that it cannot open it
        if there is None or self._opened is None or not os.path.samestat(self._opened, there):
            self._disconnect()
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._uri, uri=True, check_same_thread=False, timeout=BUSY_TIMEOUT
            )
            self._opened = there
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def read_async(
        self, view: str, features: tuple[str, ...], keys: Sequence[bytes]
    ) -> list[StoredRow]:
        """As `read`, on another thread."""
        return await asyncio.to_thread(self.read, view, features, keys)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._disconnect()

    async def close_async(self) -> None:
        """As `close`."""
        self.close()


class SqliteRowsWriter:
    """Writes whole rows of one view: a feature that a row lacks becomes missing."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], table: str, view: View) -> None:
        self._connect = connect
        self._view = view
        self._names = list(view.features)
        self._encode = row_encoder(view)
        self._key = wire.entity_keys(view.keys)
        self._first_cells: dict[tuple[str, ...], int] = {}
        self._schema: int | None = None
        numbered = list(zip(count(4), self._names))
        texts = [(number, name.replace("'", "''")) for number, name in numbered]
        self._upsert = UPSERT.format(
            table=table, cells=", ".join(f"(?1, '{name}', ?{number}, ?2, ?3)" for number, name in texts)
        )
        self._update = _UPDATE.format(
            table=table,
            values=" ".join(f"WHEN {n} THEN ?{number}" for n, (number, _) in enumerate(numbered)),
            last=len(numbered) - 1,
        )
        self._cells = _CELLS.format(table=table)

    def write(self, rows: Iterable[tuple[RowKey, StampedRow]]) -> None:
        """Write rows, `ROWS_IN_TRANSACTION` at a time; raises sqlite3.Error, the last ones undone."""
        remaining = iter(rows)
        while batch := list(islice(remaining, ROWS_IN_TRANSACTION)):
            self._write(batch)

    def _write(self, batch: list[tuple[RowKey, StampedRow]]) -> None:
        encode = self._encode
        encoded = [
            (key, (_feast_seconds_of(int(stamp)), round(stamp * 1e6), *encode(values)))
            for (_, key), (stamp, values) in batch
        ]
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            self._check_schema(connection)
            present, others = [], []
            for key, values in encoded:
                first = self._first_cell(connection, key)
                if first is None:
                    others.append((self._key(key), *values))
                else:
                    present.append((first, *values))
            changed = connection.executemany(self._update, present).rowcount if present else 0
            if changed != len(present) * len(self._names):
                # some are older than the store's, or their cells are gone: by key both come out right
                for key, _ in encoded:
                    self._first_cells.pop(key, None)
                others = [(self._key(key), *values) for key, values in encoded]
            connection.executemany(self._upsert, others)

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


def feast_seconds(at: datetime) -> int:
    """How Feast's adapter stores an event time: UTC as if it were local time."""
    naive = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
    return int(naive.timestamp())


@lru_cache(maxsize=4096)
def _feast_seconds_of(second: int) -> int:
    return feast_seconds(datetime.fromtimestamp(second, UTC))


def _from_feast_seconds(seconds: int) -> int:
    """The microseconds of what Feast's adapter wrote."""
    return microseconds(datetime.fromtimestamp(int(seconds)))
