"""Feast objects built from a case's views, applied from code to a repository of its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.declaration import View
from features.errors import FeaturesError

if TYPE_CHECKING:
    from feast import FeatureStore

OFFLINE_STORE = "features.offline_store.HistoryOfflineStore"
HISTORY = "data/history"
"""The feature history's folder, below the repository's."""
_CONFIG = """\
project: {project}
provider: local
registry: data/registry.db
online_store:
  type: sqlite
  path: data/online.db
offline_store:
  type: file
entity_key_serialization_version: 3
"""


class OnlineStoreRepo:
    """A Feast repository under `path`: configuration, registry and SQLite online store.

    Plain `feast.FeatureStore(repo_path=...)` opens it. The folder holds no definitions and objects
    are applied from code, so nothing is ever deleted by scanning it. It may be moved as a whole.
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
            if not self._settings.exists():
                raise FeaturesError(
                    f"no Feast repository at {self.path}: start a worker, or run the demo, first"
                )
            self._store = _open(self.path, self._settings)
        return self._store

    @property
    def history(self) -> Path:
        """The folder of the feature history."""
        return self.path / HISTORY

    def apply(self) -> None:
        """Write the settings and register entities, views and a feature service of the project's name.

        Others' objects stay, and so do views that are declared no more: nothing is deleted. Workers
        that start together apply one after the other, as Feast rewrites its registry file as a whole.
        """
        data = self.path / "data"
        data.mkdir(parents=True, exist_ok=True)
        with (data / "apply.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            unfinished = self._settings.with_suffix(f".{os.getpid()}.part")
            unfinished.write_text(_CONFIG.format(project=self.project))
            unfinished.replace(self._settings)
            self.store.refresh_registry()
            self.store.apply(_objects(self.project, self.views.values()))

    @property
    def _settings(self) -> Path:
        return self.path / "feature_store.yaml"


def _open(path: Path, settings: Path) -> FeatureStore:
    """Feast with the repository's settings, but with rows that are never replaced by older ones, and joins
    that scale."""
    import yaml  # type: ignore[import-untyped]

    _import_feast()
    from feast import FeatureStore, RepoConfig

    from features.newest_sqlite import NewestSqliteOnlineStore

    declared = yaml.safe_load(settings.read_text())
    store = NewestSqliteOnlineStore
    declared["online_store"]["type"] = f"{store.__module__}.{store.__qualname__}"
    declared["offline_store"]["type"] = OFFLINE_STORE
    config = RepoConfig(**declared)
    config.repo_path = path
    return FeatureStore(repo_path=str(path), config=config)


def _import_feast() -> None:
    """Import Feast without the type checks that typeguard would build into its declarations.

    Building them takes 6 of the 8 seconds of CPU of `import feast`, as typeguard parses a module anew
    for each of its functions; they would only tell of calls that mypy sees too. Feast also has the
    deprecations within every library shown, which are not for those who run a worker.
    """
    import warnings

    import typeguard

    def unchecked(target: Any = None, **_: Any) -> Any:
        return unchecked if target is None else target

    checked = typeguard.typechecked
    typeguard.typechecked = unchecked
    try:
        with warnings.catch_warnings():
            import feast  # noqa: F401
    finally:
        typeguard.typechecked = checked


def _objects(project: str, views: Iterable[View]) -> list[Any]:
    from feast import Entity, FeatureService, FeatureView, Field, FileSource
    from feast.types import Float64, Int64, String
    from feast.value_type import ValueType

    entities: dict[str, Entity] = {}
    feature_views: list[FeatureView] = []
    for view in views:
        for key in view.keys:
            entities.setdefault(key, Entity(name=key, join_keys=[key], value_type=ValueType.STRING))
        fields = [Field(name=key, dtype=String) for key in view.keys]
        for name, window in view.features.items():
            tags = {"aggregate": window.aggregate, "over_seconds": f"{window.over:g}"}
            if window.note.unit:
                tags["unit"] = window.note.unit
            dtype = Int64 if window.is_whole else Float64
            fields.append(Field(name=name, dtype=dtype, description=window.note.description, tags=tags))
        source = FileSource(
            name=f"{view.name}_history",
            path=f"{HISTORY}/{view.name}",
            timestamp_field="event_timestamp",
        )
        feature_views.append(
            FeatureView(
                name=view.name,
                entities=[entities[key] for key in view.keys],
                schema=fields,
                source=source,
                ttl=timedelta(seconds=view.ttl),
                online=True,
            )
        )
    service = FeatureService(name=project, features=list(feature_views))
    return [*entities.values(), *feature_views, service]
