"""On a real Kafka: what a chain has refused is answered over HTTP when it is asked again after an upgrade."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
import parcels
import pytest

from driftline.streams.simulation.sources import with_closing_clock
from tests.infra.gateway.gateways import Client, Gateways, encoded
from tests.streams.owner.upgrade.test_chain_upgrade_kafka import audited
from tests.streams.owner.upgrade.upgrade_on_kafka import UpgradeUnderLoad

HEAVY = 25
"""Every one of so many parcels is too heavy for the old code."""


def events() -> list[Any]:
    sent = 0
    found: list[Any] = []
    for event in with_closing_clock(parcels.on_two, parcels.events(200)):
        if isinstance(event, parcels.Sent):
            sent += 1
            event = event if sent % HEAVY else msgspec.structs.replace(event, weight=200.0)
        found.append(event)
    return found


@pytest.mark.soak
def test_a_request_that_a_chain_has_refused_is_answered_after_an_upgrade(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system, sent = system_of("parcels:fragile"), events()
    upgrade = UpgradeUnderLoad(system, sent, eventually)
    upgrade.serve(len(sent) - 20)
    eventually(lambda: sum(system.ends(system.topics.predictions).values()) > 150)
    upgrade.take_over("parcels:on_two", len(sent) - 5)

    def answers() -> Counter[str]:
        published = system.read(system.topics.predictions)
        return Counter(json.loads(record.value)["event_id"] for record in published)

    requests = [event for event in sent if isinstance(event, parcels.Sent)]
    eventually(lambda: answers()[requests[-1].id] == 1)
    refused = [one for one in requests if one.id not in answers()]
    assert len(refused) >= 200 // HEAVY - 1
    assert all(one.weight > 100 for one in refused)

    async def ask(port: int) -> None:
        await gateways.until_ready(port)
        async with aiohttp.ClientSession() as session:
            client = Client(session, port, gateways.key, "/v1/cases/parcels")
            for one in refused:
                again = encoded(msgspec.structs.replace(one, at=sent[-1].at))
                status, body, _ = await client.post("/predictions", again, Prefer="wait=60")
                assert (status, json.loads(body)["event_id"]) == (200, one.id)

    gateways = Gateways(system, "parcels:on_two")
    asyncio.run(ask(gateways.start()))
    assert answers() == Counter(one.id for one in requests)
    assert "requests of the past that the code which serves did not answer" in upgrade.new_said.read_text()
    system.stop(upgrade.new)
    audited(system, "parcels:on_two")
