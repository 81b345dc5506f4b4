"""Online rows in a real Feast repository with its SQLite store."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shops import BY_SHOP, price, repo_at

from driftline.features.errors import FeaturesError
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.online.writer import OnlineWriter, RowStore

DEADLINE = 60.0


@pytest.fixture
def repo(tmp_path: Path) -> OnlineStoreRepo:
    repo = repo_at(tmp_path / "feast")
    repo.apply()
    return repo


def write(repo: OnlineStoreRepo, *batches: dict[Any, Any]) -> int:
    async def run() -> int:
        writer = OnlineWriter(repo)
        for rows in batches:
            await writer.offer(rows)
        await writer.close()
        return writer.rows_written

    return asyncio.run(run())


def connect(repo: OnlineStoreRepo) -> sqlite3.Connection:
    return sqlite3.connect(repo.place.online_file)


async def until(condition: Callable[[], bool]) -> None:
    """Return when a condition holds; fails after the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


def test_cells_that_others_deleted_or_dropped_are_written_again(repo: OnlineStoreRepo) -> None:
    here = RowStore(repo)
    for at in (1, 2):  # the second one by the cells' numbers
        here.put({(BY_SHOP, (shop,)): (1e9 + at, {"price_1h": 1.0}) for shop in "abc"})
    other = connect(repo)
    with other:
        other.execute("DELETE FROM shops_shops_by_shop WHERE cell IN (1, 3, 4)")
    here.put({(BY_SHOP, (shop,)): (1e9 + 3, {"price_1h": 3.0}) for shop in "ab"})
    assert [price(repo, shop) for shop in "abc"] == [3.0, 3.0, 1.0]
    other.execute("DROP TABLE shops_shops_by_shop")
    repo_at(repo.place.path).apply()
    here.put({(BY_SHOP, (shop,)): (1e9, {"price_1h": 4.0}) for shop in "cb"})
    here.put({(BY_SHOP, ("a",)): (1e9, {"price_1h": 5.0})})
    assert [price(repo, shop) for shop in "abc"] == [5.0, 4.0, 4.0]


def test_a_table_that_plain_feast_made_keeps_its_values_and_takes_newer_ones(tmp_path: Path) -> None:
    import pandas as pd
    from feast import FeatureStore

    repo = repo_at(tmp_path / "feast")
    repo.apply()
    (repo.place.online_file).unlink()
    plain = FeatureStore(repo_path=str(repo.place.path))
    plain.apply(plain.list_entities() + plain.list_feature_views())
    at = pd.Timestamp("2013-01-01T10:00:00Z")
    frame = pd.DataFrame([{"shop": "a", "price_1h": 2.5, "sold_1h": 3, "event_timestamp": at}])
    plain.write_to_online_store(BY_SHOP, frame)

    again = repo_at(repo.place.path)
    again.apply()
    assert price(again, "a") == 2.5
    RowStore(again).put({(BY_SHOP, ("a",)): (at.timestamp() - 1, {"price_1h": 1.0})})
    assert price(again, "a") == 2.5
    RowStore(again).put({(BY_SHOP, ("a",)): (at.timestamp() + 1, {"price_1h": 4.0})})
    assert price(again, "a") == 4.0


