"""What a scrape of a gateway says of reads of the online features."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import shop
from prometheus_client import generate_latest

from driftline.features.errors import StoreUnreadable
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import FeatureClient
from driftline.features.online.writer import RowStore
from driftline.infra.errors import InfraError
from driftline.infra.gateway.metrics import GatewayMetrics
from driftline.infra.processes.metrics_server import serve_metrics

VIEW = "orders_by_shop"


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = other.getsockname()[:2]
        with pytest.raises(InfraError, match=f"--metrics: 127.0.0.1:{address[1]} cannot be listened on"):
            serve_metrics(address, GatewayMetrics({}).registry)


def test_reads_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    place = RepositoryLocation.of("orders", tmp_path, "", "sqlite", None)
    repo = OnlineStoreRepo(place, shop.orders.views())
    client = FeatureClient(shop.orders, place)
    with pytest.raises(StoreUnreadable):
        client.get(VIEW, {"shop": "s"})
    repo.apply()
    RowStore(repo).put({(VIEW, ("s",)): (shop.START.timestamp(), {"asked_1h": 2})})
    client.get_many(VIEW, [{"shop": "s"}, {"shop": "nobody"}, {"shop": "nowhere"}], at=shop.START)
    client.get(VIEW, {"shop": "s"}, at=shop.START.replace(year=shop.START.year + 1))

    text = generate_latest(GatewayMetrics({"orders": client.reads}).registry).decode()
    of_view = f'case="orders",result="{{}}",view="{VIEW}"'
    for result, count in (("present", 1), ("missing", 2), ("expired", 1), ("failed", 1)):
        assert f"driftline_feature_reads_total{{{of_view.format(result)}}} {count:.1f}\n" in text
    seconds = f'driftline_feature_read_seconds_total{{case="orders",view="{VIEW}"}} '
    assert float(text.partition(seconds)[2].split()[0]) > 0
