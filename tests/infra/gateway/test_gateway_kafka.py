"""The gateway in front of a real log and worker: what it answers is what is published, once for each id."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import parcels
import pytest
import shop

from driftline.infra.local.kafka import LocalStack
from driftline.streams.declare.events import Event
from tests.infra.gateway.gateways import BASE, Answer, Client, Gateways, asked, encoded, published


@pytest.fixture
def gateways(system_of: Callable[..., Any], eventually: Callable[..., Any]) -> Gateways:
    system = system_of("shop:orders")
    worker = system.start()
    system.produce(shop.trade(20))
    eventually(lambda: system.folded(worker))
    return Gateways(system)


def with_client(
    gateways: Gateways,
    use: Callable[[Client], Awaitable[None]],
    key: str | None = "",
    base: str = BASE,
) -> None:
    async def run() -> None:
        port = gateways.ports[0] if gateways.ports else gateways.start()
        await gateways.until_ready(port)
        async with aiohttp.ClientSession() as session:
            await use(Client(session, port, gateways.key if key == "" else key, base))

    asyncio.run(run())


def test_an_answer_is_the_published_prediction_and_a_repeat_gets_the_same_bytes(gateways: Gateways) -> None:
    async def use(client: Client) -> None:
        status, body, headers = await client.post("/predictions", encoded(asked(1)))
        assert status == 200, body
        assert published(gateways.system)["g1"] == [body]
        assert headers["X-Request-ID"]
        assert (await client.post("/predictions", encoded(asked(1))))[:2] == (200, body)
        assert (await client.get("/predictions/g1"))[:2] == (200, body)

        status, other, _ = await client.post("/predictions", encoded(asked(1, amount=99.0)))
        assert (status, json.loads(other)["stage"]) == (422, "id")
        assert published(gateways.system)["g1"] == [body]
        earlier = next(event for event in shop.trade(20) if isinstance(event, shop.Asked))
        status, before, _ = await client.post("/predictions", encoded(earlier))
        assert (status, published(gateways.system)[earlier.id]) == (200, [before]), "sent by somebody else"

        async with aiohttp.ClientSession() as session:
            second = gateways.start()
            await gateways.until_ready(second)
            replica = Client(session, second, gateways.key)
            assert (await replica.get("/predictions/g1"))[:2] == (200, body)
            assert (await replica.post("/predictions", encoded(asked(1))))[:2] == (200, body)
            sent = [each.post("/predictions", encoded(asked(2))) for each in (client, replica) * 5]
            both = await asyncio.gather(*sent)
        assert {answer[:2] for answer in both} == {(200, published(gateways.system)["g2"][0])}

    with_client(gateways, use)


def test_what_is_refused_is_a_problem_with_its_reason_and_never_accepted(gateways: Gateways) -> None:
    reader = gateways.new_key("reader", "read:values")

    async def use(client: Client) -> None:
        before = gateways.system.ends(gateways.system.topics.log)
        refusals = [
            b"{",
            b"[]",
            b'"text"',
            b"",
            encoded(asked(3)).replace(b'"amount":4.0', b'"amount":"four"'),
            encoded(asked(3)).replace(b'"amount":4.0', b'"amount":1e300'),
            b'{"type":"clock","id":"c","at":"2030-01-01T00:00:00Z"}',
            b'{"type":"warm-up","id":"c","at":"2030-01-01T00:00:00Z"}',
        ]
        for body in refusals:
            status, answer, headers = await client.post("/predictions", body)
            assert (status, json.loads(answer).get("stage")) == (422, "decode"), (body, answer)
            assert headers["Content-Type"] == "application/problem+json"
        settled = shop.Settled(id="x", at=asked(3).at, order="g1", shop="s1", bad=0.0)
        assert (await client.post("/predictions", encoded(settled)))[0] == 422
        assert (await client.post("/events", encoded(asked(3))))[0] == 422
        assert (await client.post("/predictions", b" " * 300_000))[0] == 413
        assert gateways.system.ends(gateways.system.topics.log) == before, "nothing of it is in the log"

        status, answer, _ = await client.post("/predictions", encoded(asked(4, at=shop.START)))
        assert (status, json.loads(answer)["stage"]) == (422, "late")
        late = shop.Settled(id="late", at=shop.START, order="g1", shop="s1", bad=0.0)
        status, answer, _ = await client.post("/events", encoded(late))
        assert (status, json.loads(answer)["stage"]) == (422, "late")
        status, answer, _ = await client.post("/events", encoded(settled))
        assert (status, json.loads(answer)) == (200, {"id": "x", "status": "folded"})
        assert (await client.get("/predictions/nobody"))[0] == 404
        status, answer, headers = await client.get("/elsewhere")
        assert (status, headers["Content-Type"]) == (404, "application/problem+json"), answer

    async def without_key(client: Client) -> None:
        assert (await client.post("/predictions", encoded(asked(5))))[0] == 401

    async def wrong_key(client: Client) -> None:
        assert (await client.post("/predictions", encoded(asked(5))))[0] == 403

    with_client(gateways, use)
    with_client(gateways, without_key, None)
    with_client(gateways, wrong_key, "dlk_wrong")
    with_client(gateways, wrong_key, reader)
    assert "g5" not in published(gateways.system)


def test_a_client_chooses_how_long_it_waits_and_sends_many_at_once(gateways: Gateways) -> None:
    async def use(client: Client) -> None:
        status, _, headers = await client.post("/predictions", encoded(asked(6)), Prefer="respond-async")
        assert (status, headers["Location"]) == (202, f"{BASE}/predictions/g6")
        async with asyncio.timeout(60):
            while (await client.get("/predictions/g6"))[0] != 200:
                await asyncio.sleep(0.05)
        late = encoded(asked(8, at=shop.START))
        status, _, headers = await client.post("/predictions", late, Prefer="respond-async")
        assert status == 202
        async with asyncio.timeout(60):
            while (refused := await client.get(headers["Location"].removeprefix(BASE)))[0] == 404:
                await asyncio.sleep(0.05)
        assert (refused[0], json.loads(refused[1])["stage"]) == (422, "late"), refused
        second = gateways.start()
        await gateways.until_ready(second)
        async with aiohttp.ClientSession() as session:
            replica = Client(session, second, gateways.key)
            assert await refusal(replica, "g8") == await refusal(client, "g8"), (
                "any gateway gives the same refusal"
            )
        assert (await client.post("/predictions", encoded(asked(8))))[0] == 200
        assert (await client.get("/predictions/g8"))[0] == 200, "mended and sent again under its id"
        odd = asked(7, id="a b/ü?#%2F")
        status, body, headers = await client.post("/predictions", encoded(odd), Prefer="wait=0")
        assert status == 202
        async with asyncio.timeout(60):
            while (found := await client.get(headers["Location"].removeprefix(BASE)))[0] != 200:
                await asyncio.sleep(0.05)
        assert json.loads(found[1])["event_id"] == odd.id
        fact = shop.Settled(id="f6", at=asked(6).at, order="g6", shop="s1", bad=1.0)
        before = sum(gateways.system.ends(gateways.system.topics.log).values())
        status, body, _ = await client.post("/events", encoded(fact), Prefer="respond-async")
        assert (status, json.loads(body)) == (202, {"id": "f6", "status": "accepted"})
        assert sum(gateways.system.ends(gateways.system.topics.log).values()) > before, "it is in the log"
        status, body, _ = await client.post("/events", encoded(fact))
        assert (status, json.loads(body)["status"]) == (200, "folded"), "sent again, it is waited for"
        lines = [encoded(asked(number)) for number in range(10, 60)] + [b"no json"]
        body = b"\n".join(lines)
        status, answer, _ = await client.post("/predictions", body, Content_Type="application/x-ndjson")
        answers = answer.splitlines()
        assert (status, len(answers)) == (200, 51)
        found = published(gateways.system)
        assert answers[:50] == [found[f"g{number}"][0] for number in range(10, 60)]
        assert json.loads(answers[50])["status"] == 422

    with_client(gateways, use)


@pytest.mark.parametrize(
    ("case", "events"),
    [("shop:orders", list(shop.trade(20))), ("parcels:on_two", list(parcels.events(40)))],
    ids=["one stage", "a chain"],
)
def test_a_request_that_was_part_of_a_warm_up_is_refused_as_it_will_not_be_answered(
    case: str,
    events: list[Event],
    system_of: Callable[..., Any],
    eventually: Callable[..., Any],
    tmp_path: Path,
) -> None:
    system = system_of(case)
    worker = system.start()
    history = tmp_path / "history.jsonl"
    history.write_bytes(b"\n".join(map(encoded, events)))
    assert system.run("produce", case, history, "--warm-up").returncode == 0
    eventually(lambda: system.folded(worker))
    system.stop(worker)  # what a take-over leaves at the ends of topics is no record
    worker = system.start()
    eventually(lambda: system.folded(worker))

    async def use(client: Client) -> None:
        known = next(event for event in events if isinstance(event, system.case.task.ask))
        status, body, _ = await client.post("/predictions", encoded(known), Prefer="wait=60")
        assert (status, json.loads(body)["stage"]) == (422, "id")
        assert "part of a warm-up" in json.loads(body)["detail"]
        new = msgspec.structs.replace(known, id="of-its-own", at=events[-1].at)
        assert (await client.post("/predictions", encoded(new), Prefer="wait=60"))[0] == 200

    with_client(Gateways(system, case), use, base=f"/v1/cases/{system.case.name}")


async def refusal(client: Client, event_id: str) -> tuple[int, bytes]:
    return (await client.get(f"/predictions/{event_id}"))[:2]


async def asked_until_answered(ports: list[int], key: str, number: int) -> bytes:
    """As a client should: the same request to one gateway or the other until it is answered. Whatever else
    comes than an answer has to be something that may be sent again."""
    async with aiohttp.ClientSession() as session:
        turn = number
        while True:
            client = Client(session, ports[turn % len(ports)], key)
            turn += 1
            try:
                status, body, headers = await client.post("/predictions", encoded(asked(number)))
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
                continue
            if status == 200:
                return body
            assert status in (202, 429, 503), body
            assert status == 202 or "Retry-After" in headers
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(("clients", "each"), [(40, 25), pytest.param(200, 20, marks=pytest.mark.soak)])
def test_every_id_has_one_prediction_though_both_gateways_are_restarted(
    gateways: Gateways, clients: int, each: int
) -> None:
    numbers = range(1_000, 1_000 + clients * each)

    async def client(ports: list[int], mine: range, answers: dict[str, bytes]) -> None:
        for number in mine:
            answers[f"g{number}"] = await asked_until_answered(ports, gateways.key, number)

    async def run() -> dict[str, bytes]:
        ports = [gateways.start(), gateways.start()]
        for port in ports:
            await gateways.until_ready(port)
        answers: dict[str, bytes] = {}
        asking = [
            asyncio.create_task(client(ports, numbers[n * each : (n + 1) * each], answers))
            for n in range(clients)
        ]
        for number, port in enumerate(ports):
            while len(answers) < (number + 1) * clients * each // 3:
                await asyncio.sleep(0.02)
            process = gateways.processes[number]
            (process.kill if number else process.terminate)()
            await asyncio.to_thread(process.wait, 30)
            gateways.start(port)
        await asyncio.gather(*asking)
        return answers

    answers = asyncio.run(run())
    found = published(gateways.system)
    assert {event_id: [body] for event_id, body in answers.items()} == {
        f"g{number}": found[f"g{number}"] for number in numbers
    }
    refolded = {
        json.loads(output.value)["event_id"]: output.value
        for _, outputs in gateways.system.refolded()
        for output in outputs.predictions
    }
    assert {event_id: refolded[event_id] for event_id in answers} == answers


async def asked_once(client: Client, number: int) -> tuple[int, float]:
    """Status and seconds of an answer that says to ask again."""
    begun = time.monotonic()
    status, body, headers = await client.post("/predictions", encoded(asked(number)))
    assert "Retry-After" in headers, body
    return status, time.monotonic() - begun


async def all_answered(port: int, key: str, numbers: Sequence[int], clients: int) -> list[bytes]:
    """The answers to requests that so many clients send until they have them."""
    answers: dict[int, bytes] = {}

    async def ask(mine: Sequence[int]) -> None:
        for number in mine:
            answers[number] = await asked_until_answered([port], key, number)

    await asyncio.gather(*(ask(numbers[n::clients]) for n in range(clients)))
    return [answers[number] for number in numbers]


async def asked_fact(client: Client) -> Answer:
    """What the gateway answers when it is sent a label."""
    last = asked(1)
    fact = shop.Settled(id="fact", at=last.at, order=last.order, shop=last.shop, bad=0.0)
    return await client.post("/events", encoded(fact))


async def each_read_is_for_later(client: Client) -> float:
    """See that nothing is read of a Kafka that stands still, and return the seconds of the slowest answer."""
    routes = (
        "/records/predictions",
        "/records/drift",
        "/streams/outcomes",
        "/models",
        "/incidents",
        "/lineage/g1",
    )
    begun = time.monotonic()
    answers = await asyncio.gather(*(client.get(route) for route in routes))
    assert [(status, "Retry-After" in headers) for status, _, headers in answers] == [(503, True)] * len(
        routes
    )
    assert (await client.get("/predictions/g1"))[0] == 200, "it was read before"
    return time.monotonic() - begun


@pytest.mark.parametrize(("still", "clients"), [(0.0, 6), pytest.param(60.0, 100, marks=pytest.mark.soak)])
def test_a_broker_that_stands_still_makes_outcomes_unknown_and_nothing_is_lost_or_twice(
    tmp_path: Path, system_of: Callable[..., Any], eventually: Callable[..., Any], still: float, clients: int
) -> None:
    """For `still` seconds, and for as long as each client asks twice."""
    stack = LocalStack(tmp_path / "stack")
    broker = stack.up()
    try:
        system = system_of("shop:orders", address=broker.bootstrap)
        worker = system.start()
        system.produce(shop.trade(20))
        eventually(lambda: system.folded(worker))
        gateways = Gateways(system)

        async def run() -> tuple[list[tuple[int, float]], list[bytes]]:
            port = gateways.start()
            await gateways.until_ready(port)
            async with aiohttp.ClientSession() as session:
                client = Client(session, port, gateways.key)
                assert (await client.post("/predictions", encoded(asked(1))))[0] == 200
                os.kill(broker.pid, signal.SIGSTOP)
                stopped = time.monotonic()
                during: list[tuple[int, float]] = []
                try:
                    for _ in range(2):
                        print(f"reads answered in {await each_read_is_for_later(client):.2f} s")
                    assert (await asked_fact(client))[0] == 503
                    while len(during) < 2 * clients or time.monotonic() - stopped < still:
                        numbers = range(2 + len(during), 2 + len(during) + clients)
                        during += await asyncio.gather(*(asked_once(client, number) for number in numbers))
                finally:
                    os.kill(broker.pid, signal.SIGCONT)
                numbers = range(2, 2 + len(during))
                async with asyncio.timeout(180):
                    return during, await all_answered(port, gateways.key, numbers, clients)

        during, answers = asyncio.run(run())
        print(
            f"{len(during)} requests, the slowest answered in {max(seconds for _, seconds in during):.2f} s"
        )
        assert {status for status, _ in during} == {503}
        eventually(lambda: system.folded(worker))
        found = published(system)
        assert [found[f"g{number}"] for number in range(2, 2 + len(during))] == [[each] for each in answers]
        assert worker.poll() is None
    finally:
        stack.down(wipe=True)
