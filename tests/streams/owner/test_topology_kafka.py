"""Topics that somebody changes under workers: reported at once, refused with what to do, published again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import shop
from kafka import KafkaAdminClient
from kafka.admin import NewPartitions

SystemOf = Callable[[str], Any]
Eventually = Callable[..., Any]


@pytest.fixture
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    yield admin
    admin.close()


def reasons(system: Any, worker: Any, state: str, partitions: int = 2) -> list[str] | None:
    """Why the partitions are in a state; None unless all of them are."""
    assert worker.poll() is None, "the worker ended"
    status = system.status
    if status is None or status["pid"] != worker.pid or len(status["partitions"]) < partitions:
        return None
    found = status["partitions"].values()
    return [one["reason"] for one in found] if all(one["state"] == state for one in found) else None


def test_partitions_that_are_added_while_a_worker_serves_refuse_them_all(
    system_of: SystemOf, eventually: Eventually, admin: KafkaAdminClient
) -> None:
    system = system_of("shop:orders")
    worker = system.start()
    system.produce(shop.trade(20))
    eventually(lambda: system.folded(worker))
    admin.create_partitions({system.topics.log: NewPartitions(3)})
    refused_because = eventually(lambda: reasons(system, worker, "refused", 3))
    for reason in refused_because:
        assert f"topic {system.topics.log} has 3 partitions, the case declares 2" in reason
        assert "partitions=3" in reason
    assert "is not served: topic" in (system.home / "worker-0.log").read_text()
    eventually(lambda: system.status["topics"])
    assert "has 3 partitions" in system.status["topics"][0]
    system.stop(worker)


@pytest.mark.soak
def test_an_output_that_is_deleted_under_a_worker_is_refused_and_published_again_from_the_log(
    system_of: SystemOf, eventually: Eventually, admin: KafkaAdminClient
) -> None:
    system = system_of("shop:orders")
    worker = system.start()
    system.produce(shop.trade(40))
    eventually(lambda: system.folded(worker))
    system.stop(worker)  # which leaves checkpoints
    worker = system.start()
    eventually(lambda: reasons(system, worker, "serving"))
    before = system.digests()
    admin.delete_topics([system.topics.outcomes])
    refused_because = eventually(lambda: reasons(system, worker, "refused"))
    for reason in refused_because:
        assert f"there is no topic {system.topics.outcomes}" in reason
        assert "remove the case's checkpoints" in reason
    system.stop(worker)

    refused = system.start()  # with its checkpoints, which remember the topic of before
    refused_because = eventually(lambda: reasons(system, refused, "refused"))
    for reason in refused_because:
        assert f"{system.topics.outcomes}-" in reason
        assert "was recreated" in reason
        assert "remove this partition's checkpoints" in reason
    system.stop(refused)

    shutil.rmtree(system.home / "checkpoints")
    again = system.start()
    eventually(lambda: system.folded(again))
    system.stop(again)
    assert system.digests() == before
    published = system.sources(system.topics.outcomes)
    assert len(published) == len(set(published)) == 40
