"""Features for services: what is given, and what is refused with a reason."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis
from shops import BY_SHOP, DECLARED, Shops, put, repo_at

from driftline.features.errors import FeaturesError, StoreUnreadable
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import FeatureClient, FeatureRow, Status
from tests.conftest import free_port
from tests.features.redis_server import RedisServer


@pytest.fixture
def place(tmp_path: Path, online_store: str) -> RepositoryLocation:
    repo = repo_at(tmp_path / "feast", online_store)
    repo.apply()
    put(repo, {"a": (1e9, {"price_1h": 2.5, "sold_1h": 3}), "b": (2e9, {"sold_1h": 0})})
    return repo.place


def test_one_key_or_many_by_view_and_feature_names(place: RepositoryLocation) -> None:
    with FeatureClient(Shops(), place) as client:
        one = client.get(BY_SHOP, {"shop": "a"})
        many = client.get_many(BY_SHOP, [{"shop": shop} for shop in "bxab"], ["sold_1h"])
        none = client.get_many(BY_SHOP, [])
    assert {name: value.value for name, value in one.features.items()} == {"price_1h": 2.5, "sold_1h": 3}
    assert (one.view, one.key) == (BY_SHOP, {"shop": "a"})
    assert [entry["sold_1h"] for entry in many] == [0, None, 3, 0]
    assert [list(entry.features) for entry in many] == [["sold_1h"]] * 4
    assert none == []


def test_each_value_tells_its_freshness(place: RepositoryLocation) -> None:
    with FeatureClient(Shops(), place) as client:
        found = client.get(BY_SHOP, {"shop": "b"})
        unseen = client.get(BY_SHOP, {"shop": "x"})
    sold, price = found.features["sold_1h"], found.features["price_1h"]
    assert (sold.value, sold.status) == (0, Status.PRESENT)
    assert (price.value, price.status) == (None, Status.MISSING)
    assert sold.event_time is not None
    assert sold.event_time.timestamp() == 2e9
    assert sold.age == price.age == found.age
    assert unseen.features["sold_1h"] == unseen.features["price_1h"]
    assert unseen.features["sold_1h"].age is None


def test_asyncio_reads_the_same_in_one_event_loop_after_another(place: RepositoryLocation) -> None:
    client = FeatureClient(Shops(), place)

    async def read() -> list[FeatureRow]:
        one = await client.get_async(BY_SHOP, {"shop": "a"})
        return [one, *await client.get_many_async(BY_SHOP, [{"shop": "b"}, {"shop": "x"}])]

    async def end() -> None:
        async with client:
            await read()

    for _ in range(2):
        found = asyncio.run(read())
        assert [(entry["price_1h"], entry["sold_1h"]) for entry in found] == [
            (2.5, 3),
            (None, 0),
            (None, None),
        ]
    asyncio.run(end())


def test_threads_share_a_client(place: RepositoryLocation) -> None:
    found: list[object] = []
    with FeatureClient(Shops(), place) as client:

        def read() -> None:
            found.extend(client.get(BY_SHOP, {"shop": "a"})["price_1h"] for _ in range(50))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [2.5] * 200


def test_a_wrong_view_feature_or_key_is_said_with_the_right_ones(place: RepositoryLocation) -> None:
    with FeatureClient(Shops(), place) as client:
        with pytest.raises(FeaturesError, match="'nothing'; known are: shops_by_shop, shops_by_shop_product"):
            client.get("nothing", {"shop": "a"})
        with pytest.raises(FeaturesError, match="no feature 'prise'; it has: price_1h, sold_1h"):
            client.get(BY_SHOP, {"shop": "a"}, ["prise"])
        with pytest.raises(FeaturesError, match="keyed by shop, not by store"):
            client.get(BY_SHOP, {"store": "a"})
        with pytest.raises(FeaturesError, match="keyed by shop, not by nothing"):
            client.get(BY_SHOP, {})
        with pytest.raises(FeaturesError, match="key 'shop' of view 'shops_by_shop' cannot be"):
            client.get(BY_SHOP, {"shop": 5.5})  # type: ignore[dict-item]


def test_reads_are_counted_by_what_became_of_them(place: RepositoryLocation) -> None:
    a = datetime.fromtimestamp(1e9, UTC)
    with FeatureClient(Shops(), place) as client:
        client.get_many(BY_SHOP, [{"shop": shop} for shop in "axy"], at=a)
        asyncio.run(client.get_async(BY_SHOP, {"shop": "a"}, at=a.replace(year=a.year + 1)))
    assert client.reads.rows() == {
        (BY_SHOP, "present"): 1,
        (BY_SHOP, "missing"): 2,
        (BY_SHOP, "expired"): 1,
    }
    assert client.reads.seconds()[BY_SHOP] > 0


def test_a_store_that_is_not_there_is_said(tmp_path: Path) -> None:
    client = FeatureClient(Shops(), RepositoryLocation(tmp_path, "shops"))
    with pytest.raises(StoreUnreadable, match=r"online\.db cannot be read.*DRIFTLINE_HOME"):
        client.get(BY_SHOP, {"shop": "a"})
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    with FeatureClient(Shops(), RepositoryLocation(tmp_path, "shops", url)) as client:
        with pytest.raises(FeaturesError, match=r"redis://127\.0\.0\.1:\d+/0 cannot be read") as caught:
            client.get(BY_SHOP, {"shop": "a"})
        assert "secret" not in str(caught.value)
        with pytest.raises(FeaturesError, match="cannot be read"):
            asyncio.run(client.get_async(BY_SHOP, {"shop": "a"}))


def test_a_client_reads_on_after_redis_was_restarted(
    redis_of: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = redis_of()
    with Redis.from_url(server.url) as probe:
        server.wait(probe)
        repo = repo_at(tmp_path / "feast", server.url)
        repo.apply()
        put(repo, {"a": (1e9, {"price_1h": 2.5})})
        with FeatureClient(Shops(), repo.place) as client:
            assert client.get(BY_SHOP, {"shop": "a"})["price_1h"] == 2.5
            server.stop()
            server.start()
            server.wait(probe)
            assert client.get(BY_SHOP, {"shop": "a"})["price_1h"] == 2.5


def test_the_environment_says_where_the_features_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    monkeypatch.setenv("DRIFTLINE_NAMESPACE", "team.a")
    place = RepositoryLocation.from_settings("shops")
    assert place.path == tmp_path / "feast" / "team.a.shops"
    assert place.project == "team_a_shops_1cc06c8a"
    assert place.is_sqlite
    repo = OnlineStoreRepo(place, DECLARED)
    repo.apply()  # Feast is particular about names
    assert repo.store.project == place.project
    monkeypatch.setenv("DRIFTLINE_ONLINE_STORE", "postgres://x")
    with pytest.raises(FeaturesError, match="neither sqlite nor a URL"):
        RepositoryLocation.from_settings("shops")


def test_reading_imports_neither_feast_nor_pandas(place: RepositoryLocation) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from shops import BY_SHOP, Shops\n"
        "from driftline.features.online.client import FeatureClient\n"
        "from driftline.features.feast.repository_location import RepositoryLocation\n"
        f"place = RepositoryLocation(Path({str(place.path)!r}), {place.project!r}, {place.online_store!r})\n"
        "assert FeatureClient(Shops(), place).get(BY_SHOP, {'shop': 'a'})['sold_1h'] == 3\n"
        "assert not {'feast', 'pandas', 'sqlalchemy', 'faust'}.intersection(sys.modules)\n"
    )
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{tests.parent}:{tests / 'cases'}"},
    )
    assert done.returncode == 0, done.stderr
