"""Whose code a module is: the user's, which is described by what it says, or a library's, by its version.

A library is what an installer has put where it is: Python's own folders, a folder of packages
(site-packages, Debian's dist-packages, an egg), or any other folder of the path that an installer's record
beside the module says it of (`pip install --target`). A project that is installed as editable is the user's:
its record lies elsewhere.
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
"""Folders of driftline itself, whose version is part of the code. Its examples are as users write them."""

EXAMPLES = "driftline.examples."
_OF_PACKAGES = {"site-packages", "dist-packages"}


def module_of(value: Any) -> str:
    """The name of the module that a module, function or class is from; empty where nothing says."""
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, FunctionType):  # a decorator may have given it another's __module__
        return str(value.__globals__.get("__name__") or "")
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""


@cache
def is_users(name: str) -> bool:
    """Whether a module is the user's: neither installed, nor Python's, nor driftline's.

    The examples are, wherever driftline is installed: they are declared and changed as a user's are.
    """
    if name.startswith(EXAMPLES):
        return True
    if name.partition(".")[0] in sys.stdlib_module_names:
        return False
    module = sys.modules.get(name)
    if module is None or name == "__main__":
        return True  # made by the user's code, as it runs
    places = [file] if (file := getattr(module, "__file__", None)) else list(getattr(module, "__path__", ()))
    # Cython and other compilers make modules without any place
    return bool(places) and not any(is_ours(path) or _is_installed(path) for path in map(_resolved, places))


def _resolved(place: str) -> Path:
    return Path(place).resolve()


def is_ours(path: Path) -> bool:
    """Whether a file is driftline's own."""
    return any(path.is_relative_to(SOURCE_FOLDER / folder) for folder in OWN_FOLDERS)


@cache
def release(name: str) -> str:
    """The version of the library that a module is of; empty for Python's own and driftline's, which the
    fingerprint and the fold's version tell."""
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
    """Distributions by top-level package: 100 ms, so only for a library whose name is not its package's."""
    return packages_distributions()


def is_users_file(name: str, origin: str | None, folders: Sequence[str] | None) -> bool:
    """`is_users` of a module that is not imported yet, from where it would be found."""
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
    """The files that installers have put into a folder of the path, and the folders of these files.

    Only a *.dist-info has a record of them: the *.egg-info of a project's own folder lists its sources.
    """
    found: set[Path] = set()
    for record in folder.glob("*.dist-info/RECORD"):
        with record.open(encoding="utf-8", newline="") as lines:
            for name, *_ in csv.reader(lines):
                file = Path(os.path.normpath(folder / name))
                found.add(file)
                found.update(parent for parent in file.parents if parent.is_relative_to(folder))
    return frozenset(found - {folder})
