"""A changed declaration says what it breaks before anything is upgraded."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import shop
from shop import Settled, orders

from driftline import HOUR, Binary, Event, Label, UseCase, field
from driftline.streams.clients.schema import topic_schemas
from driftline.streams.clients.schema_change import breaks
from tests.commands.forked_command import completed


class Asked(Event, tag="asked"):
    order: str
    shop: str
    amount: float
    level: Literal["low", "high"] = "low"
    count: int | None = None


def found(after: type[Event], before: type[Event] = Asked) -> list[str]:
    old, new = (
        topic_schemas(
            replace(
                orders,
                events=[asked, Settled],
                features={"amount": field("amount")},
                task=Binary(
                    "bad", ask=asked, label=Label(Settled, on="order", value=lambda e: e.bad > 0.5, wait=HOUR)
                ),
            )
        )
        for asked in (before, after)
    )
    topics = orders.topics()
    return list(breaks(old, new, topics.log, topics.predictions))


def test_what_only_allows_more_breaks_nothing() -> None:
    class Wider(Event, tag="asked", retired=("colour",)):
        order: str
        shop: str
        amount: float
        level: Literal["low", "middle", "high"] = "low"
        count: float | str | None = None
        more: str = ""

    assert found(Asked) == found(Wider) == []


def test_each_break_is_named() -> None:
    class Narrower(Event, tag="asked"):
        order: str
        shop: str
        amount: float
        level: Literal["low"]
        size: int

    assert found(Narrower) == [
        "asked.level was 'high' or 'low' and is 'low': old events may be refused",
        'asked.count is gone: declare retired=("count",), or old events are refused',
        "asked.level has no default any more: old events without it are refused",
        "asked.size is new and has no default: old events are refused",
    ]


def test_retired_and_ignored_fields_break_nothing() -> None:
    class Retired(Event, tag="asked", retired=("level", "count")):
        order: str
        shop: str
        amount: float

    class Tolerant(Event, tag="asked", forbid_unknown_fields=False):
        order: str
        shop: str
        amount: float

    assert found(Retired) == found(Tolerant) == []


def test_events_and_features_that_go_are_breaks() -> None:
    less = replace(orders, features={"amount": field("amount")})
    more: UseCase = replace(orders, events=[*orders.events, shop.Dropped])
    topics = orders.topics()
    lines = list(breaks(topic_schemas(more), topic_schemas(less), topics.log, topics.predictions))
    assert lines[0].startswith("event 'dropped' is gone")
    assert [line.split(" ")[1] for line in lines[1:]] == ["bad_1h", "asked_1h"]


@pytest.fixture
def printed(tmp_path: Path) -> Path:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(topic_schemas(orders, "team")))
    return path


def test_the_command_compares_with_a_file_or_a_case(printed: Path) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        environment = os.environ | {"PYTHONPATH": str(Path(shop.__file__).parent)}
        done = completed("schema", *arguments, environment=environment)
        return done.returncode, done.stdout, done.stderr

    assert run("check", "shop:orders", "--against", str(printed))[0] == 0
    code, output, _ = run("check", "fields:deleted", "--against", "shop:orders")
    assert (code, 'declare retired=("note",)' in output) == (1, True)
    printed.write_text("[]")
    code, _, said = run("check", "shop:orders", "--against", str(printed))
    assert (code, "not what `driftline schema CASE` prints" in said) == (2, True)
    assert json.loads(run("shop:orders")[1])
