"""A day of traffic through two gateways, of all that clients send: the audit finds every output equal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any

import aiohttp
import parcels
import pytest
import shop
from msgspec.structs import replace

from driftline.streams.declare.events import Event
from tests.infra.gateway.gateways import BASE, Client, Gateways, encoded, published

SHOPS = "suvwxyz"


def asked(hour: int, orders: int) -> Iterator[shop.Asked]:
    """The orders of an hour, in their order."""
    for n in range(orders):
        number = hour * orders + n
        yield shop.asked(number, 60 * hour + 59 * n / orders, SHOPS[number % len(SHOPS)])


def settled(hour: int, orders: int) -> Iterator[shop.Settled]:
    """What became of them, when the hour is over; of some nothing is known."""
    for request in asked(hour, orders):
        number = int(request.order.removeprefix("o"))
        if number % 5:
            yield shop.settled(number, 60 * hour + 59.5, request.shop)


def lines(events: Iterator[Event]) -> bytes:
    return b"\n".join(map(encoded, events))


async def answered(client: Client, path: str, body: bytes, preference: str) -> list[bytes]:
    """The answers to the lines of a body, which is sent again, as a client should, while one is not known."""
    async with asyncio.timeout(240):
        while True:
            status, answer, _ = await client.post(
                path, body, Content_Type="application/x-ndjson", Prefer=preference
            )
            assert status == 200, answer
            answers = answer.splitlines()
            if all(json.loads(line).get("status") != 503 for line in answers):
                return answers


async def an_hour(clients: list[Client], hour: int, orders: int) -> dict[str, bytes]:
    """Send all of an hour, by either gateway; returns the predictions by event id."""
    first, second = clients[hour % 2], clients[(hour + 1) % 2]
    requests = lines(asked(hour, orders))
    answers = await answered(first, "/predictions", requests, "wait=60")
    assert await answered(second, "/predictions", requests, "wait=60") == answers, "by the other gateway"
    statuses = await answered(second, "/events", lines(settled(hour, orders)), "respond-async")
    assert {json.loads(line)["status"] for line in statuses} == {"accepted"}
    late = shop.asked(10**6 + hour, 60 * hour - 1, "s")
    status, body, _ = await first.post("/predictions", encoded(late))
    assert (status, json.loads(body)["stage"]) == (422, "late")
    status, body, _ = await first.post("/predictions", encoded(late)[:-5])
    assert (status, json.loads(body)["stage"]) == (422, "decode")
    return {event.id: answer for event, answer in zip(asked(hour, orders), answers, strict=True)}


async def by_two(
    gateways: Gateways, base: str, sendings: Iterable[Callable[[list[Client]], Awaitable[dict[str, bytes]]]]
) -> dict[str, bytes]:
    """The predictions by event id of all that is sent, one after the other, to two gateways."""
    ports = [gateways.start(), gateways.start()]
    for port in ports:
        await gateways.until_ready(port)
    answers: dict[str, bytes] = {}
    async with aiohttp.ClientSession() as session:
        clients = [Client(session, port, gateways.key, base) for port in ports]
        for send in sendings:
            answers |= await send(clients)
    return answers


def see_that_all_is_equal(system: Any, answers: dict[str, bytes], least: int) -> None:
    """The answers are what is published, each once, and the audit compares more than `least` records."""
    assert published(system) == {event_id: [body] for event_id, body in answers.items()}
    audit = system.run("audit", system.case_path, "--json")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    found = json.loads(audit.stdout)
    assert found["equal"] == found["checked"] > least
    assert found["unchecked"] == 0


@pytest.mark.parametrize(("hours", "orders"), [(6, 20), pytest.param(24, 1_000, marks=pytest.mark.soak)])
def test_hours_of_traffic_are_audited_as_equal(
    system_of: Callable[..., Any], hours: int, orders: int
) -> None:
    system = system_of("shop:orders")
    system.start()
    hourly = [partial(an_hour, hour=hour, orders=orders) for hour in range(hours)]
    answers = asyncio.run(by_two(Gateways(system), BASE, hourly))
    see_that_all_is_equal(system, answers, hours * orders)


AT_A_TIME = 400
REPEATED = 50


async def some_of_a_chain(clients: list[Client], part: int, some: list[Event]) -> dict[str, bytes]:
    """Send some events in a row: the requests by one gateway, the first of them again by the other, and then
    what became of parcels. Returns the predictions by event id."""
    first, second = clients[part % 2], clients[(part + 1) % 2]
    requests = [event for event in some if isinstance(event, parcels.Sent)]
    facts = [replace(event, at=some[-1].at) for event in some if not isinstance(event, parcels.Sent)]
    answers = await answered(first, "/predictions", lines(iter(requests)), "wait=60")
    again = await answered(second, "/predictions", lines(iter(requests[:REPEATED])), "wait=60")
    assert again == answers[:REPEATED], "by the other gateway"
    statuses = await answered(second, "/events", lines(iter(facts)), "respond-async")
    assert {json.loads(line)["status"] for line in statuses} == {"accepted"}
    return {event.id: answer for event, answer in zip(requests, answers, strict=True)}


@pytest.mark.soak
def test_hours_of_a_chain_with_replicas_are_audited_as_equal(system_of: Callable[..., Any]) -> None:
    system = system_of("parcels:twofold@breaks")
    system.start()
    happened = list(parcels.events(4_000))
    parts = [
        partial(some_of_a_chain, part=part, some=happened[begin : begin + AT_A_TIME])
        for part, begin in enumerate(range(0, len(happened), AT_A_TIME))
    ]
    answers = asyncio.run(by_two(Gateways(system, system.case_path), "/v1/cases/parcels", parts))
    assert len(answers) == 4_000
    see_that_all_is_equal(system, answers, len(happened))
