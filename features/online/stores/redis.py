"""Feast's Redis online store, made to keep the newest row of each key, whichever process writes, until its
ttl ends.

Feast's own reads a row's time before it writes the row, so two writers at once can leave the older
one; it expires keys by one setting for all views, or never, and reads rows of any age.

`connection_string` is Feast's ("host:port,db=0,ssl=true,password=...") or a URL as redis-py takes it
("rediss://user:password@host:port/0?ssl_ca_certs=..."). A cluster is refused: the script that
writes takes keys of several slots at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores import redis as feast_redis
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.protos.feast.types.Value_pb2 import Value
from redis import Redis

from driftline.features.declare.declaration import View
from driftline.features.errors import FeaturesError
from driftline.features.feast.expiry import is_over, lifetime
from driftline.features.online.stores import wire
from driftline.features.online.stores.connection import connect, connect_async
from driftline.features.online.stores.incarnation import new_token
from driftline.features.online.stores.redis_rows import (
    Call,
    Layout,
    RedisRowsWriter,
    calls,
    make_calls,
    write_async,
)
from driftline.features.online.stores.timestamps import microseconds, time_of_stamp

Data = Sequence[tuple[Any, dict[str, Any], datetime, datetime | None]]
"""Feast's rows: entity key, values by name, event time, creation time."""


class RedisOnlineStoreConfig(feast_redis.RedisOnlineStoreConfig):  # type: ignore[misc]
    """Feast's Redis settings; Feast finds this class by its name."""

    type: str = "driftline.features.online.stores.redis.RedisOnlineStore"


class RedisOnlineStore(feast_redis.RedisOnlineStore):  # type: ignore[misc]
    """A row is written only when its event time is not before that of the row in the store."""

    _client: Redis | None = None
    _client_async: Any = None

    def __init__(self) -> None:
        self._lifetimes: dict[str, timedelta | None] = {}

    def _get_client(self, online_store_config: Any) -> Redis:
        if self._client is None:
            _refuse_cluster(online_store_config)
            address = online_store_config.connection_string
            self._client = connect(address) if "://" in address else super()._get_client(online_store_config)
        return self._client

    async def _get_client_async(self, online_store_config: Any) -> Any:
        if self._client_async is None:
            _refuse_cluster(online_store_config)
            address = online_store_config.connection_string
            self._client_async = (
                connect_async(address)
                if "://" in address
                else await super()._get_client_async(online_store_config)
            )
        return self._client_async

    def disconnect(self) -> None:
        """Close the connections; the next access connects again."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def incarnation(self, config: Any, views: Sequence[Any]) -> str | None:
        """The token of the store's incarnation; None when it is missing."""
        token = self._get_client(config.online_store).get(_token_key(config))
        return None if token is None else bytes(token).decode()  # type: ignore[arg-type]

    def begin(self, config: Any) -> str:
        """Give the store a token where it has none; returns the one it has."""
        client, key = self._get_client(config.online_store), _token_key(config)
        client.set(key, new_token(), nx=True)
        return bytes(client.get(key)).decode()  # type: ignore[arg-type]

    def end(self, config: Any) -> None:
        """Take the token away: rows are missing."""
        self._get_client(config.online_store).delete(_token_key(config))

    def update(self, config: Any, tables_to_delete: Sequence[Any], *rest: Any, **named: Any) -> None:
        """As Feast's."""
        super().update(config, tables_to_delete, *rest, **named)
        if tables_to_delete:
            self.end(config)

    def teardown(self, config: Any, tables: Sequence[Any], entities: Sequence[Any]) -> None:
        """As Feast's."""
        super().teardown(config, tables, entities)
        self.end(config)

    def online_write_batch(
        self, config: Any, table: Any, data: Data, progress: Callable[[int], Any] | None
    ) -> None:
        """Write Feast's own rows of one view; older ones do not change the store."""
        make_calls(
            self._get_client(config.online_store), [*_calls(config, table, data), *_expiries(config, data)]
        )
        if progress is not None:
            progress(len(data))

    async def online_write_batch_async(
        self, config: Any, table: Any, data: Data, progress: Callable[[int], Any] | None
    ) -> None:
        """As `online_write_batch`, with an asyncio client."""
        client = await self._get_client_async(config.online_store)
        await write_async(client, [*_calls(config, table, data), *_expiries(config, data)])
        if progress is not None:
            progress(len(data))

    def rows_writer(self, config: Any, feast_view: Any, view: View) -> RedisRowsWriter:
        """The writer of a view's rows."""
        return RedisRowsWriter(
            lambda: self._get_client(config.online_store), config.project, view, lifetime(feast_view)
        )

    # Every way of reading, one view or many, sync or async, names a view's fields by the first of these
    # and gives what was read to the second, which does not get the view.

    def _generate_hset_keys_for_features(
        self,
        feature_view: Any,
        requested_features: list[str] | None = None,
        fv_name_override: str | None = None,
    ) -> tuple[list[str], list[str | bytes]]:
        self._lifetimes[fv_name_override or feature_view.name] = lifetime(feature_view)
        named: tuple[list[str], list[str | bytes]] = super()._generate_hset_keys_for_features(
            feature_view, requested_features, fv_name_override
        )
        return named

    def _get_features_for_entity(
        self, values: Sequence[bytes | None], feature_view: str, requested_features: list[str]
    ) -> tuple[datetime | None, dict[str, Any] | None]:
        """Event time, to the microsecond, and values; None and None without a row that counts."""
        *cells, stamp = values  # the time is asked for last
        if stamp is None:
            return None, None
        at = time_of_stamp(wire.decoded_microseconds(stamp))
        if is_over(at, self._lifetimes[feature_view]):
            return None, None
        names = requested_features[: len(cells)]
        return at, {name: Value.FromString(cell or b"") for name, cell in zip(names, cells, strict=True)}


def _token_key(config: Any) -> str:
    return f"driftline:incarnation:{config.project}"


def _hash_of(config: Any, key: Any) -> bytes:
    version = config.entity_key_serialization_version
    serialized: bytes = serialize_entity_key(key, entity_key_serialization_version=version)
    return serialized + config.project.encode()  # type: ignore[no-any-return]


def _expiries(config: Any, data: Data) -> list[Call]:
    """Commands that let Feast's rows expire where its settings say so."""
    seconds = config.online_store.key_ttl_seconds
    return [("EXPIRE", _hash_of(config, key), seconds) for key, *_ in data] if seconds else []


def _calls(config: Any, table: Any, data: Data) -> list[Call]:
    """The script's calls for Feast's rows, those with the same features together."""
    by_features: dict[tuple[str, ...], list[tuple[bytes, int, list[bytes]]]] = {}
    for key, values, at, _ in data:
        by_features.setdefault(tuple(values), []).append(
            (
                _hash_of(config, key),
                microseconds(at),
                [value.SerializeToString() for value in values.values()],
            )
        )
    name = compute_versioned_name(table, config.registry.enable_online_feature_view_versioning)
    return [
        call
        for features, rows in by_features.items()
        for call in calls(Layout(name, features), lifetime(table), rows)
    ]


def _refuse_cluster(online_store_config: Any) -> None:
    if online_store_config.redis_type == feast_redis.RedisType.redis_cluster:
        raise FeaturesError(
            "the Redis online store writes keys of several slots at once: no cluster can do so"
        )
