"""What both online stores promise, to us and to plain Feast."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import random
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from redis import Redis
from shops import BY_SHOP, LIVE, Shops, by_feasts_own, price, put, repo_at, row

from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.online.client import FeatureClient, Status
from driftline.features.online.transient_failures import is_transient
from driftline.features.online.writer import RowStore
from tests.conftest import free_port

ROOT = Path(__file__).parents[4]
DEADLINE = 300.0
SOAK_DEADLINE = 1_800.0

PLAIN_FEAST = """
import json, sys
from feast import FeatureStore
store = FeatureStore(repo_path=sys.argv[1])
assert {v.name for v in store.list_feature_views()} == {"shops_by_shop", "shops_by_shop_product"}
assert {e.name for e in store.list_entities()} == {"shop", "product"}
answer = store.get_online_features(
    features=["shops_by_shop:price_1h", "shops_by_shop:sold_1h"], entity_rows=[{"shop": "a"}])
service = store.get_online_features(
    features=store.get_feature_service("shops"), entity_rows=[{"shop": "a", "product": "p"}]).to_dict()
assert service["price_1h"] == answer.to_dict()["price_1h"], service
assert not [m for m in sys.modules if m.split(".")[0] in sys.argv[2:]]
print(json.dumps(answer.to_dict()))
"""


@pytest.fixture
def repo(tmp_path: Path, online_store: str) -> OnlineStoreRepo:
    made = repo_at(tmp_path / "feast", online_store)
    made.apply()
    return made


@pytest.fixture
def live(tmp_path: Path, online_store: str) -> OnlineStoreRepo:
    """A repository whose rows age by the wall clock."""
    made = repo_at(tmp_path / "feast", online_store, LIVE)
    made.apply()
    return made


def feast_reads(repo: OnlineStoreRepo, *shops: str) -> list[Any]:
    """The prices of shops, as Feast itself reads them."""
    answer = repo.store.get_online_features(
        features=[f"{BY_SHOP}:price_1h"], entity_rows=[{"shop": shop} for shop in shops]
    )
    found: list[Any] = answer.to_dict()["price_1h"]
    return found


def feast_frame(at: datetime, **prices: float) -> pd.DataFrame:
    rows = [
        {"shop": shop, "price_1h": value, "sold_1h": 1, "event_timestamp": at}
        for shop, value in prices.items()
    ]
    return pd.DataFrame(rows)


def run_plain(folder: Path, *absent: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_FEAST, str(folder), *absent],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_plain_feast_script_reads_and_lists(repo: OnlineStoreRepo) -> None:
    put(repo, {"a": (time.time(), {"price_1h": 2.5, "sold_1h": 3})})
    # Feast imports the store by the name in its settings, the script nothing
    assert run_plain(repo.place.path, "online_models", "streams") == {
        "shop": ["a"],
        "price_1h": [2.5],
        "sold_1h": [3],
    }


def test_feasts_own_store_reads_the_same_rows_without_our_code(repo: OnlineStoreRepo) -> None:
    put(repo, {"a": (time.time(), {"price_1h": 2.5, "sold_1h": 3})})
    found = run_plain(by_feasts_own(repo), "driftline", "features", "streams")
    assert found == {"shop": ["a"], "price_1h": [2.5], "sold_1h": [3]}


def test_feasts_server_serves_the_rows(repo: OnlineStoreRepo, eventually: Callable[..., Any]) -> None:
    put(repo, {"a": (time.time(), {"price_1h": 2.5, "sold_1h": 3})})
    port = free_port()
    asked = {"features": [f"{BY_SHOP}:price_1h"], "entities": {"shop": ["a", "nobody"]}}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/get-online-features",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    with (repo.place.path / "server.log").open("wb") as log:
        command = [str(Path(sys.executable).parent / "feast"), "serve", "--host", "127.0.0.1"]
        server = subprocess.Popen(
            [*command, "--port", str(port), "--workers", "1"],
            cwd=repo.place.path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            stdout=log,
            stderr=log,
        )

        def answer() -> Any:
            assert server.poll() is None, (repo.place.path / "server.log").read_text()
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    return json.load(response)
            except OSError:
                return None

        try:
            found = eventually(answer, DEADLINE)
        finally:
            server.terminate()
            server.wait(60)
    values = dict(zip(found["metadata"]["feature_names"], found["results"], strict=True))
    assert values["price_1h"]["values"] == [2.5, None]
    assert values["price_1h"]["statuses"] == ["PRESENT", "NOT_FOUND"]


def test_composite_keys_have_a_view_of_their_own(repo: OnlineStoreRepo) -> None:
    RowStore(repo).put({("shops_by_shop_product", ("a", "p")): (time.time(), {"product_price_1h": 1.0})})
    with FeatureClient(Shops(), repo.place) as client:
        found = client.get("shops_by_shop_product", {"product": "p", "shop": "a"})
    assert found["product_price_1h"] == 1.0


def test_an_entity_never_seen_is_missing(repo: OnlineStoreRepo) -> None:
    found = row(repo, "nobody")
    assert {value.status for value in found.features.values()} == {Status.MISSING}
    assert found.event_time is None
    assert feast_reads(repo, "nobody") == [None]


def test_values_of_years_ago_are_read_with_their_time_to_the_microsecond(repo: OnlineStoreRepo) -> None:
    put(repo, {"a": (1_357_034_400.000_001, {"price_1h": 2.5, "sold_1h": 3})})
    at = datetime(2013, 1, 1, 10, microsecond=1, tzinfo=UTC)
    assert row(repo, "a").event_time == at
    assert price(repo, "a") == 2.5
    store = repo.store
    answer = store.get_online_features(features=[f"{BY_SHOP}:price_1h"], entity_rows=[{"shop": "a"}]).proto
    read = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))["price_1h"]
    assert read.event_timestamps[0].ToMicroseconds() == 1_357_034_400_000_001
    assert read.values[0].double_val == 2.5


def test_a_feature_that_became_missing_does_not_keep_its_earlier_value(repo: OnlineStoreRepo) -> None:
    now = time.time()
    put(repo, {"a": (now, {"price_1h": 2.5, "sold_1h": 3})})
    put(repo, {"a": (now + 1, {"sold_1h": 0})})
    assert (price(repo, "a"), row(repo, "a")["sold_1h"]) == (None, 0)
    assert feast_reads(repo, "a") == [None]


def test_real_features_stay_real_when_their_value_is_whole(repo: OnlineStoreRepo) -> None:
    put(repo, {"a": (time.time(), {"price_1h": 2})})
    assert type(price(repo, "a")) is float


@pytest.mark.parametrize("step", [1.0, 2e-6])
@pytest.mark.parametrize("start", [1.7e9, -1.7e9, -30.0])
def test_the_newest_row_wins_in_any_order_and_over_restarts(
    repo: OnlineStoreRepo, start: float, step: float
) -> None:
    numbers = list(range(20))
    random.Random(5).shuffle(numbers)
    for n in numbers:
        put(repo, {"a": (start + n * step, {"price_1h": float(n)})})
    assert price(repo, "a") == 19.0


def test_rows_of_the_same_time_may_be_written_again(repo: OnlineStoreRepo) -> None:
    same = {"a": (1e9, {"price_1h": 2.5, "sold_1h": 3})}
    put(repo, same)
    before = row(repo, "a")
    put(repo, same)
    assert row(repo, "a").features.keys() == before.features.keys()
    assert (price(repo, "a"), row(repo, "a").event_time) == (2.5, before.event_time)
    put(repo, {"a": (1e9, {"price_1h": 3.5})})  # what is computed anew for a time replaces it as a whole
    assert (price(repo, "a"), row(repo, "a")["sold_1h"]) == (3.5, None)


def test_the_newest_row_wins_between_two_writers_that_are_both_open(repo: OnlineStoreRepo) -> None:
    here, there = RowStore(repo), RowStore(OnlineStoreRepo(repo.place, list(repo.views.values())))
    for store, stamp in [(here, 1e9), (there, 1e9 + 2), (here, 1e9 + 1)]:
        store.put({(BY_SHOP, ("a",)): (stamp, {"price_1h": stamp - 1e9})})
    assert price(repo, "a") == 2.0


def test_older_rows_among_newer_ones_are_left_out_alone(repo: OnlineStoreRepo) -> None:
    put(repo, {shop: (1e9 + 5, {"price_1h": 5.0}) for shop in "abc"})
    stamps = {"a": 1e9 + 6, "b": 1e9 + 4, "c": 1e9 + 6, "d": 1e9 + 1}
    put(repo, {shop: (at, {"price_1h": at - 1e9}) for shop, at in stamps.items()})
    assert [price(repo, shop) for shop in "abcd"] == [6.0, 5.0, 6.0, 1.0]


def test_many_rows_are_written_and_read_at_once(repo: OnlineStoreRepo) -> None:
    put(repo, {f"{n}": (1e9, {"price_1h": float(n), "sold_1h": n}) for n in range(2_345)})
    keys = [{"shop": f"{n}"} for n in reversed(range(2_345))]
    with FeatureClient(Shops(), repo.place) as client:
        found = client.get_many(BY_SHOP, keys, ["sold_1h"])
    assert [entry["sold_1h"] for entry in found] == list(reversed(range(2_345)))


def test_a_row_that_feast_writes_is_held_to_its_time_too(repo: OnlineStoreRepo) -> None:
    at = datetime(2013, 1, 1, 10, microsecond=5, tzinfo=UTC)
    repo.store.write_to_online_store(BY_SHOP, feast_frame(at, a=2.5, b=2.5))
    repo.store.write_to_online_store(BY_SHOP, feast_frame(at - timedelta(microseconds=1), a=1.0))
    repo.store.write_to_online_store(BY_SHOP, feast_frame(at + timedelta(microseconds=1), b=4.0))
    assert feast_reads(repo, "a", "b", "c") == [2.5, 4.0, None]
    assert [price(repo, shop) for shop in "abc"] == [2.5, 4.0, None]


def test_feast_materializes_a_history_into_the_store(repo: OnlineStoreRepo) -> None:
    end = datetime(2013, 1, 1, 12, tzinfo=UTC)
    history = repo.history / BY_SHOP / "part.parquet"
    history.parent.mkdir(parents=True)
    parts = [feast_frame(end - timedelta(minutes=n), a=float(n), b=float(n)) for n in (1, 50, 20)]
    pd.concat(parts).to_parquet(history)
    put(repo, {"b": (end.timestamp(), {"price_1h": 9.0})})
    repo.store.materialize(end - timedelta(hours=1), end, feature_views=[BY_SHOP])
    assert feast_reads(repo, "a", "b") == [1.0, 9.0]


def test_an_on_demand_view_of_feasts_own_is_stored_and_read(repo: OnlineStoreRepo) -> None:
    from feast import FeatureStore, Field, FileSource, OnDemandFeatureView
    from feast.transformation.python_transformation import PythonTransformation
    from feast.types import Float64

    def doubled(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"twice": [2 * value for value in inputs["price_1h"]]}

    store = FeatureStore(repo_path=str(repo.place.path))
    shops = store.get_feature_view(BY_SHOP)
    assert isinstance(shops.batch_source, FileSource)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        view = OnDemandFeatureView(
            name="doubled",
            entities=[store.get_entity("shop")],
            sources=[shops[["price_1h"]]],
            schema=[Field(name="twice", dtype=Float64)],
            feature_transformation=PythonTransformation(doubled, inspect.getsource(doubled)),
            mode="python",
            write_to_online_store=True,
        )
        store.apply([view])
        now = datetime.now(UTC)
        rows = pd.DataFrame({"shop": ["a"], "price_1h": [2.5], "event_timestamp": [now], "created": [now]})
        store.write_to_online_store("doubled", df=rows)
        found = store.get_online_features(["doubled:twice"], [{"shop": "a"}]).to_dict()
    assert found["twice"] == [5.0]


def test_feasts_lifetime_of_keys_is_kept(tmp_path: Path, redis_url: str) -> None:
    from feast import FeatureStore

    repo = repo_at(tmp_path / "feast", redis_url)
    repo.apply()
    settings = yaml.safe_load(repo.place.settings_file.read_text())
    settings["online_store"]["key_ttl_seconds"] = 600
    repo.place.settings_file.write_text(yaml.safe_dump(settings))
    store = FeatureStore(repo_path=str(repo.place.path))
    now = datetime.now(UTC)
    rows = pd.DataFrame({"shop": ["a"], "price_1h": [2.5], "sold_1h": [1], "event_timestamp": [now]})
    store.write_to_online_store(BY_SHOP, df=rows)
    with Redis.from_url(redis_url) as client:
        left = [client.ttl(key) for key in client.scan_iter() if not key.startswith(b"driftline:")]
    assert len(left) == 1
    assert 0 < left[0] <= 600


def test_a_row_older_than_its_views_ttl_is_not_there(live: OnlineStoreRepo) -> None:
    now = time.time()
    put(live, {"young": (now - 3000, {"price_1h": 1.0}), "old": (now - 3700, {"price_1h": 2.0})})
    assert feast_reads(live, "young", "old") == [1.0, None]
    young, old = row(live, "young"), row(live, "old")
    assert young.features["price_1h"].status is Status.PRESENT
    assert young.age == pytest.approx(3000, abs=600)
    assert old["price_1h"] is None
    # Redis has let it go
    assert old.features["price_1h"].status is (Status.EXPIRED if live.place.is_sqlite else Status.MISSING)


def test_of_a_row_from_history_the_caller_says_what_time_it_is(repo: OnlineStoreRepo) -> None:
    at = datetime(2013, 1, 1, 10, tzinfo=UTC)
    put(repo, {"a": (at.timestamp(), {"price_1h": 2.5})})
    with FeatureClient(Shops(), repo.place) as client:
        found = [
            client.get(BY_SHOP, {"shop": "a"}, at=at + age)
            for age in (timedelta(hours=1), timedelta(hours=1, seconds=1))
        ]
    assert [entry.features["price_1h"].status for entry in found] == [Status.PRESENT, Status.EXPIRED]
    assert [entry.age for entry in found] == [3600.0, 3601.0]
    assert [entry["price_1h"] for entry in found] == [2.5, None]
    assert feast_reads(repo, "a") == [2.5]


def put_through(store: RowStore, rows: dict[Any, Any]) -> None:
    """Write rows, again while the store is locked, as `OnlineWriter` does."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return store.put(rows)
        except Exception as error:
            if not is_transient(error) or time.monotonic() > deadline:
                raise


