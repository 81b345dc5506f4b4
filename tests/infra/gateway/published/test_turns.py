"""A queue of requests: one that waits too long is refused with Retry-After, and the others lose nothing."""

from __future__ import annotations

import asyncio

import pytest

from driftline.infra.gateway.problems import Problem, being_traced
from driftline.infra.gateway.published.turns import Turns


def test_a_request_that_waits_too_long_gets_retry_after_and_the_next_one_gets_its_turn() -> None:
    async def run() -> None:
        turns = Turns()
        within = 0

        async def wait_in_line() -> None:
            async with turns.taken(else_=being_traced()):
                pytest.fail("it was another one's turn")

        async with turns.taken(else_=being_traced()):
            waiting = [asyncio.create_task(wait_in_line()) for _ in range(200)]
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            within += 1
        assert within == 1
        assert {(type(each), each.status, each.headers["Retry-After"]) for each in answers} == {
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
