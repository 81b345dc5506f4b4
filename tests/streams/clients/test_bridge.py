"""Bridges as declared, and the enrichment of events from a real online store."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import shop
import till

from driftline import Bridge, Enrichment, Event, ForeignRecord
from driftline.features.errors import FeaturesError
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import FeatureClient
from driftline.features.online.writer import RowStore
from driftline.streams.clients.enrichment import Enricher
from driftline.streams.errors import DeclarationError, Refused

VIEW = "orders_by_shop"
START = shop.START.timestamp()


def record_of(value: Any, offset: int = 0) -> ForeignRecord:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return ForeignRecord("pos", "id-of-pos", 1, offset, 1_700_000_000_123, b"k", content)


def sale(**fields: Any) -> dict[str, Any]:
    return {"what": "sold", "second": 0, "shop": "s", "amount": 2.0} | fields


def test_a_record_becomes_an_event_several_or_none() -> None:
    (sold,) = till.till.events_of(record_of(sale(), 7))
    assert sold == till.Sold(id="id-of-pos:1:7", at=shop.START, shop="s", sale="id-of-pos:1:7", amount=2.0)
    assert [type(event) for event in till.till.events_of(record_of(sale(what="returned")))] == [
        till.Sold,
        till.Returned,
    ]
    assert till.till.events_of(record_of(sale(what="drawer opened"))) == []
    assert record_of(b"").at.isoformat() == "2023-11-14T22:13:20.123000+00:00"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"no json", "JSONDecodeError"),
        (b"{}", "KeyError: 'second'"),
        (sale(second="soon"), "TypeError"),
    ],
)
def test_what_cannot_be_mapped_is_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        till.till.events_of(record_of(value))


def test_a_map_that_would_end_the_process_refuses_the_record() -> None:
    with pytest.raises(Refused, match="SystemExit: 1"):
        replace(till.till, map=lambda _: sys.exit(1)).events_of(record_of(b""))


def test_events_of_other_cases_commands_and_equal_ids_are_refused() -> None:
    def gives(*events: Event) -> Bridge:
        return replace(till.till, map=lambda _: events)

    sold = till.event_of(record_of(sale()))
    with pytest.raises(Refused, match="a Asked is no event of sales"):
        gives(shop.asked(1, 0)).events_of(record_of(b""))
    with pytest.raises(Refused, match="two events of one record have the same id"):
        gives(sold, sold).events_of(record_of(b""))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view": "orders_by_town"}, "orders has no feature view 'orders_by_town'; it has: orders_by_shop"),
        ({"key": {"town": "shop"}}, "keyed by shop, not by town"),
        ({"fields": {"bad_1h": "bad_9h"}}, "has no feature 'bad_9h'"),
        ({"fields": {}}, "fills no field"),
    ],
)
def test_an_enrichment_of_what_is_not_there_is_refused(changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        replace(till.enrichment, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"enrich": [replace(till.enrichment, fields={"worse": "bad_1h"})]},
            "no event of sales has the fields",
        ),
        ({"enrich": [replace(till.enrichment, fields={"amount": "bad_1h"})]}, "declare it as amount"),
        ({"enrich": [replace(till.enrichment, key={"shop": "town"})]}, "Sold lacks 'town'"),
        ({"case": replace(till.sales, lateness=100.0, dedup_horizon=50.0)}, "could count twice"),
        ({"name": "Till 1"}, "a bridge's name"),
    ],
)
def test_a_bridge_that_cannot_work_is_refused(changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        replace(till.till, **changes)


@pytest.fixture
def place(tmp_path: Path) -> RepositoryLocation:
    """A store with the orders of shop s, of half an hour after the start."""
    place = RepositoryLocation(tmp_path / "feast", "orders")
    repo = OnlineStoreRepo(place, shop.orders.views())
    repo.apply()
    RowStore(repo).put({(VIEW, ("s",)): (START + 1800, {"bad_1h": 0.25, "asked_1h": 3})})
    return place


def sold(number: int, minute: float, shop_: str = "s") -> till.Sold:
    at = shop.START + timedelta(minutes=minute)
    return till.Sold(id=f"{number}", at=at, shop=shop_, sale=f"{number}", amount=1.0)


def enriched(
    place: RepositoryLocation, events: list[Event], declared: Enrichment = till.enrichment
) -> list[Event]:
    async def run() -> list[Event]:
        async with FeatureClient(shop.orders, place) as client:
            enricher = Enricher(declared, till.sales.events, client)
            rows = await enricher.read(events)
            return [enricher.enriched(event, rows) for event in events]

    return asyncio.run(run())


def values(events: list[Event]) -> list[Any]:
    return [(event.bad_1h, event.asked_1h) for event in events if isinstance(event, till.Sold)]


def test_fields_are_filled_by_key_and_an_entity_never_seen_is_missing(place: RepositoryLocation) -> None:
    back = till.Returned(id="back", at=shop.START, shop="s", sale="1")
    events = [sold(1, 31), sold(2, 32, "nobody"), back, sold(3, 33)]
    found = enriched(place, events)
    assert values(found) == [(0.25, 3), (None, None), (0.25, 3)]
    assert found[2] is back


def test_rows_of_the_events_future_and_rows_too_old_are_missing(place: RepositoryLocation) -> None:
    events: list[Event] = [sold(1, 28.9), sold(2, 29.1), sold(3, 50), sold(4, 50.1)]
    declared = replace(till.enrichment, max_age=1200.0)
    assert values(enriched(place, events, declared)) == [(None, None), (0.25, 3), (0.25, 3), (None, None)]


def test_a_row_that_cannot_be_read_refuses_its_own_events_only(place: RepositoryLocation) -> None:
    with sqlite3.connect(place.online_file) as store:
        store.execute("UPDATE orders_orders_by_shop SET value = ?", (b"\xff\xff",))

    async def run() -> None:
        async with FeatureClient(shop.orders, place) as client:
            enricher = Enricher(till.enrichment, till.sales.events, client)
            bad, fine = sold(1, 31), sold(2, 31, "nobody")
            rows = await enricher.read([bad, fine])
            assert enricher.enriched(fine, rows) == fine
            with pytest.raises(Refused, match=r"the row of \{'shop': 's'\}"):
                enricher.enriched(bad, rows)

    asyncio.run(run())


@contextmanager
def away(place: RepositoryLocation) -> Iterator[None]:
    """While the store's file is somewhere else, as on a disk that is not mounted."""
    elsewhere = place.online_file.with_name("elsewhere.db")
    place.online_file.rename(elsewhere)
    yield
    elsewhere.rename(place.online_file)


