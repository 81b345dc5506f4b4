"""Frameworks that are installed apart: what they require is not what driftline requires, and among
driftline's own packages it would make another case of every case (their versions are in its code's hash)."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path

_FOLDER = Path(sys.prefix) / "frameworks"


def folder(package: str) -> Path:
    """Where `make bench` installs a package, with what it requires: each apart from the others too, as they
    require other versions of the same things. Only a peer's own process looks there."""
    return _FOLDER / package


def version(package: str) -> str | None:
    """The version of a package among driftline's own or apart, None where there is none."""
    found = distributions(name=package, path=[*sys.path, str(folder(package))])
    return next((distribution.version for distribution in found), None)
