"""Frameworks that are installed separately. Their requirements conflict with driftline's, and would change
the code hash of every case, which has the versions of packages."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path

_FOLDER = Path(sys.prefix) / "frameworks"


def folder(package: str) -> Path:
    """The folder where `make bench` installs a package with its requirements. Each package has one, as they
    require different versions of the same libraries. Only a peer's own process imports from it."""
    return _FOLDER / package


def version(package: str) -> str | None:
    """The version of a package among driftline's own or in its separate folder; None if it is not
    installed."""
    found = distributions(name=package, path=[*sys.path, str(folder(package))])
    return next((distribution.version for distribution in found), None)
