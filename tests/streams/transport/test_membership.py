"""A worker that waits for partitions which nobody will give it."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import NodeNotReadyError
from shop import orders

from driftline.streams.archive.epochs import Code
from driftline.streams.checkpoints.sealing import KEY_BYTES, Seal
from driftline.streams.code.fingerprint import Fingerprint
from driftline.streams.declare.topics import Topics
from driftline.streams.owner.deployment import Deployment
from driftline.streams.records.outputs import Target
from driftline.streams.transport import worker as transport
from driftline.streams.transport.membership import LOST_AFTER, Membership
from driftline.streams.transport.process_restart import Lost
from driftline.streams.transport.topics_watch import TopicsWatch
from tests.streams.owner.memory import MemoryBroker, MemoryCheckpoints


def looked(*answers: bool | Exception) -> str:
    """What is found wrong when the broker answers so, 15 s passing with each look."""
    remaining = iter(answers)
    clock = itertools.count(step=LOST_AFTER / 2)

    def ask() -> bool:
        answer = next(remaining)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watched = Membership(ask, lambda: next(clock))

    async def look() -> None:
        for _ in answers:
            await watched.look()

    asyncio.run(look())
    return watched.lost


def test_a_worker_that_its_group_does_not_know_for_long_is_lost() -> None:
    assert looked(False, False) == ""
    assert "has not been in its group for 30 s" in looked(False, False, False)


def test_a_member_without_partitions_is_not_lost_nor_one_that_cannot_ask() -> None:
    assert looked(False, False, True, False, False, NodeNotReadyError(), False, False) == ""


class App:
    """One that is stopped after some looks."""

    def __init__(self) -> None:
        self._looks = iter([False] * 3)

    @property
    def should_stop(self) -> bool:
        return next(self._looks, True)


@pytest.mark.parametrize("targets", [[], [Target(0, 0)]])
def test_a_worker_that_is_no_member_restarts_with_partitions_or_without(
    targets: list[Target], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(transport, "MEMBERSHIP_EVERY", 0.0)
    monkeypatch.setattr(transport.os, "kill", lambda *signal: ended.append(signal))
    clock = itertools.count(step=LOST_AFTER / 2)
    code = Code("c", Fingerprint("3.11", "b" * 64, "c" * 64))
    parts = MemoryBroker(), MemoryCheckpoints(), Seal(b"k" * KEY_BYTES), None
    worker = transport.Worker(
        Deployment(orders, code, Topics("orders", 1), *parts),
        "127.0.0.1:1",
        status_path=tmp_path / "status.json",
        topics=TopicsWatch(list),
        membership=Membership(lambda: False, lambda: next(clock)),
    )
    worker._partition_tasks.update(dict.fromkeys(targets))  # type: ignore[arg-type]
    worker.app = App()
    asyncio.run(worker._watch_membership())
    assert isinstance(worker.failure, Lost)
    assert len(ended) == 1
