"""A worker's status file; a failure to write it never ends the worker."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from driftline.atomic_file import replacing
from driftline.features.online.transient_failures import Outage


class StatusFile:
    """Written whole or not at all; its folder is created again when it is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._outage: Outage | None = None
        self.before = self._ended()
        """How the previous process in the file's slot ended; None if it did not report that."""

    def _ended(self) -> dict[str, Any] | None:
        try:
            ended: dict[str, Any] | None = json.loads(self.path.read_text())["ended"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return ended

    def write(self, status: dict[str, Any]) -> None:
        """Write it, or log from time to time why that fails."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as file:
                file.write(json.dumps(status).encode())
        except OSError as error:
            if self._outage is None:
                self._outage = Outage(f"writing {self.path}")
            self._outage.failed(error)
        else:
            if self._outage is not None:
                self._outage.ended()
                self._outage = None


def ended(reason: str, *, failed: bool) -> dict[str, Any]:
    """The reason of the end in a last status."""
    return {"at": time.time(), "reason": reason, "failed": failed}
