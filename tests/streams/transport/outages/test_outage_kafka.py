"""A worker on a real Kafka that it loses for a while."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from shop import asked

from driftline.infra.topics.administration import ensure_topics
from driftline.streams.declare.usecase import load_case
from tests.commands.forked_command import Command
from tests.conftest import System
from tests.faults.lab.proxy import ProxiedStack, Proxy

MOST_LINES = 60
"""What an outage may add to the log; libraries say the same some hundred times a second."""


@pytest.fixture
def behind_proxy(tmp_path: Path) -> Iterator[tuple[System, Proxy]]:
    """A live case on a broker, and the network through which workers may reach it."""
    stack = ProxiedStack(tmp_path / "stack")
    home = tmp_path / "system"
    home.mkdir()
    system = None
    try:
        case = load_case("shop:live")
        namespace = f"t{uuid.uuid4().hex[:8]}"
        system = System("shop:live", case, stack.up().bootstrap, namespace, home)
        ensure_topics(system.bootstrap, system.topics.all())
        yield system, stack.network
    finally:
        for worker in system.workers if system is not None else ():
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        stack.down(wipe=True)


def ask(system: System, number: int) -> None:
    """Send a request of now."""
    system.produce([asked(number, 0, at=datetime.now(UTC))])


def is_answered(system: System, number: int, worker: Command, said: Path) -> bool:
    """Whether a request is answered, by a worker that has not ended."""
    assert worker.poll() is None, said.read_text()
    return any(f'"asked-{number}"' in r.value.decode() for r in system.read(system.topics.predictions))


def test_a_live_case_goes_on_when_its_broker_is_back_and_has_said_so_once(
    behind_proxy: tuple[System, Proxy], eventually: Callable[..., Any]
) -> None:
    system, network = behind_proxy
    worker, said = system.command("worker", "shop:live", DRIFTLINE_BOOTSTRAP=network.address)
    ask(system, 0)
    eventually(lambda: is_answered(system, 0, worker, said))
    # the worker tells the time when it knows that the answer has arrived: the network might hold that back
    eventually(lambda: sum(system.ends(system.topics.log).values()) > 1)
    before = len(said.read_text().splitlines())
    network.reset()
    # the request waits for its label: the worker wants to tell the time, and cannot
    eventually(lambda: "sending the time to idle partitions fails" in said.read_text())
    ask(system, 1)
    network.restore()
    eventually(lambda: is_answered(system, 1, worker, said))
    eventually(lambda: "sending the time to idle partitions works again" in said.read_text())
    assert len(said.read_text().splitlines()) - before < MOST_LINES, said.read_text()
    assert system.status is not None
    assert system.status["pid"] == worker.pid
    system.stop(worker)
    assert system.status["ended"]["reason"] == "it was asked to end"


@pytest.mark.soak
def test_connections_that_the_network_has_forgotten_are_replaced(
    behind_proxy: tuple[System, Proxy], eventually: Callable[..., Any]
) -> None:
    system, network = behind_proxy
    worker, said = system.command("worker", "shop:live", DRIFTLINE_BOOTSTRAP=network.address)
    for number in range(2):
        ask(system, number)
        eventually(lambda number=number: is_answered(system, number, worker, said))
        network.half_open()
    system.stop(worker)
