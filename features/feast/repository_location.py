"""Where a case's Feast repository, registry and online store are."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from driftline.features.errors import FeaturesError

ONLINE_STORE = "DRIFTLINE_ONLINE_STORE"
REGISTRY = "DRIFTLINE_REGISTRY"
OFFLINE_STORE = "driftline.features.feast.offline_store.HistoryOfflineStore"
REDIS_SCHEMES = {"redis", "rediss", "unix"}


def project_of(qualified: str) -> str:
    """The Feast project of a case's name within its namespace.

    Feast allows letters, digits and underscores there; names that differ elsewhere get a digest apart, as
    rows and objects of several projects may be in one Redis and one registry.
    """
    project = re.sub(r"\W", "_", qualified, flags=re.ASCII)
    if project == qualified:
        return project
    return f"{project}_{hashlib.sha256(qualified.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class RepositoryLocation:
    """A folder that holds a Feast repository, under `project`; its online store and registry.

    `online_store` is "sqlite" (a file in the folder) or the URL of a Redis: redis://, rediss:// (TLS)
    or unix://, with user, password and redis-py's options. `registry` is the URL of a database as
    SQLAlchemy takes it, such as postgresql+psycopg://..., or None: a SQLite file in the folder. Raises
    FeaturesError for an online store that is neither.
    """

    path: Path
    project: str
    online_store: str = "sqlite"
    registry: str | None = None

    def __post_init__(self) -> None:
        if not (self.is_sqlite or urlsplit(self.online_store).scheme in REDIS_SCHEMES):
            raise FeaturesError(
                f"{ONLINE_STORE} is neither sqlite nor a URL that begins with redis://, rediss:// or unix://"
            )

    @property
    def is_sqlite(self) -> bool:
        """Whether the online store is the file in the folder."""
        return self.online_store == "sqlite"

    @property
    def settings_file(self) -> Path:
        """Feast's settings."""
        return self.path / "feature_store.yaml"

    @property
    def definitions_file(self) -> Path:
        """What Feast's own commands read: the objects as they are registered."""
        return self.path / "definitions.py"

    @property
    def online_file(self) -> Path:
        """The SQLite online store."""
        return self.path / "data" / "online.db"

    def feast_settings(self) -> dict[str, Any]:
        """What feature_store.yaml says, secrets and all."""
        if self.is_sqlite:
            store = {
                "type": "driftline.features.online.stores.sqlite.SqliteOnlineStore",
                "path": "data/online.db",
            }
        else:
            store = {
                "type": "driftline.features.online.stores.redis.RedisOnlineStore",
                "connection_string": self.online_store,
            }
        # Feast takes a SQLite URL relative to the folder that a process is in
        registry = self.registry or f"sqlite:///{self.path.absolute() / 'data' / 'registry.sqlite'}"
        return {
            "project": self.project,
            "provider": "local",
            "registry": {"registry_type": "sql", "path": registry},
            "online_store": store,
            "offline_store": {"type": OFFLINE_STORE},
            "entity_key_serialization_version": 3,
        }

    @classmethod
    def of(
        cls, case: str, home: Path, namespace: str, online_store: str, registry: str | None
    ) -> RepositoryLocation:
        """That of a case within a namespace, below driftline's home."""
        qualified = f"{namespace}.{case}" if namespace else case
        return cls(home / "feast" / qualified, project_of(qualified), online_store, registry)

    @classmethod
    def from_settings(cls, case: str) -> RepositoryLocation:
        """By the settings of this process; raises SettingsError."""
        from driftline.setting_sources import read
        from driftline.settings import SettingValues

        now = read(SettingValues)
        return cls.of(case, now.home, now.namespace, now.online_store, now.registry)
