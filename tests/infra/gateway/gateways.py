"""Gateways of a tests' case, and a client of theirs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import shop
from yarl import URL

from driftline.infra.local.kafka import free_port
from driftline.streams.declare.events import Event
from tests.commands.forked_command import Command

Answer = tuple[int, bytes, dict[str, str]]
BASE = "/v1/cases/orders"


class Gateways:
    """Gateways of the same cases, `orders` if none is named, and a client's key."""

    def __init__(self, system: Any, *cases: str) -> None:
        self.system = system
        self.cases = cases or ("shop:orders",)
        self.ports: list[int] = []
        self.processes: list[Command] = []
        self.logs: list[Path] = []
        self.key = self.new_key("all", "produce", "read", "read:values")

    def new_key(self, name: str, *scopes: str) -> str:
        made = self.system.run(
            "gateway", "key", name, *(part for scope in scopes for part in ("--scope", scope))
        )
        assert made.returncode == 0, made.stderr
        assert made.stdout.strip() not in (self.system.home / "gateway-keys.json").read_text()
        return made.stdout.strip()

    def start(self, port: int | None = None) -> int:
        port = port or free_port()
        process, log = self.system.command(
            "gateway", "serve", *self.cases, "--port", str(port), "--max-body", "200000"
        )
        self.ports.append(port)
        self.processes.append(process)
        self.logs.append(log)
        return port

    async def until_ready(self, port: int) -> None:
        async with asyncio.timeout(240), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(0.1)


class Client:
    """Asks one gateway, about `orders` if no other base is given."""

    def __init__(self, session: aiohttp.ClientSession, port: int, key: str | None, base: str = BASE) -> None:
        self._session = session
        self._base = f"http://127.0.0.1:{port}{base}"
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    async def post(self, path: str, body: bytes, **headers: str) -> Answer:
        sent = (
            self._headers
            | {"Content-Type": "application/json"}
            | {name.replace("_", "-"): value for name, value in headers.items()}
        )
        async with self._session.post(self._base + path, data=body, headers=sent) as answer:
            return answer.status, await answer.read(), dict(answer.headers)

    async def get(self, path: str) -> Answer:
        async with self._session.get(URL(self._base + path, encoded=True), headers=self._headers) as answer:
            return answer.status, await answer.read(), dict(answer.headers)


def asked(number: int, **changed: Any) -> shop.Asked:
    last = max(event.at for event in shop.trade(20))
    fields = {"id": f"g{number}", "at": last, "order": f"g{number}", "shop": f"s{number % 3}"}
    return shop.Asked(**({"amount": 1.0 + number} | fields | changed))


def encoded(event: Event) -> bytes:
    return msgspec.json.encode(event)


def published(system: Any) -> dict[str, list[bytes]]:
    """The published predictions by event id."""
    found: dict[str, list[bytes]] = {}
    for record in system.read(system.topics.predictions):
        found.setdefault(json.loads(record.value)["event_id"], []).append(record.value)
    return found
