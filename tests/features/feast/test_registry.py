"""What applying a case's views does to Feast's registry."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shops as shops_of
import yaml
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.types import Int64, String
from feast.value_type import ValueType
from shops import BY_SHOP, DECLARED, FEATURES, Sold, price, put, repo_at
from sqlalchemy import create_engine, text

from driftline.features.declare.constructors import count, mean
from driftline.features.declare.declaration import HOUR, views
from driftline.features.errors import FeaturesError
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation

DEADLINE = 120.0


@pytest.fixture
def repo(tmp_path: Path) -> OnlineStoreRepo:
    return repo_at(tmp_path / "feast")


def planned(repo: OnlineStoreRepo) -> list[str]:
    return [str(change) for change in repo.plan()]


def their_objects(entity: str, view: str) -> list[Any]:
    theirs = Entity(name=entity, join_keys=[entity], value_type=ValueType.STRING, description="theirs")
    source = FileSource(path="data/theirs.parquet", timestamp_field="event_timestamp")
    schema = [Field(name=entity, dtype=String), Field(name="value", dtype=Int64)]
    return [theirs, FeatureView(name=view, entities=[theirs], source=source, schema=schema)]


def test_a_plan_tells_what_applying_then_does(repo: OnlineStoreRepo) -> None:
    objects = [
        "entity shop", "entity product", "feature view shops_by_shop", "feature view shops_by_shop_product",
        "feature service shops",
    ]  # fmt: skip
    assert planned(repo) == [f"create {name}" for name in objects]
    assert not repo.place.settings_file.exists()
    assert [str(change) for change in repo.apply()] == [f"create {name}" for name in objects]
    assert planned(repo) == [f"keep {name}" for name in objects]

    more = FEATURES | {"sold_2h": count(Sold, by="shop", over=2 * HOUR)}
    wider = OnlineStoreRepo(repo.place, views("shops", more, "event"))
    assert planned(wider)[2] == "change feature view shops_by_shop: features, ttl"
    wider.apply()
    assert {change.action for change in wider.plan()} == {"keep"}


def test_what_only_the_offline_store_needs_is_imported_when_it_is_asked_for(repo: OnlineStoreRepo) -> None:
    repo.apply()
    script = f"""
