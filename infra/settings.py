"""Settings, from the environment: every name starts with DRIFTLINE_."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from driftline.features.feast.place import RepositoryPlace
from driftline.infra.errors import InfraError


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are.

    `home` keeps the local broker's data, the Feast repositories and reports; `bootstrap` names a
    Kafka to use instead of the local one (None: the local one); `namespace` prefixes topics, groups
    and Feast projects so that teams can share a cluster. `archive` and `checkpoints` are folders or
    pyarrow.fs URIs (None: below `home`); `key` seals checkpoints, 64 hex digits (None: one made
    below `home`). `online_store` is "sqlite" (a file below `home`) or the URL of a Redis, `registry` the
    URL of a database for Feast's registry (None: a SQLite file below `home`). `metrics` is the address,
    host:port, at which workers serve their metrics and health (None: nowhere).
    """

    home: Path
    bootstrap: str | None
    namespace: str
    archive: str | None = None
    checkpoints: str | None = None
    key: str | None = None
    online_store: str = "sqlite"
    registry: str | None = None
    metrics: str | None = None

    @classmethod
    def from_environment(cls) -> Settings:
        """DRIFTLINE_HOME (default ./.driftline), and DRIFTLINE_ with BOOTSTRAP, NAMESPACE, ARCHIVE,
        CHECKPOINTS, KEY, ONLINE_STORE, REGISTRY, METRICS."""
        return cls(
            home=Path(os.environ.get("DRIFTLINE_HOME", ".driftline")).absolute(),
            bootstrap=os.environ.get("DRIFTLINE_BOOTSTRAP") or None,
            namespace=os.environ.get("DRIFTLINE_NAMESPACE", ""),
            archive=os.environ.get("DRIFTLINE_ARCHIVE") or None,
            checkpoints=os.environ.get("DRIFTLINE_CHECKPOINTS") or None,
            key=os.environ.get("DRIFTLINE_KEY") or None,
            online_store=os.environ.get("DRIFTLINE_ONLINE_STORE") or "sqlite",
            registry=os.environ.get("DRIFTLINE_REGISTRY") or None,
            metrics=os.environ.get("DRIFTLINE_METRICS") or None,
        )

    def qualified(self, case: str) -> str:
        """A case's name within its namespace."""
        return f"{self.namespace}.{case}" if self.namespace else case

    def archive_uri(self, case: str) -> str:
        """Where the archive of a case is; one named in the settings holds every case's topics."""
        return self.archive or str(self.home / "archive" / self.qualified(case))

    def checkpoints_uri(self, case: str) -> str:
        """Where the checkpoints of a case are."""
        if self.checkpoints is not None:
            return _below(self.checkpoints, self.qualified(case))
        return str(self.home / "checkpoints" / self.qualified(case))

    def see_that_home_is_writable(self) -> None:
        """Raises InfraError when nothing can be written to `home`, where a worker makes what it lacks."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.home) as probe:
                probe.write(b"driftline")
        except OSError as error:
            raise InfraError(
                f"{self.home} cannot be written to: {error}. A worker keeps its status, key, checkpoints and "
                "Feast repository there: make room or give access, or name another folder in DRIFTLINE_HOME"
            ) from error

    @property
    def key_file(self) -> Path:
        """Where the sealing key is kept when the environment names none."""
        return self.home / "checkpoints.key"

    def features(self, case: str) -> RepositoryPlace:
        """Where a case's Feast repository and online store are."""
        return RepositoryPlace.of(case, self.home, self.namespace, self.online_store, self.registry)


def _below(place: str, name: str) -> str:
    """A folder below a folder or URI; the options of a URI stay at its end."""
    if "://" not in place:
        return f"{place.rstrip('/')}/{name}"
    parts = urlsplit(place)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()
