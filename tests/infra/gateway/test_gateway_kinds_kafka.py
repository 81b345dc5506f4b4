"""Every kind of case behind one gateway: each answer is what its worker publishes, and what the log gives."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import aiohttp
import answering
import jsonschema
import parcels
import pytest
from msgspec.structs import replace

from driftline.infra.topics.administration import ensure_topics
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import load_case
from tests.conftest import System
from tests.infra.gateway.gateways import Client, Gateways, encoded, published


class Kind(NamedTuple):
    """A case: its events, a query for features of a key and what counts there, and what an answer is like."""

    events: Callable[[], Iterator[Event]]
    features: str
    counted: str
    is_right: Callable[[dict[str, Any]], bool]


KINDS = {
    "plants": Kind(
        answering.plant_events,
        "plants_by_species?species=fern",
        "found",
        lambda answer: (
            set(answer["probabilities"]) == {"rose", "lily", "ivy"}
            and answer["prediction"] == max(sorted(answer["probabilities"]), key=answer["probabilities"].get)
        ),
    ),
    "rides": Kind(
        answering.ride_events,
        f"rides_by_driver?driver={2**53}",
        "rides",
        lambda answer: answer["interval"]["low"] <= answer["prediction"] <= answer["interval"]["high"],
    ),
    "alarms": Kind(
        answering.alarm_events,
        "alarms_by_zone?zone=north%20zone/1",
        "heard",
        lambda answer: answer["prediction"] is (answer["probabilities"]["true"] >= 0.1),
    ),
    "meters": Kind(
        answering.meter_events,
        "meters_by_shift?shift=2024-05-06T08:00:00Z",
        "metered",
        lambda answer: 0 < answer["prediction"] < 1,
    ),
}


class Served(NamedTuple):
    """All kinds on one broker, in one namespace: a worker each, and a gateway for all."""

    systems: dict[str, System]
    gateways: Gateways
    port: int


@pytest.fixture(scope="module")
def served(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home, namespace = tmp_path_factory.mktemp("home"), f"t{uuid.uuid4().hex[:8]}"
    systems = {
        name: System(path, load_case(path), bootstrap, namespace, home)
        for name, path in (
            {name: f"answering:{name}" for name in KINDS} | {"parcels": "parcels:on_two"}
        ).items()
    }
    first = next(iter(systems.values()))
    try:
        for system in systems.values():
            ensure_topics(bootstrap, system.topics.all())
            first.command("worker", system.case_path)
        gateways = Gateways(first, *(system.case_path for system in systems.values()))
        port = gateways.start()
        asyncio.run(gateways.until_ready(port))
        yield Served(systems, gateways, port)
    finally:
        for process in first.workers:
            process.kill()
            process.wait()


async def shown(client: Client, kind: Kind, expected: int) -> None:
    """Return when the features of a key count as much as is expected."""
    async with asyncio.timeout(60):
        while True:
            status, body, _ = await client.get(f"/features/{kind.features}")
            assert status == 200, body
            if json.loads(body)["features"][kind.counted]["value"] == expected:
                return
            await asyncio.sleep(0.05)


async def asked_in_turn(client: Client, system: System, events: Iterator[Event]) -> dict[str, bytes]:
    """Send all events, each request when the one before was answered; returns the answers by event id."""
    answers: dict[str, bytes] = {}
    for event in events:
        if type(event) is system.case.task.ask:
            status, answers[event.id], _ = await client.post("/predictions", encoded(event), Prefer="wait=60")
            assert status == 200, answers[event.id]
        else:
            status, body, _ = await client.post("/events", encoded(event), Prefer="respond-async")
            assert status == 202, body
    return answers


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_case_is_answered_with_what_is_published(served: Served, name: str) -> None:
    kind, system = KINDS[name], served.systems[name]

    async def use(client: Client) -> None:
        answers = await asked_in_turn(client, system, kind.events())
        assert {event_id: [body] for event_id, body in answers.items()} == published(system)
        (*_, last) = answers.values()
        assert kind.is_right(json.loads(last)), last
        refolded = [output.value for _, outputs in system.refolded() for output in outputs.predictions]
        assert sorted(refolded) == sorted(answers.values())

        status, schema, _ = await client.get("/schema")
        assert status == 200, schema
        for body in answers.values():
            jsonschema.validate(json.loads(body), json.loads(schema)[system.topics.predictions])
        for event_id, body in list(answers.items())[:2]:
            assert (await client.get(f"/predictions/{event_id}"))[:2] == (200, body)
        status, traced, _ = await client.get(f"/lineage/{json.loads(last)['id']}")
        assert (status, json.loads(traced)["agrees"]) == (200, True), traced
        status, page, _ = await client.get("/records/predictions?limit=1000")
        assert sorted(json.dumps(item["record"]) for item in json.loads(page)["items"]) == sorted(
            json.dumps(json.loads(body)) for body in answers.values()
        )
        status, models, _ = await client.get("/models")
        assert status == 200, models
        await shown(client, kind, answering.REQUESTS // 2)

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            await use(Client(session, served.port, served.gateways.key, f"/v1/cases/{name}"))

    asyncio.run(run())


def test_a_case_of_several_stages_is_answered_repeated_and_refused_as_any_other(served: Served) -> None:
    system = served.systems["parcels"]

    async def use(client: Client) -> None:
        answers = await asked_in_turn(client, system, parcels.events(60))
        assert {event_id: [body] for event_id, body in answers.items()} == published(system)

        requests = [event for event in parcels.events(60) if isinstance(event, parcels.Sent)]
        first, last = requests[0], requests[-1]
        assert (await client.post("/predictions", encoded(last), Prefer="wait=60"))[:2] == (
            200,
            answers[last.id],
        )
        before = sum(system.ends(system.topics.log).values())
        repeats = (client.post("/predictions", encoded(first), Prefer="wait=60") for _ in range(20))
        assert {answer[:2] for answer in await asyncio.gather(*repeats)} == {(200, answers[first.id])}
        assert (await client.post("/predictions", encoded(first)))[:2] == (200, answers[first.id])
        assert sum(system.ends(system.topics.log).values()) == before + 1, "one copy says the same for all"
        other = encoded(replace(last, weight=99.0))
        status, body, _ = await client.post("/predictions", other, Prefer="wait=60")
        assert (status, json.loads(body)["stage"]) == (422, "id"), body
        late = encoded(replace(first, id="late", at=parcels.START.replace(year=2023)))
        status, body, _ = await client.post("/predictions", late, Prefer="wait=60")
        assert (status, json.loads(body)["stage"]) == (422, "late"), body
        assert (await client.get(f"/predictions/{first.id}"))[:2] == (200, answers[first.id])
        assert published(system).keys() == answers.keys()

        status, page, _ = await client.get("/records/predictions?limit=1000")
        assert len(json.loads(page)["items"]) == len(answers)
        status, body, _ = await client.get(f"/lineage/{json.loads(answers[last.id])['id']}")
        assert (status, json.loads(body)["agrees"]) == (200, True), body
        status, body, _ = await client.get(f"/features/parcels_by_depot?depot={last.depot}")
        assert status == 200, body

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            await use(Client(session, served.port, served.gateways.key, "/v1/cases/parcels"))

    asyncio.run(run())


def test_an_event_of_another_case_is_none_of_this_one(served: Served) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            client = Client(session, served.port, served.gateways.key, "/v1/cases/plants")
            ride = next(answering.ride_events())
            for path in ("/predictions", "/events"):
                status, body, _ = await client.post(path, encoded(ride))
                assert (status, json.loads(body)["stage"]) == (422, "decode"), body

    asyncio.run(run())
