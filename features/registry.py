"""Feast objects built from a case's views, applied from code to a repository of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.declaration import View
from features.errors import FeaturesError

if TYPE_CHECKING:
    from feast import FeatureStore

_CONFIG = """\
project: {project}
provider: local
registry: {registry}
online_store:
  type: sqlite
  path: {online}
offline_store:
  type: file
entity_key_serialization_version: 3
"""


class OnlineStoreRepo:
    """A Feast repository under `path`: configuration, registry and SQLite online store.

    Plain `feast.FeatureStore(repo_path=...)` opens it. The folder holds no definitions, so nothing
    is ever deleted by scanning it.
    """

    def __init__(self, path: Path, project: str, views: Sequence[View]) -> None:
        self.path = path.absolute()
        self.project = project
        self.views = {view.name: view for view in views}
        self._store: FeatureStore | None = None

    def view(self, name: str) -> View:
        """The view of that name; raises FeaturesError with the known ones."""
        try:
            return self.views[name]
        except KeyError:
            known = ", ".join(sorted(self.views)) or "none"
            raise FeaturesError(f"there is no feature view {name!r}; known are: {known}") from None

    @property
    def store(self) -> FeatureStore:
        """Feast's own store over this repository; raises FeaturesError before `apply`."""
        if self._store is None:
            if not (self.path / "feature_store.yaml").exists():
                raise FeaturesError(
                    f"no Feast repository at {self.path}: start a worker, or run the demo, first"
                )
            from feast import FeatureStore

            self._store = FeatureStore(repo_path=str(self.path))
        return self._store

    def apply(self) -> None:
        """Write the configuration and register entities and views; others' objects stay."""
        data = self.path / "data"
        data.mkdir(parents=True, exist_ok=True)
        (self.path / "feature_store.yaml").write_text(
            _CONFIG.format(project=self.project, registry=data / "registry.db", online=data / "online.db")
        )
        self.store.apply(_objects(self.views.values(), data))


def _objects(views: Any, data: Path) -> list[Any]:
    from feast import Entity, FeatureView, Field, FileSource
    from feast.types import Float64, Int64, String
    from feast.value_type import ValueType

    objects: list[Any] = []
    entities: dict[str, Entity] = {}
    for view in views:
        for key in view.keys:
            if key not in entities:
                entities[key] = Entity(name=key, join_keys=[key], value_type=ValueType.STRING)
                objects.append(entities[key])
        fields = [Field(name=key, dtype=String) for key in view.keys]
        for name, window in view.features.items():
            tags = {"aggregate": window.aggregate, "over_seconds": f"{window.over:g}"}
            if window.note.unit:
                tags["unit"] = window.note.unit
            dtype = Int64 if window.aggregate == "count" else Float64
            fields.append(Field(name=name, dtype=dtype, description=window.note.description, tags=tags))
        source = FileSource(
            name=f"{view.name}_history",
            path=str(data / "history" / f"{view.name}.parquet"),
            timestamp_field="event_timestamp",
        )
        objects.append(
            FeatureView(
                name=view.name,
                entities=[entities[key] for key in view.keys],
                schema=fields,
                source=source,
                ttl=timedelta(seconds=view.ttl),
                online=True,
            )
        )
    return objects
