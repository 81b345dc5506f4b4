"""Which refusals a gateway remembers, and how it knows whose they are; no Kafka is needed for it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
import shop

from driftline.infra.gateway.published import refusals
from driftline.infra.gateway.published.refusals import Refusals, RefusedRecord


def value(event: shop.Asked | shop.Settled) -> bytes:
    return msgspec.json.encode(event)


def test_a_request_is_known_by_its_id_and_nothing_else_is_taken_for_one() -> None:
    known = Refusals(shop.Asked, 2)
    label = value(shop.settled(1, 1.0, id="label"))
    broken = (b"", b"{", b"\xff", b"[" * 50_000, b'{"type":"asked"}', b'{"type":"asked","id":7}')
    for offset, refused in enumerate((value(shop.asked(1, 1.0)), label, *broken)):
        known.add((0, offset), refused, "late", f"reason {offset}")
    assert known.of_request("asked-1") == RefusedRecord("late", "reason 0", "asked-1", False)
    assert known.of_request("label") is None, "a label is no request"

    async def reasons() -> list[str]:
        return [(await known.at((0, offset))).reason for offset in range(2 + len(broken))]

    assert asyncio.run(reasons()) == [f"reason {offset}" for offset in range(2 + len(broken))]


def test_the_newest_refusals_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "REMEMBERED_REFUSALS", 2)
    known = Refusals(shop.Asked, 2)
    again = value(shop.asked(1, 1.0))
    known.add((0, 0), again, "late", "first")
    known.add((0, 1), value(shop.asked(2, 1.0)), "late", "second")
    known.add((0, 2), again, "ahead of all", "third")
    found = known.of_request("asked-1")
    assert found is not None
    assert found.reason == "third", "what is forgotten is the older refusal, not the newer one of the same id"
    known.add((0, 3), value(shop.asked(3, 1.0)), "late", "fourth")
    assert known.of_request("asked-2") is None


def test_who_waits_for_a_record_gets_its_own() -> None:
    async def run() -> None:
        known = Refusals(shop.Asked, 2)
        mine, others = known.at((1, 5)), known.at((0, 5))
        given_up = known.at((1, 6))
        known.give_up((1, 6))
        known.add((1, 5), value(shop.asked(1, 1.0)), "late", "mine")
        known.add((1, 6), value(shop.asked(2, 1.0)), "late", "nobody's")
        assert (await mine).reason == "mine"
        assert not others.done()
        assert not given_up.done()

    asyncio.run(run())


def test_what_a_stage_behind_the_log_refuses_is_known_by_its_request_alone() -> None:
    async def run() -> None:
        known = Refusals(shop.Asked, 2)
        mine, others, of_the_log = known.behind("asked-1"), known.behind("asked-2"), known.at((1, 5))
        known.add((1, 7), value(shop.asked(2, 1.0)), "late", "the log's own stage tells by position")
        known.add((2, 5), value(shop.settled(1, 1.0)), "label", "no request")
        assert not any(each.done() for each in (mine, others, of_the_log))
        known.add((2, 6), value(shop.asked(1, 1.0)), "size", "behind")
        assert (await mine).reason == "behind"
        found = known.of_request("asked-1")
        assert found is not None
        assert found.stage == "size"
        assert not others.done()
        assert not of_the_log.done()

    asyncio.run(run())


def test_a_request_that_a_stage_behind_the_log_has_refused_is_refused_when_it_comes_again() -> None:
    async def run() -> None:
        known = Refusals(shop.Asked, 2)
        known.add((0, 7), value(shop.asked(1, 1.0)), "late", "of the log, which would accept it now")
        known.add((2, 6), value(shop.asked(2, 1.0)), "size", "behind")
        assert not known.behind("asked-1").done()
        assert (await known.behind("asked-2")).reason == "behind"

    asyncio.run(run())


def test_what_the_code_before_had_refused_behind_the_log_may_be_asked_again() -> None:
    async def run() -> None:
        known = Refusals(shop.Asked, 2)
        known.add((2, 6), value(shop.asked(2, 1.0)), "features", "of the code before")
        known.begin_epoch()
        asked = known.behind("asked-2")
        assert not asked.done()
        found = known.of_request("asked-2")
        assert found is not None
        assert found.reason == "of the code before"
        known.add((2, 7), value(shop.asked(2, 1.0)), "size", "of this code")
        assert (await asked).reason == "of this code"

    asyncio.run(run())
