"""A line of requests: whose turn does not come is told so, and whose turn it is loses nothing by the line."""

from __future__ import annotations

import asyncio

import pytest

from driftline.infra.gateway.problems import Problem, being_traced
from driftline.infra.gateway.published.turns import Turns


def test_who_waits_in_vain_is_told_to_come_again_and_the_turn_goes_on() -> None:
    async def run() -> None:
        turns = Turns()
        within = 0

        async def wait_in_line() -> None:
            async with turns.taken(else_=being_traced()):
                pytest.fail("it was another one's turn")

        async with turns.taken(else_=being_traced()):
            waiting = [asyncio.create_task(wait_in_line()) for _ in range(200)]
            told = await asyncio.gather(*waiting, return_exceptions=True)
            within += 1
        assert within == 1
        assert {(type(each), each.status, each.headers["Retry-After"]) for each in told} == {
            (Problem, 429, "1")
        }
        async with turns.taken(else_=being_traced()):
            within += 1
        assert within == 2

    asyncio.run(run())


def test_a_turn_that_fails_is_over() -> None:
    async def run() -> None:
        turns = Turns()
        with pytest.raises(ZeroDivisionError):
            async with turns.taken(else_=being_traced()):
                raise ZeroDivisionError
        async with turns.taken(else_=being_traced()):
            pass

    asyncio.run(run())