def test_a_store_out_of_reach_is_waited_for(
    place: RepositoryLocation, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with FeatureClient(shop.orders, place) as client, asyncio.timeout(60):
            enricher = Enricher(till.enrichment, till.sales.events, client)
            with away(place):
                reading = asyncio.create_task(enricher.read([sold(1, 31)]))
                while "the online store of orders fails" not in caplog.text:
                    await asyncio.sleep(0.01)
                assert not reading.done()
            assert values([enricher.enriched(sold(1, 31), await reading)]) == [(0.25, 3)]

    asyncio.run(run())
    assert "the online store of orders works again" in caplog.text


def test_with_little_patience_the_fields_are_missing_until_the_store_works_again(
    place: RepositoryLocation,
) -> None:
    async def run() -> None:
        async with FeatureClient(shop.orders, place) as client:
            enricher = Enricher(replace(till.enrichment, patience=0.0), till.sales.events, client)
            event = sold(1, 31)
            with away(place):
                assert enricher.enriched(event, await enricher.read([event])) == event
                assert (enricher.filled, enricher.missing) == (0, 2)
            assert values([enricher.enriched(event, await enricher.read([event]))]) == [(0.25, 3)]

    asyncio.run(run())


def test_a_store_that_cannot_work_as_it_is_ends_the_bridge(place: RepositoryLocation) -> None:
    with sqlite3.connect(place.online_file) as store:
        store.execute("DROP TABLE orders_orders_by_shop")
    with pytest.raises(FeaturesError, match="no such table"):
        enriched(place, [sold(1, 31)])
