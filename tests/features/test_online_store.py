"""Online rows in a real Feast repository with its SQLite store."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.declaration import HOUR, count, mean, views
from features.errors import FeaturesError
from features.online import OnlineWriter, RowStore, read
from features.registry import OnlineStoreRepo


class Sold:
    __struct_fields__ = ("shop", "product", "price")


DECLARED = views(
    "shops",
    {
        "price_1h": mean(Sold, "price", by="shop", over=HOUR, unit="EUR"),
        "sold_1h": count(Sold, by="shop", over=HOUR),
        "product_price_1h": mean(Sold, "price", by=("shop", "product"), over=HOUR),
    },
)

PLAIN_FEAST = """
import json, sys
from feast import FeatureStore
store = FeatureStore(repo_path=sys.argv[1])
answer = store.get_online_features(
    features=["shops_by_shop:price_1h", "shops_by_shop:sold_1h"], entity_rows=[{"shop": "a"}])
service = store.get_online_features(
    features=store.get_feature_service("shops"), entity_rows=[{"shop": "a", "product": "p"}]).to_dict()
assert service["price_1h"] == answer.to_dict()["price_1h"], service
assert not [m for m in sys.modules if m.split(".")[0] in ("driftline", "features", "streams")]
print(json.dumps(answer.to_dict()))
"""


DEADLINE = 60.0


@pytest.fixture
def repo(tmp_path: Path) -> OnlineStoreRepo:
    repo = OnlineStoreRepo(tmp_path / "feast", "shops", DECLARED)
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
    return sqlite3.connect(repo.path / "data" / "online.db")


def price(repo: OnlineStoreRepo, shop: str) -> Any:
    return read(repo, "shops_by_shop", {"shop": shop})["features"]["price_1h"]["value"]


def write_shuffled(path: Path, seed: int) -> None:
    """Write numbers 0..99 to 10 keys, in an order of its own."""
    store = RowStore(OnlineStoreRepo(path, "shops", DECLARED))
    numbers = list(range(100))
    random.Random(seed).shuffle(numbers)
    for n in numbers:
        values = {"price_1h": n, "sold_1h": n}
        store.put({("shops_by_shop", (str(shop),)): (1e9 + n, values) for shop in range(10)})


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it; fails after the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


def test_what_is_written_is_read_by_plain_feast_without_our_code(repo: OnlineStoreRepo) -> None:
    now = time.time()
    write(repo, {("shops_by_shop", ("a",)): (now, {"price_1h": 2.5, "sold_1h": 3})})
    ours = read(repo, "shops_by_shop", {"shop": "a"})
    assert {name: entry["value"] for name, entry in ours["features"].items()} == {
        "price_1h": 2.5,
        "sold_1h": 3,
    }
    theirs = subprocess.run(
        [sys.executable, "-c", PLAIN_FEAST, str(repo.path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=repo.path,
    )
    assert json.loads(theirs.stdout) == {"shop": ["a"], "price_1h": [2.5], "sold_1h": [3]}


def test_composite_keys_have_a_view_of_their_own(repo: OnlineStoreRepo) -> None:
    write(repo, {("shops_by_shop_product", ("a", "p")): (time.time(), {"product_price_1h": 1.0})})
    found = read(repo, "shops_by_shop_product", {"shop": "a", "product": "p"})
    assert found["features"]["product_price_1h"]["value"] == 1.0


def test_a_missing_key_or_value_is_absent(repo: OnlineStoreRepo) -> None:
    found = read(repo, "shops_by_shop", {"shop": "nobody"})
    assert {entry["value"] for entry in found["features"].values()} == {None}


def test_values_of_years_ago_are_read_with_their_time_to_the_microsecond(repo: OnlineStoreRepo) -> None:
    write(repo, {("shops_by_shop", ("a",)): (1_357_034_400.000_001, {"price_1h": 2.5, "sold_1h": 3})})
    found = read(repo, "shops_by_shop", {"shop": "a"})
    assert found["event_timestamp"] == "2013-01-01T10:00:00.000001+00:00"
    assert found["features"]["price_1h"]["value"] == 2.5


def test_a_feature_that_became_missing_does_not_keep_its_earlier_value(repo: OnlineStoreRepo) -> None:
    now = time.time()
    write(repo, {("shops_by_shop", ("a",)): (now, {"price_1h": 2.5, "sold_1h": 3})})
    write(repo, {("shops_by_shop", ("a",)): (now + 1, {"sold_1h": 0})})
    features = read(repo, "shops_by_shop", {"shop": "a"})["features"]
    assert features["price_1h"]["value"] is None
    assert features["sold_1h"]["value"] == 0


def test_real_features_stay_real_when_their_value_is_whole(repo: OnlineStoreRepo) -> None:
    write(repo, {("shops_by_shop", ("a",)): (time.time(), {"price_1h": 2})})
    assert type(read(repo, "shops_by_shop", {"shop": "a"})["features"]["price_1h"]["value"]) is float


@pytest.mark.parametrize("step", [1.0, 2e-6])
def test_the_newest_row_wins_in_any_order_and_over_restarts(repo: OnlineStoreRepo, step: float) -> None:
    numbers = list(range(20))
    random.Random(5).shuffle(numbers)
    for n in numbers:
        write(repo, {("shops_by_shop", ("a",)): (1_700_000_000 + n * step, {"price_1h": float(n)})})
    assert read(repo, "shops_by_shop", {"shop": "a"})["features"]["price_1h"]["value"] == 19.0


def test_the_newest_row_wins_between_two_writers_that_are_both_open(repo: OnlineStoreRepo) -> None:
    other = OnlineStoreRepo(repo.path, "shops", DECLARED)
    here, there = RowStore(repo), RowStore(other)
    key = ("shops_by_shop", ("a",))
    for store, stamp in [(here, 1e9), (there, 1e9 + 2), (here, 1e9 + 1)]:
        store.put({key: (stamp, {"price_1h": stamp - 1e9})})
    assert read(repo, "shops_by_shop", {"shop": "a"})["features"]["price_1h"]["value"] == 2.0


def test_older_rows_among_newer_ones_are_left_out_alone(repo: OnlineStoreRepo) -> None:
    here = RowStore(repo)
    here.put({("shops_by_shop", (shop,)): (1e9 + 5, {"price_1h": 5.0}) for shop in "abc"})
    stamps = {"a": 1e9 + 6, "b": 1e9 + 4, "c": 1e9 + 6, "d": 1e9 + 1}
    here.put({("shops_by_shop", (shop,)): (at, {"price_1h": at - 1e9}) for shop, at in stamps.items()})
    assert [price(repo, shop) for shop in "abcd"] == [6.0, 5.0, 6.0, 1.0]


def test_cells_that_others_deleted_or_dropped_are_written_again(repo: OnlineStoreRepo) -> None:
    here = RowStore(repo)
    for at in (1, 2):  # the second one by the cells' numbers
        here.put({("shops_by_shop", (shop,)): (1e9 + at, {"price_1h": 1.0}) for shop in "abc"})
    other = connect(repo)
    with other:
        other.execute("DELETE FROM shops_shops_by_shop WHERE cell IN (1, 3, 4)")
    here.put({("shops_by_shop", (shop,)): (1e9 + 3, {"price_1h": 3.0}) for shop in "ab"})
    assert [price(repo, shop) for shop in "abc"] == [3.0, 3.0, 1.0]
    other.execute("DROP TABLE shops_shops_by_shop")
    OnlineStoreRepo(repo.path, "shops", DECLARED).apply()
    here.put({("shops_by_shop", (shop,)): (1e9, {"price_1h": 4.0}) for shop in "cb"})
    here.put({("shops_by_shop", ("a",)): (1e9, {"price_1h": 5.0})})
    assert [price(repo, shop) for shop in "abc"] == [5.0, 4.0, 4.0]


def test_a_row_stays_whole_whichever_of_several_processes_writes_it_last(repo: OnlineStoreRepo) -> None:
    fork = multiprocessing.get_context("fork")  # importing Feast anew takes seconds
    writers = [fork.Process(target=write_shuffled, args=(repo.path, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(DEADLINE)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    cells = connect(repo).execute("SELECT stamp_us FROM shops_shops_by_shop").fetchall()
    assert cells == [((10**9 + 99) * 10**6,)] * 2 * 10
    for shop in range(10):
        features = read(repo, "shops_by_shop", {"shop": str(shop)})["features"]
        assert [features[name]["value"] for name in ("price_1h", "sold_1h")] == [99.0, 99]


def test_a_table_that_plain_feast_made_keeps_its_values_and_takes_newer_ones(tmp_path: Path) -> None:
    import pandas as pd
    from feast import FeatureStore

    repo = OnlineStoreRepo(tmp_path / "feast", "shops", DECLARED)
    repo.apply()
    (repo.path / "data" / "online.db").unlink()
    plain = FeatureStore(repo_path=str(repo.path))
    plain.apply(plain.list_entities() + plain.list_feature_views())
    at = pd.Timestamp("2013-01-01T10:00:00Z")
    frame = pd.DataFrame([{"shop": "a", "price_1h": 2.5, "sold_1h": 3, "event_timestamp": at}])
    plain.write_to_online_store("shops_by_shop", frame)

    again = OnlineStoreRepo(repo.path, "shops", DECLARED)
    again.apply()
    assert price(again, "a") == 2.5
    RowStore(again).put({("shops_by_shop", ("a",)): (at.timestamp() - 1, {"price_1h": 1.0})})
    assert price(again, "a") == 2.5
    RowStore(again).put({("shops_by_shop", ("a",)): (at.timestamp() + 1, {"price_1h": 4.0})})
    assert price(again, "a") == 4.0


def test_a_ticket_is_good_once_another_connection_reads_the_rows(
    repo: OnlineStoreRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.online.SHORTEST_PAUSE", 1000.0)
    monkeypatch.setattr("features.online.LONGEST_PAUSE", 1000.0)  # only somebody waiting ends a pause
    other = connect(repo)

    async def run() -> None:
        writer = OnlineWriter(repo)
        for number in range(5):
            stamp = 1e9 + number
            await writer.offer({("shops_by_shop", ("a",)): (stamp, {"price_1h": float(number)})})
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
    connect(repo).execute("ALTER TABLE shops_shops_by_shop RENAME TO away")

    async def run() -> None:
        writer = OnlineWriter(repo)
        await writer.offer({("shops_by_shop", ("a",)): (1e9, {"price_1h": 2.5})})
        for call in (writer.written(1), writer.written(1), writer.offer({}), writer.close()):
            with pytest.raises(FeaturesError, match="no such table"):
                await asyncio.wait_for(call, DEADLINE)

    asyncio.run(run())


def test_a_locked_store_is_waited_for_with_bounded_memory_and_nothing_is_lost(
    repo: OnlineStoreRepo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("features.online.MOST_WAITING", 10)
    monkeypatch.setattr("features.newest_sqlite.BUSY_TIMEOUT", 0.0)
    other = connect(repo)

    async def run() -> None:
        writer = OnlineWriter(OnlineStoreRepo(repo.path, "shops", DECLARED))
        other.execute("BEGIN IMMEDIATE")
        await writer.offer({("shops_by_shop", ("a",)): (1e9, {"price_1h": 1.0})})
        await until(lambda: "locked" in caplog.text)
        await writer.offer({("shops_by_shop", ("a",)): (1e9 + 1, {"price_1h": 2.0})})
        many = {("shops_by_shop", (f"{n}",)): (1e9, {"price_1h": 3.0}) for n in range(50)}
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
    rows = {("shops_by_shop", (f"{n}",)): (1e9, {"price_1h": 3.0}) for n in range(500)}
    assert write(repo, rows) == 500
    assert "disk is full" in caplog.text
    assert price(repo, "499") == 3.0


def test_close_ends_at_its_deadline_and_tells_what_was_not_written(
    repo: OnlineStoreRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.newest_sqlite.BUSY_TIMEOUT", 0.0)
    other = connect(repo)

    async def run() -> None:
        writer = OnlineWriter(OnlineStoreRepo(repo.path, "shops", DECLARED))
        other.execute("BEGIN IMMEDIATE")
        for at in (1e9, 2e9):
            await writer.offer({("shops_by_shop", (shop,)): (at, {"price_1h": 1.0}) for shop in "abc"})
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
    monkeypatch.setattr("features.online.MOST_WAITING", 10)
    now = time.time()
    batches = [
        {("shops_by_shop", (f"{batch}-{n}",)): (now, {"price_1h": 2.5}) for n in range(50)}
        for batch in range(4)
    ]
    assert write(repo, *batches) == 200
    assert read(repo, "shops_by_shop", {"shop": "3-49"})["features"]["price_1h"]["value"] == 2.5


def test_nothing_is_taken_after_close_or_for_an_unknown_view(repo: OnlineStoreRepo) -> None:
    async def run() -> None:
        writer = OnlineWriter(repo)
        with pytest.raises(FeaturesError, match="nothing"):
            await writer.offer({("nothing", ("a",)): (0.0, {})})
        await writer.close()
        with pytest.raises(FeaturesError, match="closed"):
            await writer.offer({("shops_by_shop", ("a",)): (0.0, {})})

    asyncio.run(run())


def test_applying_again_keeps_values_and_what_others_made(repo: OnlineStoreRepo) -> None:
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Int64, String
    from feast.value_type import ValueType

    write(repo, {("shops_by_shop", ("a",)): (time.time(), {"price_1h": 2.5})})
    theirs = Entity(name="theirs", join_keys=["theirs"], value_type=ValueType.STRING)
    source = FileSource(path="data/theirs.parquet", timestamp_field="event_timestamp")
    schema = [Field(name="theirs", dtype=String), Field(name="value", dtype=Int64)]
    FeatureStore(repo_path=str(repo.path)).apply(
        [theirs, FeatureView(name="their_view", entities=[theirs], source=source, schema=schema)]
    )
    again = OnlineStoreRepo(repo.path, "shops", DECLARED)
    again.apply()
    assert {e.name for e in again.store.list_entities()} >= {"shop", "product", "theirs"}
    assert {v.name for v in again.store.list_feature_views()} == {"their_view", *again.views}
    assert read(again, "shops_by_shop", {"shop": "a"})["features"]["price_1h"]["value"] == 2.5


def test_a_wrong_view_or_key_is_said_with_the_right_ones(repo: OnlineStoreRepo) -> None:
    with pytest.raises(FeaturesError, match="shops_by_shop, shops_by_shop_product"):
        read(repo, "nothing", {"shop": "a"})
    with pytest.raises(FeaturesError, match="keyed by shop"):
        read(repo, "shops_by_shop", {"store": "a"})