import sys
from pathlib import Path
from shops import repo_at
repo = repo_at(Path({str(repo.place.path)!r}))
repo.apply()
repo.store._get_provider().online_store.rows_writer
print("dask" in sys.modules)
print(type(repo.store._get_provider().offline_store).__name__, repo.store.config.offline_store.type)
print("dask" in sys.modules)
"""
    home = Path(shops_of.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    store = "HistoryOfflineStore driftline.features.feast.offline_store.HistoryOfflineStore"
    assert done.stdout.splitlines() == ["False", store, "True"]


def test_applying_again_changes_nothing_in_the_registry(repo: OnlineStoreRepo) -> None:
    repo.apply()

    def stamps() -> list[Any]:
        engine = create_engine(repo.place.feast_settings()["registry"]["path"])
        try:
            with engine.connect() as connection:
                return list(connection.execute(text("SELECT * FROM feature_views ORDER BY 1")).all())
        finally:
            engine.dispose()

    before = stamps()
    repo_at(repo.place.path).apply()
    assert stamps() == before


def test_applying_keeps_values_and_what_others_made(repo: OnlineStoreRepo) -> None:
    repo.apply()
    put(repo, {"a": (1e9, {"price_1h": 2.5})})
    FeatureStore(repo_path=str(repo.place.path)).apply(their_objects("theirs", "their_view"))
    fewer = OnlineStoreRepo(repo.place, [DECLARED[0]])
    fewer.apply()
    assert {e.name for e in fewer.store.list_entities()} >= {"shop", "product", "theirs"}
    assert {v.name for v in fewer.store.list_feature_views()} == {"their_view", *repo.views}
    assert price(repo, "a") == 2.5


def test_an_object_that_others_made_is_not_overwritten(repo: OnlineStoreRepo) -> None:
    repo.apply()
    other = OnlineStoreRepo(repo.place, views("shops", {"x": mean(Sold, "price", by="till", over=HOUR)}))
    repo.store.apply(their_objects("till", "their_view"))
    with pytest.raises(FeaturesError, match="entity 'till' that was not made by driftline"):
        other.plan()
    with pytest.raises(FeaturesError, match="entity 'till' that was not made by driftline"):
        other.apply()
    assert repo.store.get_entity("till").description == "theirs"


def apply_views(path: Path, registry: str, number: int) -> None:
    name = f"case{number}"
    features = {"sold_1h": count(Sold, by=f"key{number}", over=HOUR)}
    place = RepositoryLocation(path / name, "shared", registry=registry)
    OnlineStoreRepo(place, views(name, features)).apply()


def apply_at_once(apply: Callable[..., None], *arguments: Any) -> list[int | None]:
    fork = multiprocessing.get_context("fork")  # importing Feast anew takes seconds
    processes = [fork.Process(target=apply, args=(*arguments, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(DEADLINE)
    return [process.exitcode for process in processes]


def test_cases_that_are_applied_at_once_to_one_registry_are_all_in_it(
    tmp_path: Path, registry_url: str
) -> None:
    assert apply_at_once(apply_views, tmp_path, registry_url) == [0] * 4
    store = OnlineStoreRepo(RepositoryLocation(tmp_path / "case0", "shared", registry=registry_url), []).store
    assert {view.name for view in store.list_feature_views()} == {f"case{n}_by_key{n}" for n in range(4)}


def test_a_registry_in_a_database_of_its_own_plans_applies_and_serves(
    tmp_path: Path, registry_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = RepositoryLocation(tmp_path / "feast", "shops", registry=registry_url)
    repo = OnlineStoreRepo(place, DECLARED)
    assert {change.action for change in repo.apply()} == {"create"}
    assert {change.action for change in OnlineStoreRepo(place, DECLARED).plan()} == {"keep"}
    put(repo, {"a": (1e9, {"price_1h": 2.5})})
    assert price(repo, "a") == 2.5
    monkeypatch.setenv("DRIFTLINE_REGISTRY", registry_url)
    plain = FeatureStore(repo_path=str(place.path))
    assert {view.name for view in plain.list_feature_views()} == set(repo.views)
    answer = plain.get_online_features(features=[f"{BY_SHOP}:price_1h"], entity_rows=[{"shop": "a"}])
    assert answer.to_dict()["price_1h"] == [2.5]


@pytest.mark.parametrize("act", [OnlineStoreRepo.plan, OnlineStoreRepo.apply])
@pytest.mark.parametrize(
    ("registry", "message"),
    [
        ("postgresql+psycopg://somebody:secret@127.0.0.1:1/nowhere", "cannot be read or changed"),
        ("nosuch://somebody:secret@host/database", "DRIFTLINE_REGISTRY is no URL"),
        ("secret", "DRIFTLINE_REGISTRY is no URL"),
        ("postgresql+psycopg://somebody@host:secret/database", "DRIFTLINE_REGISTRY is no URL"),
        ("mysql+pymysql://somebody:secret@host/database", "needs a driver: No module named 'pymysql'"),
    ],
)
def test_a_registry_out_of_reach_is_reported_without_its_password(
    tmp_path: Path, act: Callable[[OnlineStoreRepo], Any], registry: str, message: str
) -> None:
    with pytest.raises(FeaturesError, match=message) as error:
        act(OnlineStoreRepo(RepositoryLocation(tmp_path / "feast", "shops", registry=registry), DECLARED))
    assert "secret" not in str(error.value)


def test_passwords_stay_out_of_the_settings_file(tmp_path: Path, redis_url: str, monkeypatch: Any) -> None:
    url = redis_url.replace("redis://", "redis://default:@")
    place = RepositoryLocation(tmp_path / "feast", "shops", url)
    repo = OnlineStoreRepo(place, DECLARED)
    repo.apply()
    put(repo, {"a": (1e9, {"price_1h": 2.5})})
    written = yaml.safe_load(place.settings_file.read_text())
    assert written["online_store"]["connection_string"] == "${DRIFTLINE_ONLINE_STORE}"
    monkeypatch.setenv("DRIFTLINE_ONLINE_STORE", url)
    plain = FeatureStore(repo_path=str(place.path))
    answer = plain.get_online_features(features=[f"{BY_SHOP}:price_1h"], entity_rows=[{"shop": "a"}])
    assert answer.to_dict()["price_1h"] == [2.5]


def test_before_anything_was_applied_the_store_says_what_to_do(repo: OnlineStoreRepo) -> None:
    with pytest.raises(FeaturesError, match="start a worker"):
        _ = repo.store
