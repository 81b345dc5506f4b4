"""Feast objects built from a case's views, applied from code to a repository of its own.

The registry is Feast's SQL one: a change is a transaction on the object it is about, where Feast's registry
file is read and written as a whole, so that, of two processes that apply at once, one undoes the other's
change.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import stamina
from filelock import FileLock

from driftline.atomic_file import replacing
from driftline.features.declare.declaration import View
from driftline.features.declare.feature_descriptions import feast_tags, owners, shared_tags
from driftline.features.declare.on_demand import OnDemandView
from driftline.features.errors import FeaturesError
from driftline.features.feast.expiry import CLOCK
from driftline.features.feast.repository_location import ONLINE_STORE, REGISTRY, RepositoryLocation

if TYPE_CHECKING:
    from feast import FeatureStore

OWNER = {"managed_by": "driftline"}
"""Tag of objects made here; an object of the same name without it belongs to somebody else."""
HISTORY = "data/history"
"""The feature history's folder, below the repository's."""
DEFINITIONS = Path(__file__).with_name("definitions.py")
"""The file that Feast's own commands read as the repository's definitions."""
DEFERRED = "driftline.features.feast.deferred_offline_store.DeferredOfflineStore"
"""Given to Feast until it needs the offline store."""
ATTEMPTS = 5
"""How often to apply while others make the same tables and objects on a shared database."""
FIRST_APPLY_PAUSE = 0.2
"""Seconds before the second attempt; before each further one they are twice as long."""


@dataclass(frozen=True, slots=True)
class RegistryChange:
    """What applying does to one object: `differences` are the names of the properties that change."""

    kind: str
    name: str
    action: Literal["create", "change", "keep"]
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        differences = f": {', '.join(self.differences)}" if self.differences else ""
        return f"{self.action} {self.kind} {self.name}{differences}"


class OnlineStoreRepo:
    """A Feast repository at a place: settings, registry, online store.

    Plain `feast.FeatureStore(repo_path=...)` opens it where driftline is installed, and elsewhere with
    `online_store.type` changed to Feast's own `sqlite` or `redis` and `offline_store.type` to `file`. The
    folder's definitions are what is registered, so Feast's own commands find nothing to change or delete.
    """

    def __init__(
        self, place: RepositoryLocation, views: Sequence[View], on_demand: Sequence[OnDemandView] = ()
    ) -> None:
        self.place = place
        self.views = {view.name: view for view in views}
        self.on_demand = tuple(on_demand)
        self._store: FeatureStore | None = None

    @property
    def store(self) -> FeatureStore:
        """Feast's own store over this repository; raises FeaturesError before `apply`."""
        if self._store is None:
            if not self.place.settings_file.exists():
                raise FeaturesError(
                    f"no Feast repository at {self.place.path}: start a worker, or run the demo, first"
                )
            self._store = _open(self.place)
        return self._store

    @property
    def history(self) -> Path:
        """The folder of the feature history."""
        return self.place.path / HISTORY

    def plan(self) -> list[RegistryChange]:
        """What `apply` would do to each object. Raises FeaturesError if it would change somebody else's, and
        if the registry cannot be read."""
        _check_driver(self.place)
        with self._alone(), _registry_errors():
            self._store = self._store or _open(self.place)
            return [change for change, _ in self._changes()]

    def apply(self) -> list[RegistryChange]:
        """Write the settings and register entities, views and a feature service of the project's name.

        Returns the changes. Applied again it changes nothing. Objects of others stay, and so do views that
        are no longer declared: nothing is deleted. Raises FeaturesError if somebody else has an object of the
        same name, and if the registry does not accept the change.
        """
        from sqlalchemy.exc import DBAPIError

        _check_driver(self.place)
        with self._alone(), _registry_errors():
            for path, content in (
                (self.place.settings_file, _settings_text(self.place).encode()),
                (self.place.definitions_file, DEFINITIONS.read_bytes()),
            ):
                with replacing(path) as file:
                    file.write(content)
            attempts = stamina.RetryingCaller(
                attempts=ATTEMPTS, timeout=None, wait_initial=FIRST_APPLY_PAUSE, wait_jitter=FIRST_APPLY_PAUSE
            )
            return attempts(DBAPIError, self._apply_or_reopen)

    def apply_anew(self) -> list[RegistryChange]:
        """As `apply`, for a repository whose files or objects may have been removed since it was opened."""
        self._store = None
        return self.apply()

    def _apply_or_reopen(self) -> list[RegistryChange]:
        """Apply; after a failure the next attempt opens the repository again."""
        from sqlalchemy.exc import DBAPIError

        try:
            return self._apply()
        except DBAPIError:
            self._store = None
            raise

    def _apply(self) -> list[RegistryChange]:
        changes = self._changes()
        store = self.store
        if any(change.action != "keep" for change, _ in changes):
            with warnings.catch_warnings():
                # Feast calls on-demand views experimental each time
                warnings.filterwarnings("ignore", "On demand feature view", RuntimeWarning)
                store.apply([declared for _, declared in changes])
        else:
            views = [store.get_feature_view(name) for name in self.views]
            store._get_provider().online_store.update(store.config, [], views, [], [], True)
        return [change for change, _ in changes]

    def _alone(self) -> FileLock:
        """Ensures that no other process of this machine works on the repository."""
        data = self.place.path / "data"
        data.mkdir(parents=True, exist_ok=True)
        return FileLock(data / "apply.lock")

    def _changes(self) -> list[tuple[RegistryChange, Any]]:
        """The change of each declared object, and the object."""
        registry, project = self.store.registry, self.place.project
        views = {view.name: view for view in registry.list_all_feature_views(project)}
        held = {
            "entity": {view.name: view for view in registry.list_entities(project)},
            "feature view": views,
            "on-demand feature view": views,
            "feature service": {view.name: view for view in registry.list_feature_services(project)},
        }
        return [
            (_change(kind, held[kind].get(declared.name), declared, project), declared)
            for kind, declared in _objects(project, self.views.values(), self.on_demand)
        ]


