"""What a scrape of a gateway says of reads of the online features."""

from __future__ import annotations

import socket

import pytest
from prometheus_client import generate_latest

from driftline.features.online.read_counts import ReadCounts
from driftline.infra.errors import InfraError
from driftline.infra.gateway.metrics import GatewayMetrics
from driftline.infra.processes.metrics_server import serve_metrics

VIEW = "orders_by_shop"


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = other.getsockname()[:2]
        with pytest.raises(InfraError, match=f"--metrics: 127.0.0.1:{address[1]} cannot be listened on"):
            serve_metrics(address, GatewayMetrics({}).registry)


def test_a_scrape_has_the_counts_of_each_case_as_they_are_then() -> None:
    reads = ReadCounts()
    registry = GatewayMetrics({"orders": reads}).registry
    reads.add(VIEW, {"present": 2, "missing": 1})
    with pytest.raises(ConnectionError), reads.exchange(VIEW):
        raise ConnectionError
    text = generate_latest(registry).decode()
    for result, count in (("present", 2), ("missing", 1), ("failed", 1)):
        labels = f'case="orders",result="{result}",view="{VIEW}"'
        assert f"driftline_feature_reads_total{{{labels}}} {count:.1f}\n" in text
    seconds = f'driftline_feature_read_seconds_total{{case="orders",view="{VIEW}"}} '
    assert float(text.partition(seconds)[2].split()[0]) > 0
