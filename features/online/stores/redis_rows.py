"""Rows in the hashes of the Redis online store, in the layout of Feast's own.

The hash of an entity key (its bytes, then the project's name) holds the rows of every view of that
key: a feature is the field murmur3("view:feature"), the row's event time `_ts:view`, a protobuf
Timestamp. A script compares and writes a row at once on the server, so any number of writers agree
on the newest; it takes many rows a call, because a call costs more than a row.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

import mmh3
from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from driftline.features.declare.declaration import View
from driftline.features.online.stores import wire
from driftline.features.online.stores.connection import connect, connect_async, without_secrets
from driftline.features.online.stores.stored_row import StoredRow, row_encoder
from driftline.features.state.online_view import RowKey, StampedRow

ROWS_IN_EXCHANGE = 1000
"""Rows in one exchange with the server."""
ROWS_A_CALL = 50
"""Rows in one call of the script, during which the server answers no other client: some .3 ms."""

# KEYS: hashes. ARGV: field of the event time, lifetime in ms (0: for ever), number of features, their
# fields; then of each row its event time and values. Numbers are doubles: microseconds are exact to 2255.
# The hash lives as long as the longest-lived row in it: a key's expiry is never brought forward.
SCRIPT = """\
local function microseconds(stamp)
  local seconds, nanos, at = 0, 0, 1
  while at <= #stamp do
    local tag, number, complement, unit, length = stamp:byte(at), 0, 0, 1, 0
    repeat
      at = at + 1
      length = length + 1
      local byte = stamp:byte(at)
      local low = byte % 128
      if length < 10 then
        number = number + low * unit
        complement = complement + (127 - low) * unit
        unit = unit * 128
      end
    until byte < 128
    at = at + 1
    if length == 10 then number = -complement - 1 end
    if tag == 8 then seconds = number elseif tag == 16 then nanos = number end
  end
  return seconds * 1000000 + math.floor(nanos / 1000)
end

local stamp_field, lifetime, features = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = 0
if lifetime > 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local cells = {stamp_field}
for i = 1, features do cells[2 * i + 1] = ARGV[3 + i] end
local at, written = 3 + features, 0
for _, key in ipairs(KEYS) do
  local stamp = ARGV[at + 1]
  local held = redis.call('HGET', key, stamp_field)
  local time = microseconds(stamp)
  if not held or held == stamp or time >= microseconds(held) then
    local left = redis.call('PTTL', key)
    cells[2] = stamp
    for i = 1, features do cells[2 * i + 2] = ARGV[at + 1 + i] end
    redis.call('HSET', key, unpack(cells))
    if lifetime == 0 then
      if left >= 0 then redis.call('PERSIST', key) end
    elseif left ~= -1 then
      local expiry = math.floor(time / 1000) + lifetime
      if left == -2 or expiry > now + left then
        redis.call('PEXPIREAT', key, string.format('%.0f', expiry))
      end
    end
    written = written + 1
  end
  at = at + 1 + features
end
return written
"""
DIGEST = hashlib.sha1(SCRIPT.encode()).hexdigest()

Call = tuple[Any, ...]
"""A command and its arguments."""


class Layout:
    """The names that a view's rows have in Redis."""

    def __init__(self, view: str, features: Sequence[str]) -> None:
        self.stamp = b"_ts:" + view.encode()
        self.fields = [
            struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False)) for feature in features
        ]


