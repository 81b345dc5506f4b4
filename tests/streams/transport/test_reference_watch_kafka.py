"""A reference that only one partition has is reported, by status and the worker, until all have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import shop
from catalogue import product
from kafka import KafkaProducer

from driftline.infra.cli.status import status_text
from driftline.infra.local.running_workers import collect
from driftline.infra.settings import Settings

Eventually = Callable[..., Any]


@pytest.mark.soak
def test_a_reference_that_is_in_one_partition_only_is_reported_until_it_is_in_all(
    system_of: Callable[[str], Any], eventually: Eventually
) -> None:
    system = system_of("catalogue:catalogue")
    worker = system.start()
    system.produce([product(1), *shop.trade(10)])
    eventually(lambda: system.folded(worker))
    settings = Settings(home=system.home, bootstrap=system.bootstrap, namespace=system.namespace)

    def reported() -> list[str]:
        """Of a worker that has come to the end of the log."""
        (found,) = collect(settings)["workers"]
        return list(found["references"])

    assert reported() == []
    foreign = KafkaProducer(bootstrap_servers=system.bootstrap, acks="all")
    stray = system.case.codec().encode(product(17))
    foreign.send(system.topics.log, stray, partition=0).get(30)
    (found,) = eventually(reported)
    assert "references of type product (by product)" in found
    assert "2 in partition 0 (the newest: 'p17'); 1 in partition 1 (the newest: 'p1')" in found
    assert found in status_text(collect(settings))
    said = system.home / "worker-0.log"
    eventually(lambda: found in said.read_text())

    foreign.send(system.topics.log, stray, partition=1).get(30)
    foreign.close()
    eventually(lambda: reported() == [])
    assert said.read_text().count(found) == 1
    system.stop(worker)
