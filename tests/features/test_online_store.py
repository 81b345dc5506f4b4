"""Online rows in a real Feast repository with its SQLite store."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import time
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
        return writer.written

    return asyncio.run(run())


def rename(repo: OnlineStoreRepo, old: str, new: str) -> None:
    connection = sqlite3.connect(repo.path / "data" / "online.db")
    connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
    connection.close()


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


def test_a_batch_that_fails_is_tried_again(repo: OnlineStoreRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    rename(repo, "shops_shops_by_shop", "away")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            rename(repo, "away", "shops_shops_by_shop")

    monkeypatch.setattr("features.online.time.sleep", pause)
    assert write(repo, {("shops_by_shop", ("a",)): (time.time(), {"price_1h": 2.5})}) == 1
    assert pauses == [0.05, 0.1]
    assert read(repo, "shops_by_shop", {"shop": "a"})["features"]["price_1h"]["value"] == 2.5


def test_a_write_that_fails_for_good_is_an_error_of_close(
    repo: OnlineStoreRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.online.FIRST_PAUSE", 0.0)
    rename(repo, "shops_shops_by_shop", "away")
    with pytest.raises(FeaturesError, match="no such table"):
        write(repo, {("shops_by_shop", ("a",)): (time.time(), {"price_1h": 2.5})})


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