@contextmanager
def _registry_errors() -> Iterator[None]:
    """Turns errors of the registry's database into FeaturesError."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        raise FeaturesError(f"the feature registry cannot be read or changed: {error.orig}") from error


def _check_driver(place: RepositoryLocation) -> None:
    """Raises FeaturesError for a registry that is no database's URL, or whose driver is not installed."""
    if place.registry is None:
        return
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(place.registry).get_dialect().import_dbapi()
    except (ArgumentError, ValueError):  # whose text may hold a password
        raise FeaturesError(f"{REGISTRY} is no URL of a database that SQLAlchemy knows") from None
    except ImportError as error:
        raise FeaturesError(f"the database that {REGISTRY} names needs a driver: {error}") from error


def _change(kind: str, held: Any, declared: Any, project: str) -> RegistryChange:
    if held is None:
        return RegistryChange(kind, declared.name, "create")
    if held == declared:
        return RegistryChange(kind, declared.name, "keep")
    if any(held.tags.get(tag) != value for tag, value in OWNER.items()):
        raise FeaturesError(
            f"project {project!r} has {kind} {declared.name!r} that was not made by driftline: it would be "
            "overwritten; rename one of them, or use a namespace"
        )
    before, after = held.to_proto().spec, declared.to_proto().spec
    names = [entry.name for entry in after.DESCRIPTOR.fields if entry.name != "project"]
    differences = tuple(
        name
        for name in names
        if getattr(before, name) != getattr(after, name)
        # messages hold what the registry adds, such as times, and the objects leave out of a comparison
        and (not hasattr(held, name) or getattr(held, name) != getattr(declared, name))
    )
    return RegistryChange(kind, declared.name, "change", differences)


