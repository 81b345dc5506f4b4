"""What dashboard and rules name is in scrapes of real services: of one fold, and of a chain of several tasks
with replicas."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import msgspec
import parcels
import pytest
import shop

from driftline.infra.gateway.metrics import GATEWAY_MEASURES
from driftline.infra.local.kafka import free_port
from driftline.infra.observe.alerts import ALERTS
from driftline.infra.observe.dashboard import dashboard
from driftline.streams.connection import clients
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.declare.usecase import load_case
from driftline.streams.status.metric_definitions import MEASURES
from tests.infra.gateway.gateways import Client, Gateways
from tests.streams.status.scraping import got
from tests.streams.status.test_metrics_kafka import scraped

CHAIN = ("parcels:twofold@breaks", "parcels:twofold@lost")
QUERIES = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
QUERIES += [alert.expr for alert in ALERTS]
OF_A_GATEWAY = {measure.series for measure in GATEWAY_MEASURES.values()}
NOT_IN_THE_CHAIN = {MEASURES["model_changes"].series}
"""Nothing changes what serves there."""

Labels = frozenset[tuple[str, str]]


class Scraped:
    """All that was in any scrape of some services: the labels of the samples of each series."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self.samples: dict[str, set[Labels]] = defaultdict(set)

    def look(self) -> Mapping[str, set[Labels]]:
        """Scrape them once more."""
        for port in self._ports:
            for series, values in scraped(port).items():
                self.samples[series].update(values)
        return self.samples


def named(query: str) -> set[str]:
    return set(re.findall(r"driftline_\w+", query))


def chosen() -> list[tuple[str, Labels]]:
    """The series of queries with the values of labels that they choose."""
    found = []
    for series, labels in re.findall(r"(driftline_\w+)\{([^}]*)\}", "".join(QUERIES)):
        values = frozenset(re.findall(r'(\w+)="([^"$]+)"', labels))
        found.append((series, values))
    return found


def unseen(samples: Mapping[str, set[Labels]]) -> list[str]:
    """What queries name and no scrape had."""
    missing = sorted(named("".join(QUERIES)) - samples.keys())
    for series, values in chosen():
        if not any(values <= labels for labels in samples.get(series, ())):
            missing.append(f"{series}{dict(values)}")
    return missing


class Observed:
    """Services of a system with metrics, each at a port of its own."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self.ports: list[int] = []

    def _metrics(self) -> str:
        self.ports.append(free_port())
        return f"127.0.0.1:{self.ports[-1]}"

    def worker(self, case: str) -> None:
        """One worker of a case."""
        self.system.command("worker", case, DRIFTLINE_METRICS=self._metrics())

    def auditor(self, case: str) -> None:
        """An auditor that goes on."""
        self.system.command("audit", case, "--follow", "--metrics", self._metrics())

    def read_features(self, gateways: Gateways, path: str, **settings: str) -> int:
        """The status of a read of features through a new gateway with these settings."""
        port = free_port()
        arguments = ("gateway", "serve", self.system.case_path, "--port", str(port))
        self.system.command(*arguments, "--metrics", self._metrics(), **settings)

        async def read() -> int:
            await gateways.until_ready(port)
            async with aiohttp.ClientSession() as session:
                client = Client(session, port, gateways.key, f"/v1/cases/{self.system.case.name}")
                return (await client.get(path))[0]

        return asyncio.run(read())


def send_elsewhere(system: Any, event: shop.Asked) -> None:
    """Append an event to a partition that is not that of its key."""
    codec = system.case.codec()
    key = codec.key(event)
    other = 1 - partition_of(key, 2)
    producer = clients.producer(system.bootstrap)
    producer.send(system.topics.log, codec.encode(event), key, partition=other).get(30)
    producer.close()


@pytest.mark.soak  # a checkpoint is taken after a minute
def test_all_that_is_named_is_in_scrapes_of_what_happens(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    one = Observed(system_of("shop:operated"))
    chain = Observed(system_of(CHAIN[0]))
    one.worker("shop:operated")
    one.auditor("shop:operated")
    for case in CHAIN:
        chain.worker(case)
    chain.auditor(CHAIN[0])
    seen, seen_of_chain = Scraped(one.ports), Scraped(chain.ports)
    for port in (one.ports[0], *chain.ports[:2]):  # what is published in a take-over is not counted
        eventually(lambda port=port: got(port, "/readyz")[0] == 200)

    events = list(shop.dearer())  # the models are frozen, and the amounts drift
    one.system.produce([*events, shop.asked(len(events), 0.0)])  # the last one is late
    send_elsewhere(one.system, shop.asked(len(events) + 1, len(events)))
    sent = list(parcels.heavier(4_000))
    chain.system.produce([*sent, msgspec.structs.replace(sent[0], id="late")])
    away = f"redis://127.0.0.1:{free_port()}"
    gateways, path = Gateways(one.system, one.system.case_path), "/features/orders_by_shop?shop=s"
    assert one.read_features(gateways, path) == 200
    assert one.read_features(gateways, path, DRIFTLINE_ONLINE_STORE=away) == 503

    def all_unseen() -> list[str]:
        for series, labels in seen_of_chain.look().items():
            seen.samples[series].update(labels)
        return unseen(seen.look())

    eventually(lambda: not all_unseen())
    of_chain = named("".join(QUERIES)) - OF_A_GATEWAY - NOT_IN_THE_CHAIN
    eventually(lambda: of_chain <= seen_of_chain.look().keys())
    answered = ("replica_staleness_labels", "model_quality", "pending_predictions")
    for case in (load_case(name).name for name in CHAIN):
        for series in (MEASURES[name].series for name in answered):
            assert any(("case", case) in labels for labels in seen_of_chain.samples[series]), (case, series)