def calls(
    layout: Layout, lifetime: timedelta | None, rows: Sequence[tuple[bytes, int, Sequence[bytes]]]
) -> Iterator[Call]:
    """Calls of the script that write rows: hash, event time in microseconds, value of each feature."""
    lived = 0 if lifetime is None else max(1, lifetime // timedelta(milliseconds=1))
    common = (layout.stamp, lived, len(layout.fields), *layout.fields)
    for start in range(0, len(rows), ROWS_A_CALL):
        some = rows[start : start + ROWS_A_CALL]
        call: list[Any] = ["EVALSHA", DIGEST, len(some), *[key for key, _, _ in some], *common]
        for _, stamp, values in some:
            call.append(wire.timestamp(stamp))
            call.extend(values)
        yield tuple(call)


def make_calls(client: Any, wanted: Sequence[Call]) -> None:
    """Make calls of the script in one exchange; the script is sent first to a server that does not have
    it."""
    try:
        _exchange(client, wanted)
    except NoScriptError:
        client.script_load(SCRIPT)
        _exchange(client, wanted)


async def write_async(client: Any, wanted: Sequence[Call]) -> None:
    """As `make_calls`, with an asyncio client."""
    try:
        await _exchange_async(client, wanted)
    except NoScriptError:
        await client.script_load(SCRIPT)
        await _exchange_async(client, wanted)


def _exchange(client: Any, wanted: Sequence[Call]) -> None:
    with client.pipeline(transaction=False) as pipe:
        for call in wanted:
            pipe.execute_command(*call)
        pipe.execute()


async def _exchange_async(client: Any, wanted: Sequence[Call]) -> None:
    async with client.pipeline(transaction=False) as pipe:
        for call in wanted:
            pipe.execute_command(*call)
        await pipe.execute()


class RedisRowsReader:
    """Reads the rows of one project, from any thread; with asyncio, in one event loop at a time."""

    failures: tuple[type[Exception], ...] = (RedisError,)

    def __init__(self, url: str, project: str) -> None:
        self.address = without_secrets(url)
        self._url = url
        self._project = project.encode()
        self._fields: dict[tuple[str, tuple[str, ...]], tuple[bytes, ...]] = {}
        self._client: Any = connect(url)
        self._client_async: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def read(self, view: str, features: tuple[str, ...], keys: Sequence[bytes]) -> list[StoredRow]:
        """The rows of entity keys, with the values of those features in their order."""
        wanted = self._calls(view, features, keys)
        if len(wanted) == 1:
            return [_stored(self._client.execute_command(*wanted[0]))]
        with self._client.pipeline(transaction=False) as pipe:
            for call in wanted:
                pipe.execute_command(*call)
            return [_stored(row) for row in pipe.execute()]

    async def read_async(
        self, view: str, features: tuple[str, ...], keys: Sequence[bytes]
    ) -> list[StoredRow]:
        """As `read`, with an asyncio client."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # connections belong to the loop they were made in
            self._client_async, self._loop = connect_async(self._url), loop
        async with self._client_async.pipeline(transaction=False) as pipe:
            for call in self._calls(view, features, keys):
                pipe.execute_command(*call)
            return [_stored(row) for row in await pipe.execute()]

    def _calls(self, view: str, features: tuple[str, ...], keys: Sequence[bytes]) -> list[Call]:
        fields = self._fields.get((view, features))
        if fields is None:
            layout = Layout(view, features)
            fields = self._fields[view, features] = (*layout.fields, layout.stamp)
        return [("HMGET", key + self._project, *fields) for key in keys]

    def close(self) -> None:
        """Close the connections that are not asyncio's."""
        self._client.close()

    async def close_async(self) -> None:
        """Close all connections."""
        self._client.close()
        client, self._client_async, self._loop = self._client_async, None, None
        if client is not None:
            await client.aclose()


def _stored(row: list[bytes | None]) -> StoredRow:
    *values, stamp = row
    return StoredRow(None, ()) if stamp is None else StoredRow(wire.decoded_microseconds(stamp), values)


class RedisRowsWriter:
    """Writes whole rows of one view: a feature that a row lacks becomes missing."""

    def __init__(
        self, connect: Callable[[], Redis], project: str, view: View, lifetime: timedelta | None
    ) -> None:
        self._connect = connect
        self._project = project.encode()
        self._lifetime = lifetime
        self._layout = Layout(view.name, list(view.features))
        self._key = wire.entity_keys(view.keys)
        self._encode_values = row_encoder(view)

    def write(self, rows: Iterable[tuple[RowKey, StampedRow]]) -> None:
        """Write rows, `ROWS_IN_EXCHANGE` at a time; raises redis.RedisError, some of the last written."""
        remaining = iter(rows)
        while batch := list(islice(remaining, ROWS_IN_EXCHANGE)):
            encoded = [self._encode(key, row) for (_, key), row in batch]
            make_calls(self._connect(), list(calls(self._layout, self._lifetime, encoded)))

    def _encode(self, key: tuple[str, ...], row: StampedRow) -> tuple[bytes, int, list[bytes]]:
        stamp, values = row
        return (
            bytes(self._key(key)) + self._project,
            round(stamp * 1e6),
            [*map(bytes, self._encode_values(values))],
        )
