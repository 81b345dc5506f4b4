"""A gateway within the test's own process, on a socket of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from driftline.infra.gateway.access import SCOPES, AccessKeys
from driftline.infra.gateway.app import create_app
from driftline.infra.gateway.middleware import Limits
from driftline.infra.gateway.published.event_stream import OpenStreams
from driftline.infra.gateway.serve import server_of
from driftline.infra.local.kafka import free_port
from driftline.infra.settings import Settings
from driftline.streams.declare.usecase import UseCase


class Place(NamedTuple):
    """Where a gateway listens on this machine, and a key to it that may do everything."""

    port: int
    key: str

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def head(self, line: str, *headers: str) -> bytes:
        """A request's line and headers, as bytes."""
        lines = [f"{line} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {self.key}", *headers, "", ""]
        return "\r\n".join(lines).encode()


@asynccontextmanager
async def listening(
    case: UseCase, bootstrap: str, folder: Path, *, namespace: str = "", limits: Limits | None = None
) -> AsyncIterator[Place]:
    """A gateway of one case, until the end of the block."""
    limits = limits or Limits()
    keys = AccessKeys(folder / "keys.json")
    key = keys.add("all", SCOPES)
    streams = OpenStreams(limits.streams)
    app = create_app([case], bootstrap, Settings(namespace=namespace), keys, limits, streams)
    port = free_port()
    server = server_of(app, "127.0.0.1", port, streams)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(60):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield Place(port, key)
    finally:
        streams.is_ending = True
        server.should_exit = True
        await serving
