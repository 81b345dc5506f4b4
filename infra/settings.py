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
    and Feast projects so that teams can share a cluster.
    """

    home: Path
    bootstrap: str | None
    namespace: str

    @classmethod
    def from_environment(cls) -> Settings:
        """DRIFTLINE_HOME (default ./.driftline), DRIFTLINE_BOOTSTRAP, DRIFTLINE_NAMESPACE."""
        return cls(
            home=Path(os.environ.get("DRIFTLINE_HOME", ".driftline")).absolute(),
            bootstrap=os.environ.get("DRIFTLINE_BOOTSTRAP") or None,
            namespace=os.environ.get("DRIFTLINE_NAMESPACE", ""),
        )

    def feast_repo(self, case: str) -> Path:
        """Folder of a case's Feast repository."""
        return self.home / "feast" / (f"{self.namespace}.{case}" if self.namespace else case)
