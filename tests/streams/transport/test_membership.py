"""A worker that waits for partitions which nobody will give it."""

from __future__ import annotations

import asyncio
import itertools

from kafka.errors import NodeNotReadyError

from driftline.streams.transport.membership import LOST_AFTER, Membership


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
