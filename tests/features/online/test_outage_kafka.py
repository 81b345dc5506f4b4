"""A worker whose Redis goes away or is full: it serves on, and no row is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import shop
from redis import Redis

from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import FeatureClient
from driftline.streams.simulation.sources import with_closing_clock
from tests.features.redis_server import RedisServer

EVENTS = list(with_closing_clock(shop.orders, shop.trade(600)))
Eventually = Callable[..., Any]


def rows_of(system: Any) -> dict[Any, Any]:
    """The newest row of each key in a run of the log without any fault."""
    return {key: row for _, out in system.refolded(rows=True) for key, row in out.rows.items()}


def stored(system: Any, url: str, keys: list[str]) -> dict[str, Any]:
    place = RepositoryLocation.of("orders", system.home, system.namespace, url, None)
    with FeatureClient(system.case, place) as client:
        found = client.get_many("orders_by_shop", [{"shop": key} for key in keys])
    return {
        row.key["shop"]: {
            name: value.value for name, value in row.features.items() if value.value is not None
        }
        for row in found
    }


@pytest.mark.parametrize("seconds", [0.0, pytest.param(60.0, marks=pytest.mark.soak)])
@pytest.mark.parametrize("fault", ["gone", "full"])
def test_a_worker_serves_on_without_its_redis_and_no_row_is_lost(
    system_of: Callable[..., Any],
    eventually: Eventually,
    redis_of: Callable[..., RedisServer],
    fault: str,
    seconds: float,
) -> None:
    server = redis_of()
    probe = Redis.from_url(server.url)
    server.wait(probe)
    system = system_of("shop:orders")
    process, said = system.command("worker", "shop:orders", DRIFTLINE_ONLINE_STORE=server.url)
    system.produce(EVENTS[:300])
    eventually(lambda: system.folded(process))
    began = time.monotonic()
    if fault == "gone":
        server.stop()
    else:
        probe.config_set("maxmemory", "1")
    answered = sum(system.ends(system.topics.predictions).values())
    system.produce(EVENTS[300:900])
    eventually(lambda: "the online store fails" in said.read_text())
    # answers go on meanwhile, for as long as it lasts
    eventually(lambda: sum(system.ends(system.topics.predictions).values()) == answered + 300)
    eventually(lambda: time.monotonic() - began >= seconds)
    if fault == "gone":
        server.start()
        server.wait(probe)
    else:
        assert "Redis is full" in said.read_text()
        probe.config_set("maxmemory", "0")
    system.produce(EVENTS[900:])
    eventually(lambda: system.folded(process))
    eventually(lambda: "the online store works again" in said.read_text())
    system.stop(process)  # it ends well only when every row is written
    expected = {key[0]: values for (_, key), (_, values) in rows_of(system).items()}
    assert stored(system, server.url, list(expected)) == expected
    probe.close()


def test_a_key_of_another_type_under_a_rows_name_is_reported_and_nothing_is_lost(
    redis_of: Callable[..., RedisServer], system_of: Callable[..., Any], eventually: Eventually
) -> None:
    server = redis_of()
    probe = Redis.from_url(server.url)
    server.wait(probe)
    system = system_of("shop:orders")
    process, _ = system.command("worker", "shop:orders", DRIFTLINE_ONLINE_STORE=server.url)
    system.produce(EVENTS[:300])
    eventually(lambda: system.folded(process))
    system.stop(process)
    keys = list(probe.scan_iter("*"))
    assert keys
    for key in keys:
        probe.delete(key)
        probe.set(key, b"somebody else's")
    system.produce(EVENTS[300:])
    process, said = system.command("worker", "shop:orders", DRIFTLINE_ONLINE_STORE=server.url)
    assert process.wait(240) == 1
    assert "WRONGTYPE" in said.read_text()
    for key in keys:
        probe.delete(key)
    process, _ = system.command("worker", "shop:orders", DRIFTLINE_ONLINE_STORE=server.url)
    eventually(lambda: system.folded(process))
    system.stop(process)
    expected = {key[0]: values for (_, key), (_, values) in rows_of(system).items()}
    assert stored(system, server.url, list(expected)) == expected
    probe.close()
