"""Feast's SQLite online store, made to keep the newest row of each key, and it alone until its ttl ends.

Feast's own lets an older row replace a newer one, keeps whole seconds only (it registers a SQLite
adapter `int(datetime.timestamp())`) and reads rows of any age.

The file is in WAL mode: readers never wait for the writer, and a transaction is one fsync. The
folder needs to be writable for readers too.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores import sqlite as feast_sqlite
from feast.infra.online_stores.helpers import compute_table_id
from feast.protos.feast.types.Value_pb2 import Value

from driftline.features.declare.declaration import View
from driftline.features.feast.expiry import is_over, lifetime
from driftline.features.online.stores.incarnation import new_token
from driftline.features.online.stores.sqlite_rows import (
    REBUILD,
    TABLE,
    UPSERT,
    SqliteRowsWriter,
    feast_seconds,
    prepare,
    stored,
)
from driftline.features.online.stores.timestamps import microseconds, time_of_stamp

INCARNATIONS = "driftline_incarnations"
"""Table of the token of each project's incarnation."""


class SqliteOnlineStoreConfig(feast_sqlite.SqliteOnlineStoreConfig):  # type: ignore[misc]
    """Feast's SQLite settings; Feast finds this class by its name."""

    type: str = "driftline.features.online.stores.sqlite.SqliteOnlineStore"


class SqliteOnlineStore(feast_sqlite.SqliteOnlineStore):  # type: ignore[misc]
    """A row is written only when its event time is not before that of the row in the store."""

    _conn: sqlite3.Connection | None = None
    _opened: os.stat_result | None = None

    def _get_conn(self, config: Any) -> sqlite3.Connection:
        opened = self._conn is not None
        connection: sqlite3.Connection = super()._get_conn(config)
        if opened:
            return connection
        self._opened = os.stat(self._get_db_path(config))
        return prepare(connection)

    def incarnation(self, config: Any, views: Sequence[Any]) -> str | None:
        """The token of the store's incarnation; None when the file is another than the one opened, or when
        the token or a table of the views is missing."""
        if self._conn is not None and not self._is_opened_file(config):
            self.disconnect()
            return None
        connection = self._get_conn(config)
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables.issuperset([INCARNATIONS, *(_table(config, view) for view in views)]):
            return None
        return _token(connection, config.project)

    def begin(self, config: Any) -> str:
        """Give the store a token where it has none; returns the one it has."""
        with self._get_conn(config) as connection:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {INCARNATIONS} (project TEXT PRIMARY KEY, token TEXT)"
            )
            connection.execute(
                f"INSERT OR IGNORE INTO {INCARNATIONS} VALUES (?, ?)", (config.project, new_token())
            )
            return str(_token(connection, config.project))

    def end(self, config: Any) -> None:
        """Take the token away: rows are missing."""
        with self._get_conn(config) as connection:
            connection.execute(f"DROP TABLE IF EXISTS {INCARNATIONS}")

    def _is_opened_file(self, config: Any) -> bool:
        try:
            return self._opened is not None and os.path.samestat(
                self._opened, os.stat(self._get_db_path(config))
            )
        except FileNotFoundError:
            return False

    def disconnect(self) -> None:
        """Close the file; the next access opens it again."""
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
                connection.execute(TABLE.format(table=table))
            elif "cell" not in columns:
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    for statement in REBUILD:
                        connection.execute(statement.format(table=table))
        super().update(config, tables_to_delete, tables_to_keep, *rest, **named)
        connection.commit()
        if tables_to_delete:
            self.end(config)

    def teardown(self, config: Any, tables: Sequence[Any], entities: Sequence[Any]) -> None:
        """Remove the file and what SQLite keeps beside it: a log that is left would be read into the next."""
        super().teardown(config, tables, entities)
        for suffix in ("-wal", "-shm"):
            Path(f"{self._get_db_path(config)}{suffix}").unlink(missing_ok=True)

    def online_write_batch(
        self,
        config: Any,
        table: Any,
        data: Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write Feast's own rows of one view in one transaction; older ones do not change the store."""
        cells = [
            (key, seconds, stamp, name, value.SerializeToString())
            for key, (_, values, at, _) in zip(_keys(config, [row[0] for row in data]), data, strict=True)
            for seconds, stamp in [(feast_seconds(at), microseconds(at))]
            for name, value in values.items()
        ]
        with self._get_conn(config) as connection:
            connection.executemany(
                UPSERT.format(table=_table(config, table), cells="(?1, ?4, ?5, ?2, ?3)"), cells
            )
        if progress is not None:
            progress(len(data))

    def online_read(
        self,
        config: Any,
        table: Any,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        """Event time, to the microsecond, and values of each key; None and None without a row that counts."""
        keys = _keys(config, entity_keys)
        rows = stored(self._get_conn(config), _table(config, table), keys)
        lived = lifetime(table)
        answers: list[tuple[datetime | None, dict[str, Any] | None]] = []
        for key in keys:
            row = rows.get(key)
            if row is None or is_over(at := time_of_stamp(row[0]), lived):
                answers.append((None, None))
            else:
                wanted = row[1].keys() if requested_features is None else row[1].keys() & requested_features
                answers.append((at, {name: Value.FromString(row[1][name]) for name in wanted}))
        return answers

    def rows_writer(self, config: Any, feast_view: Any, view: View) -> SqliteRowsWriter:
        """The writer of a view's rows."""
        return SqliteRowsWriter(lambda: self._get_conn(config), _table(config, feast_view), view)


def _token(connection: sqlite3.Connection, project: str) -> str | None:
    row = connection.execute(f"SELECT token FROM {INCARNATIONS} WHERE project = ?", (project,)).fetchone()
    return None if row is None else str(row[0])


def _keys(config: Any, entity_keys: Sequence[Any]) -> list[bytes]:
    version = config.entity_key_serialization_version
    return [serialize_entity_key(key, entity_key_serialization_version=version) for key in entity_keys]


def _table(config: Any, view: Any) -> str:
    versioned: bool = config.registry.enable_online_feature_view_versioning
    return str(compute_table_id(config.project, view, versioned)).replace('"', '""')
