"""Online rows in a real Feast repository with its SQLite store."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from features.declaration import HOUR, count, mean, views
from features.errors import FeaturesError
from features.online import OnlineWriter, read
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


def test_the_newest_row_wins_in_any_order_and_over_restarts(repo: OnlineStoreRepo) -> None:
    now = time.time()
    stamps = [now + n for n in range(20)]
    random.Random(5).shuffle(stamps)
    for stamp in stamps:
        write(repo, {("shops_by_shop", ("a",)): (stamp, {"price_1h": stamp - now})})
    newest = read(repo, "shops_by_shop", {"shop": "a"})["features"]["price_1h"]["value"]
    assert newest == max(stamps) - now


def test_applying_again_keeps_values_and_what_others_made(repo: OnlineStoreRepo) -> None:
    from feast import Entity

    write(repo, {("shops_by_shop", ("a",)): (time.time(), {"price_1h": 2.5})})
    repo.store.apply([Entity(name="theirs", join_keys=["theirs"])])
    again = OnlineStoreRepo(repo.path, "shops", DECLARED)
    again.apply()
    assert {e.name for e in again.store.list_entities()} >= {"shop", "product", "theirs"}
    assert read(again, "shops_by_shop", {"shop": "a"})["features"]["price_1h"]["value"] == 2.5


def test_a_wrong_view_or_key_is_said_with_the_right_ones(repo: OnlineStoreRepo) -> None:
    with pytest.raises(FeaturesError, match="shops_by_shop, shops_by_shop_product"):
        read(repo, "nothing", {"shop": "a"})
    with pytest.raises(FeaturesError, match="keyed by shop"):
        read(repo, "shops_by_shop", {"store": "a"})