def test_a_ticket_is_good_once_another_connection_reads_the_rows(
    repo: OnlineStoreRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driftline.features.online.writer.SHORTEST_WRITE_PAUSE", 1000.0)
    monkeypatch.setattr(
        "driftline.features.online.writer.LONGEST_WRITE_PAUSE", 1000.0
    )  # only somebody waiting ends a pause
    other = connect(repo)

    async def run() -> None:
        writer = OnlineWriter(repo)
        for number in range(5):
            stamp = 1e9 + number
            await writer.offer({(BY_SHOP, ("a",)): (stamp, {"price_1h": float(number)})})
            await asyncio.wait_for(writer.written(writer.offered()), DEADLINE)
            stored = other.execute("SELECT max(stamp_us) FROM shops_shops_by_shop").fetchone()
            assert stored == (stamp * 1e6,)
        assert writer.offered() == 5
        await writer.offer({})
        await asyncio.wait_for(writer.written(6), DEADLINE)
        with pytest.raises(FeaturesError, match="beyond the 6 offers"):
            await writer.written(7)
        await writer.close()
        await writer.written(6)

    asyncio.run(run())


def test_a_write_that_fails_for_good_is_an_error_of_tickets_offers_and_close(repo: OnlineStoreRepo) -> None:
    connect(repo).execute("ALTER TABLE shops_shops_by_shop RENAME COLUMN value TO away")

    async def run() -> None:
        writer = OnlineWriter(repo)
        await writer.offer({(BY_SHOP, ("a",)): (1e9, {"price_1h": 2.5})})
        for call in (writer.written(1), writer.written(1), writer.offer({}), writer.close()):
            with pytest.raises(FeaturesError, match=r"no such column|has no column"):
                await asyncio.wait_for(call, DEADLINE)

    asyncio.run(run())


def test_a_locked_store_is_waited_for_with_bounded_memory_and_nothing_is_lost(
    repo: OnlineStoreRepo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("driftline.features.online.writer.MOST_WAITING", 10)
    monkeypatch.setattr("driftline.features.online.stores.sqlite_rows.BUSY_TIMEOUT", 0.0)
    other = connect(repo)

    async def run() -> None:
        writer = OnlineWriter(repo_at(repo.place.path))
        other.execute("BEGIN IMMEDIATE")
        await writer.offer({(BY_SHOP, ("a",)): (1e9, {"price_1h": 1.0})})
        await until(lambda: "locked" in caplog.text)
        await writer.offer({(BY_SHOP, ("a",)): (1e9 + 1, {"price_1h": 2.0})})
        many = {(BY_SHOP, (f"{n}",)): (1e9, {"price_1h": 3.0}) for n in range(50)}
        offer = asyncio.create_task(writer.offer(many))
        ticket = asyncio.create_task(writer.written(writer.offered()))
        done, _ = await asyncio.wait({offer, ticket}, timeout=0.3)
        assert not done
        other.rollback()
        await asyncio.wait_for(asyncio.gather(offer, ticket), DEADLINE)
        await writer.close()

    asyncio.run(run())
    assert price(repo, "a") == 2.0
    assert [price(repo, f"{n}") for n in (0, 49)] == [3.0, 3.0]
    assert [record.message.split(":")[0].split(" after")[0] for record in caplog.records] == [
        "the online store fails, trying again",
        "the online store works again",
    ]


def test_a_full_disk_is_waited_for(repo: OnlineStoreRepo, caplog: pytest.LogCaptureFixture) -> None:
    # SQLite's own limit on the file gives the very error of a full disk, and goes with the connection
    store = repo.store
    connection = store._get_provider().online_store._get_conn(store.config)
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    rows = {(BY_SHOP, (f"{n}",)): (1e9, {"price_1h": 3.0}) for n in range(500)}
    assert write(repo, rows) == 500
    assert "disk is full" in caplog.text
    assert price(repo, "499") == 3.0


def test_close_ends_at_its_deadline_and_tells_what_was_not_written(
    repo: OnlineStoreRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driftline.features.online.stores.sqlite_rows.BUSY_TIMEOUT", 0.0)
    other = connect(repo)

    async def run() -> None:
        writer = OnlineWriter(repo_at(repo.place.path))
        other.execute("BEGIN IMMEDIATE")
        for at in (1e9, 2e9):
            await writer.offer({(BY_SHOP, (shop,)): (at, {"price_1h": 1.0}) for shop in "abc"})
        ticket = asyncio.create_task(writer.written(1))
        with pytest.raises(FeaturesError, match=r"^3 rows of online features were not written within 0\.1 s"):
            await writer.close(0.1)
        with pytest.raises(FeaturesError, match="3 rows"):
            await asyncio.wait_for(ticket, DEADLINE)
        other.rollback()
        await until(lambda: not any(t.name == "online-writer" for t in threading.enumerate()))

    asyncio.run(run())


def test_an_offer_waits_while_too_many_rows_wait(
    repo: OnlineStoreRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driftline.features.online.writer.MOST_WAITING", 10)
    now = time.time()
    batches = [
        {(BY_SHOP, (f"{batch}-{n}",)): (now, {"price_1h": 2.5}) for n in range(50)} for batch in range(4)
    ]
    assert write(repo, *batches) == 200
    assert price(repo, "3-49") == 2.5


def test_nothing_is_taken_after_close_or_for_an_unknown_view(repo: OnlineStoreRepo) -> None:
    async def run() -> None:
        writer = OnlineWriter(repo)
        with pytest.raises(FeaturesError, match="nothing"):
            await writer.offer({("nothing", ("a",)): (0.0, {})})
        await writer.close()
        with pytest.raises(FeaturesError, match="closed"):
            await writer.offer({(BY_SHOP, ("a",)): (0.0, {})})

    asyncio.run(run())