def write_shuffled(path: Path, online_store: str, seed: int, stamps: int) -> None:
    """Write rows of that many times to 10 keys, in an order of its own, a few at once."""
    order = random.Random(seed)
    store = RowStore(repo_at(path, online_store))
    numbers = [(n, shop) for n in range(stamps) for shop in range(10)]
    order.shuffle(numbers)
    batch: dict[Any, Any] = {}
    for n, shop in numbers:
        key = (BY_SHOP, (f"{shop}",))
        if key in batch or not order.randrange(10):
            put_through(store, batch)
            batch = {}
        batch[key] = (1e9 + n * 1e-6, {"price_1h": n, "sold_1h": n})
    put_through(store, batch)


@pytest.mark.parametrize("stamps", [50, pytest.param(10_000, marks=pytest.mark.soak)])
def test_no_key_ends_on_an_older_row_however_four_processes_write(repo: OnlineStoreRepo, stamps: int) -> None:
    fork = multiprocessing.get_context("fork")  # importing Feast anew takes seconds
    writers = [
        fork.Process(target=write_shuffled, args=(repo.place.path, repo.place.online_store, seed, stamps))
        for seed in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(SOAK_DEADLINE)
    assert [writer.exitcode for writer in writers] == [0] * 4
    newest = datetime.fromtimestamp(1e9, UTC) + timedelta(microseconds=stamps - 1)
    for shop in range(10):
        found = row(repo, f"{shop}")
        assert (found["price_1h"], found["sold_1h"], found.event_time) == (stamps - 1, stamps - 1, newest)