def _settings_text(place: RepositoryLocation) -> str:
    """feature_store.yaml; a URL with a password is not written down, Feast takes it from the environment."""
    import yaml  # type: ignore[import-untyped]

    settings = place.feast_settings()
    if place.registry is not None and "@" in place.registry:
        settings["registry"]["path"] = f"${{{REGISTRY}}}"
    if "@" in place.online_store:
        settings["online_store"]["connection_string"] = f"${{{ONLINE_STORE}}}"
    text: str = yaml.safe_dump(settings, sort_keys=False)
    return text


def _open(place: RepositoryLocation) -> FeatureStore:
    """Feast with the repository's settings."""
    _import_feast()
    from feast import FeatureStore, RepoConfig

    settings = place.feast_settings()
    config = RepoConfig(**settings | {"offline_store": {"type": DEFERRED}})
    config.offline_config = settings["offline_store"]  # imported when Feast asks for it
    config.repo_path = place.path
    return FeatureStore(repo_path=str(place.path), config=config)


def _import_feast() -> None:
    """Import Feast without the type checks that typeguard would build into its declarations.

    Building them takes 6 of the 8 seconds of CPU of `import feast`, as typeguard parses a module again
    for each of its functions; they would only report calls that mypy rejects too. Feast also has the
    deprecations within every library shown, which are not for those who run a worker.
    """
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


def _objects(project: str, views: Iterable[View], on_demand: Sequence[OnDemandView]) -> list[tuple[str, Any]]:
    """Kind and Feast object of everything declared, in the order in which they need each other."""
    from feast import Entity, FeatureService, FeatureView
    from feast.value_type import ValueType

    entities: dict[str, Entity] = {}
    feature_views: list[FeatureView] = []
    for view in views:
        for key in view.keys:
            entities.setdefault(
                key, Entity(name=key, join_keys=[key], value_type=ValueType.STRING, tags=dict(OWNER))
            )
        feature_views.append(_feature_view(view, [entities[key] for key in view.keys]))
    computed = []
    if on_demand:
        from driftline.features.feast.on_demand_views import feast_view

        sources = {view.name: view for view in feature_views}
        computed = [feast_view(view, sources, OWNER) for view in on_demand]
    # a reader of the service need not give anything but keys
    served = [view for view, declared in zip(computed, on_demand, strict=True) if not declared.request]
    service = FeatureService(name=project, features=[*feature_views, *served], tags=dict(OWNER))
    return [
        *(("entity", entity) for entity in entities.values()),
        *(("feature view", view) for view in feature_views),
        *(("on-demand feature view", view) for view in computed),
        ("feature service", service),
    ]


def _feature_view(view: View, entities: Sequence[Any]) -> Any:
    """Feast's view of one of ours, over the history of its rows."""
    from feast import FeatureView, Field, FileSource
    from feast.types import Float64, Int64, String

    fields = [Field(name=key, dtype=String) for key in view.keys]
    for name, window in view.features.items():
        tags = {
            **feast_tags(window.note),
            "aggregate": window.aggregate,
            "over_seconds": f"{window.over:g}",
        }
        if window.resolution is not None:
            tags["resolution_seconds"] = f"{window.resolution:g}"
        if window.ttl is not None:
            tags["ttl_seconds"] = f"{window.ttl:g}"
        dtype = Int64 if window.is_whole else Float64
        fields.append(Field(name=name, dtype=dtype, description=window.note.description, tags=tags))
    notes = [window.note for window in view.features.values()]
    return FeatureView(
        name=view.name,
        entities=list(entities),
        schema=fields,
        source=FileSource(
            name=f"{view.name}_history",
            path=f"{HISTORY}/{view.name}",
            timestamp_field="event_timestamp",
        ),
        ttl=timedelta(seconds=view.ttl),
        online=True,
        tags={**shared_tags(notes), **OWNER, CLOCK: view.clock},
        owner=owners(notes),
    )
