"""Settings as the command line and workers use them: where the things of a case are, by its name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from driftline.features.feast.repository_location import RepositoryLocation
from driftline.infra.errors import InfraError
from driftline.setting_sources import read
from driftline.settings import SettingValues


class Settings(SettingValues):
    """The settings, and the places that follow from them for a case."""

    @classmethod
    def read(cls) -> Settings:
        """Those of this process; raises SettingsError."""
        return read(cls)

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
        """Raises InfraError when nothing can be written to `home`, where a worker creates missing folders."""
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
        """Where the sealing key is kept when the settings name none."""
        return self.home / "checkpoints.key"

    def features(self, case: str) -> RepositoryLocation:
        """Where a case's Feast repository and online store are."""
        return RepositoryLocation.of(case, self.home, self.namespace, self.online_store, self.registry)


def _below(place: str, name: str) -> str:
    """A folder below a folder or URI; the options of a URI stay at its end."""
    if "://" not in place:
        return f"{place.rstrip('/')}/{name}"
    parts = urlsplit(place)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()
