"""Views of shops, with rows written and read at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from driftline.features.declare.constructors import count, mean
from driftline.features.declare.declaration import HOUR, View, views
from driftline.features.declare.on_demand import OnDemandView
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import FeatureClient, FeatureRow
from driftline.features.online.writer import RowStore

BY_SHOP = "shops_by_shop"


class Sold:
    __struct_fields__ = ("shop", "product", "price")


FEATURES = {
    "price_1h": mean(Sold, "price", by="shop", over=HOUR, unit="EUR"),
    "sold_1h": count(Sold, by="shop", over=HOUR),
    "product_price_1h": mean(Sold, "price", by=("shop", "product"), over=HOUR),
}
DECLARED = views("shops", FEATURES, "event")
LIVE = views("shops", FEATURES, "wall")


class Shops:
    """The case, as far as its features."""

    name = "shops"

    def __init__(self, declared: list[View] = DECLARED) -> None:
        self._views = declared

    def views(self) -> list[View]:
        return self._views

    def on_demand_views(self) -> list[OnDemandView]:
        return []


def repo_at(path: Path, online_store: str = "sqlite", declared: list[View] = DECLARED) -> OnlineStoreRepo:
    return OnlineStoreRepo(RepositoryLocation(path, "shops", online_store), declared)


def put(repo: OnlineStoreRepo, rows: Mapping[str, tuple[float, Mapping[str, Any]]]) -> None:
    """Write rows by shop."""
    RowStore(repo).put({(BY_SHOP, (shop,)): (at, dict(values)) for shop, (at, values) in rows.items()})


def row(repo: OnlineStoreRepo, shop: str) -> FeatureRow:
    with FeatureClient(Shops(list(repo.views.values())), repo.place) as client:
        return client.get(BY_SHOP, {"shop": shop})


def price(repo: OnlineStoreRepo, shop: str) -> Any:
    return row(repo, shop)["price_1h"]


def by_feasts_own(repo: OnlineStoreRepo) -> Path:
    """A Feast repository with the same registry and rows, on the store that Feast itself brings."""
    settings = repo.place.feast_settings()
    settings["online_store"] = (
        {"type": "sqlite", "path": str(repo.place.online_file)}
        if repo.place.is_sqlite
        else {"type": "redis", "connection_string": repo.place.online_store.split("//")[1].split("/")[0]}
    )
    settings["offline_store"] = {"type": "file"}
    folder = repo.place.path.parent / "feasts-own"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(settings))
    return folder
