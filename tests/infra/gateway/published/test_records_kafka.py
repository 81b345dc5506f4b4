"""What a case has published, through the gateway: pages, streams, models, lineage, and commands to it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import shop

from tests.infra.gateway.gateways import Client, Gateways, asked, encoded


@pytest.fixture
def gateways(system_of: Callable[..., Any], eventually: Callable[..., Any]) -> Gateways:
    """The gateways of a case that takes commands, whose worker has answered some requests."""
    system = system_of("shop:operated")
    worker = system.start()
    system.produce(shop.trade(20))
    eventually(lambda: system.folded(worker))
    return Gateways(system, "shop:operated")


def with_session(gateways: Gateways, use: Callable[[aiohttp.ClientSession, int], Awaitable[None]]) -> None:
    async def run() -> None:
        port = gateways.start()
        await gateways.until_ready(port)
        async with aiohttp.ClientSession() as session:
            await use(session, port)

    asyncio.run(run())


def values(system: Any, kind: str) -> list[tuple[int, int, Any]]:
    """Partition, offset and value of all records of a topic."""
    records = system.read(getattr(system.topics, kind))
    return sorted((record.partition, record.offset, json.loads(record.value)) for record in records)


async def pages(client: Client, kind: str, limit: int) -> list[tuple[int, int, Any]]:
    """All (partition, offset, record) of a kind, read in pages of so many."""
    found: list[tuple[int, int, Any]] = []
    since = ""
    while True:
        status, body, _ = await client.get(f"/records/{kind}?limit={limit}{since}")
        assert status == 200, body
        page = json.loads(body)
        assert len(page["items"]) <= limit
        found += [(item["partition"], item["offset"], item["record"]) for item in page["items"]]
        if not page["more"]:
            return sorted(found)
        since = f"&since={page['next']}"


def test_pages_hold_every_record_once_and_each_scope_its_own(gateways: Gateways) -> None:
    figures = gateways.new_key("figures", "read")
    sender = gateways.new_key("sender", "produce")

    async def use(session: aiohttp.ClientSession, port: int) -> None:
        client = Client(session, port, gateways.key)
        for kind in ("predictions", "outcomes", "models", "drift", "statistics"):
            expected = values(gateways.system, kind)
            assert await pages(client, kind, 7) == expected
            assert await pages(client, kind, 1_000) == expected
        for wrong in ("x", "0:1,0:2", "7:0", "0:-1", "0:999999"):
            status, body, _ = await client.get(f"/records/outcomes?since={wrong}")
            assert (status, json.loads(body)["title"]) == (422, "No such position"), body
        assert (await client.get("/records/outcomes?limit=0"))[0] == 422
        assert (await client.get("/records/events"))[0] == 422

        models = json.loads((await client.get("/models"))[1])
        assert [member["name"] for member in models["members"]] == ["logistic", "constant"]
        assert (await client.get("/incidents"))[0] == 200
        schema = json.loads((await client.get("/schema"))[1])
        assert gateways.system.topics.outcomes in schema
        assert (await client.get("/features/nothing?shop=s"))[0] == 404
        view = gateways.system.case.views()[0].name
        assert (await client.get(f"/features/{view}?nothing=s"))[0] == 422
        shown = json.loads((await client.get(f"/features/{view}?shop=s0"))[1])
        assert shown["key"] == {"shop": "s0"}

        prediction = values(gateways.system, "predictions")[0][2]["id"]
        status, body, _ = await client.get(f"/lineage/{prediction}")
        assert (status, json.loads(body)["agrees"]) == (200, True), body
        assert (await client.get("/lineage/nothing"))[0] == 404

        reader, producer = Client(session, port, figures), Client(session, port, sender)
        assert (await reader.get("/records/models"))[0] == 200
        for path in ("/records/outcomes", "/streams/outcomes", f"/lineage/{prediction}", "/predictions/o1"):
            assert (await reader.get(path))[0] == 403, path
        for path in ("/records/models", "/models", "/incidents", "/schema", "/streams/drift"):
            assert (await producer.get(path))[0] == 403, path

    with_session(gateways, use)


def test_a_command_is_relayed_as_its_operator_signed_it(gateways: Gateways, tmp_path: Any) -> None:
    key = tmp_path / "ann.key"
    key.write_text(shop.OPERATOR_KEY)
    relays = gateways.new_key("relay", "operate")
    made = gateways.system.run(
        *("models", "promote", "shop:operated", "constant", "--operator", "ann", "--key", key, "--print")
    )
    assert made.returncode == 0, made.stderr
    signed = made.stdout.encode()
    log = gateways.system.topics.log
    before = gateways.system.ends(log)

    async def use(session: aiohttp.ClientSession, port: int) -> None:
        client = Client(session, port, relays)
        assert (await client.post("/commands", encoded(asked(1))))[0] == 422
        assert (await Client(session, port, gateways.key).post("/commands", signed))[0] == 403
        assert (await client.post("/predictions", encoded(asked(1))))[0] == 403
        assert gateways.system.ends(log) == before
        forged = signed.replace(b'"member":"constant"', b'"member":"logistic"')
        status, body, _ = await client.post("/commands", forged)
        assert (status, json.loads(body)["stage"]) == (422, "command"), body
        status, body, _ = await client.post("/commands", signed)
        assert status == 200, body
        reader = Client(session, port, gateways.key)
        pools = json.loads((await reader.get("/models"))[1])["serving"]
        assert {pool["serving"] for pool in pools.values()} == {"constant"}
        status, body, _ = await client.post("/commands", signed)
        assert (status, json.loads(body)["stage"]) == (422, "command"), "a nonce counts once"

    with_session(gateways, use)


@asynccontextmanager
async def streamed(
    session: aiohttp.ClientSession, port: int, key: str, path: str, **headers: str
) -> AsyncIterator[AsyncIterator[tuple[str, str, bytes]]]:
    """Id, name and data of the events of a stream."""
    url = f"http://127.0.0.1:{port}/v1/cases/orders/streams/{path}"
    sent = {"Authorization": f"Bearer {key}"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    async with session.get(url, headers=sent) as answer:
        assert answer.status == 200, await answer.read()
        assert answer.headers["Content-Type"].startswith("text/event-stream")

        async def events() -> AsyncIterator[tuple[str, str, bytes]]:
            fields: dict[str, bytes] = {}
            async for line in answer.content:
                name, _, value = line.rstrip(b"\n").partition(b": ")
                if line != b"\n":
                    fields[name.decode()] = value
                elif "data" in fields:
                    yield fields.get("id", b"").decode(), fields.get("event", b"").decode(), fields["data"]
                    fields = {}

        yield events()


async def taken(events: AsyncIterator[tuple[str, str, bytes]], count: int) -> list[tuple[str, str, bytes]]:
    async with asyncio.timeout(60):
        return [await anext(events) for _ in range(count)]


def test_a_stream_goes_on_where_its_client_was_and_ends_with_the_gateway(gateways: Gateways) -> None:
    system = gateways.system
    published = {
        kind: {record.value for record in system.read(getattr(system.topics, kind))}
        for kind in ("predictions", "outcomes")
    }

    async def use(session: aiohttp.ClientSession, port: int) -> None:
        for kind, expected in published.items():
            async with streamed(session, port, gateways.key, f"{kind}?since=0:0") as events:
                first = await taken(events, 5)
            async with streamed(session, port, gateways.key, kind, Last_Event_ID=first[-1][0]) as events:
                rest = await taken(events, len(expected) - 5)
            data = [data for _, _, data in first + rest]
            assert (set(data), len(data)) == (expected, len(expected))

        async with streamed(session, port, gateways.key, "predictions") as events:
            client = Client(session, port, gateways.key)
            _, body, _ = await client.post("/predictions", encoded(asked(1)))
            assert [data for _, _, data in await taken(events, 1)] == [body]
            begun = time.monotonic()
            gateways.processes[-1].terminate()
            ((_, name, data),) = await taken(events, 1)
            assert (name, json.loads(data)["reason"]) == ("end", "the gateway ends: connect again")
        await asyncio.to_thread(gateways.processes[-1].wait, 30)
        assert time.monotonic() - begun < 4, "no stream holds it up"

    with_session(gateways, use)
