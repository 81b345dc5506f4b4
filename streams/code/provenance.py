"""Whether a module is the user's code, which is described by its content, or a library's, described by its
version.

A library is a module that an installer put in place: in Python's own folders, in a folder of packages
(site-packages, Debian's dist-packages, an egg), or in any other folder of the path with an installer's record
beside the module (`pip install --target`). A project that is installed as editable is the user's: its record
is elsewhere.
"""

from __future__ import annotations

import csv
import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

SOURCE_FOLDER = Path(__file__).resolve().parents[2]
OWN_FOLDERS = ("driftline", "streams", "features", "online_models", "infra")
"""Folders of driftline itself, whose version is part of the code. Its examples count as a user's code."""

EXAMPLES = "driftline.examples."
_OF_PACKAGES = {"site-packages", "dist-packages"}


def module_of(value: Any) -> str:
    """The name of the module that a module, function or class comes from; empty if unknown."""
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, FunctionType):  # a decorator may have given it another's __module__
        return str(value.__globals__.get("__name__") or "")
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""


@cache
def is_users(name: str) -> bool:
    """Whether a module is the user's: neither installed, nor Python's, nor driftline's.

    The examples count as the user's wherever driftline is installed, since users declare and change them.
    """
    if name.startswith(EXAMPLES):
        return True
    if name.partition(".")[0] in sys.stdlib_module_names:
        return False
    module = sys.modules.get(name)
    if module is None or name == "__main__":
        return True  # created by the user's code at run time
    places = [file] if (file := getattr(module, "__file__", None)) else list(getattr(module, "__path__", ()))
    # modules of Cython and other compilers may have no file
    return bool(places) and not any(is_ours(path) or _is_installed(path) for path in map(_resolved, places))


def _resolved(place: str) -> Path:
    return Path(place).resolve()


def is_ours(path: Path) -> bool:
    """Whether a file is driftline's own."""
    return any(path.is_relative_to(SOURCE_FOLDER / folder) for folder in OWN_FOLDERS)


@cache
def release(name: str) -> str:
    """The version of a module's library. Empty for Python's own modules and driftline's: their versions are
    in the fingerprint and in the fold's version."""
    top = name.partition(".")[0]
    if not top or top in sys.stdlib_module_names or top == "driftline":
        return ""
    try:
        return version(top)
    except PackageNotFoundError:
        packages = sorted(set(_distributions().get(top, ())))
        return ",".join(f"{package}=={version(package)}" for package in packages)


@cache
def _distributions() -> Mapping[str, Sequence[str]]:
    """Distributions by top-level package. It takes 100 ms, so it is used only for a library whose name
    differs from its package's."""
    return packages_distributions()


def is_users_file(name: str, origin: str | None, folders: Sequence[str] | None) -> bool:
    """`is_users` for a module that is not imported yet, by where it would be found."""
    if name in sys.stdlib_module_names:
        return False
    places = [Path(place).resolve() for place in ([origin] if origin else list(folders or ()))]
    return bool(places) and not any(is_ours(place) or _is_installed(place) for place in places)


def _is_installed(path: Path) -> bool:
    if any(part in _OF_PACKAGES or part.endswith(".egg") for part in path.parts):
        return True
    installed = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    if any(path.is_relative_to(Path(folder).resolve()) for folder in installed):
        return True
    above = {folder for entry in sys.path if path.is_relative_to(folder := _resolved(entry))}
    return any(path in _recorded(folder) for folder in above)


@cache
def _recorded(folder: Path) -> frozenset[Path]:
    """The files that installers put into a folder of the path, and the folders of these files.

    Only a *.dist-info is such a record: the *.egg-info in a project's own folder lists the project's sources.
    """
    found: set[Path] = set()
    for record in folder.glob("*.dist-info/RECORD"):
        with record.open(encoding="utf-8", newline="") as lines:
            for name, *_ in csv.reader(lines):
                file = Path(os.path.normpath(folder / name))
                found.add(file)
                found.update(parent for parent in file.parents if parent.is_relative_to(folder))
    return frozenset(found - {folder})
