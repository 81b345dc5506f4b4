"""Settings, from the environment: every name starts with DRIFTLINE_."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are.

    `home` keeps the local broker's data, the Feast repositories and reports; `bootstrap` names a
    Kafka to use instead of the local one (None: the local one); `namespace` prefixes topics, groups
    and Feast projects so that teams can share a cluster; `archive` is the folder or pyarrow.fs URI of
    the archive (None: below `home`, one a case).
    """

    home: Path
    bootstrap: str | None
    namespace: str
    archive: str | None = None

    @classmethod
    def from_environment(cls) -> Settings:
        """DRIFTLINE_HOME (default ./.driftline), and DRIFTLINE_ with BOOTSTRAP, NAMESPACE, ARCHIVE."""
        return cls(
            home=Path(os.environ.get("DRIFTLINE_HOME", ".driftline")).absolute(),
            bootstrap=os.environ.get("DRIFTLINE_BOOTSTRAP") or None,
            namespace=os.environ.get("DRIFTLINE_NAMESPACE", ""),
            archive=os.environ.get("DRIFTLINE_ARCHIVE") or None,
        )

    def archive_uri(self, case: str) -> str:
        """Where the archive of a case is; one named in the settings holds every case's topics."""
        return self.archive or str(
            self.home / "archive" / (f"{self.namespace}.{case}" if self.namespace else case)
        )

    def feast_repo(self, case: str) -> Path:
        """Folder of a case's Feast repository."""
        return self.home / "feast" / (f"{self.namespace}.{case}" if self.namespace else case)
