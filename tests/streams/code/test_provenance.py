"""Whose code a module is, in a Python environment of its own, by each way to put a package on the path."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ASKED = (
    "import importlib, sys; from driftline.streams.code.provenance import is_users, is_users_file, release;"
    "found = importlib.util.find_spec('ware');"
    "before = is_users_file('ware', found.origin, found.submodule_search_locations);"
    "importlib.import_module('ware.part');"
    "print(before, is_users('ware'), is_users('ware.part'), release('ware'))"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that finds driftline, and what it needs, by a .pth file."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (site(folder) / "driftline.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    return folder


def site(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))


def package(folder: Path) -> Path:
    """The package `ware` in a folder."""
    (folder / "ware").mkdir(parents=True)
    (folder / "ware" / "__init__.py").write_text("")
    (folder / "ware" / "part.py").write_text("def answer():\n    return 42\n")
    return folder


def record(folder: Path, *files: str) -> None:
    """What an installer leaves in a folder."""
    info = folder / "ware-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ware\nVersion: 1.5\n")
    (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))


def installed(folder: Path) -> Path:
    """As `pip install --target` leaves it."""
    record(package(folder), "ware/__init__.py", "ware/part.py", "ware-1.5.dist-info/RECORD")
    return folder


def asked(environment: Path, *path: Path) -> str:
    """Whether `ware` is the user's: before it is imported, the package, its module; and its release."""
    done = subprocess.run(
        [environment / "bin" / "python", "-c", ASKED],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))},
        cwd=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def by_pth(environment: Path, folder: Path) -> str:
    file = site(environment) / "other.pth"
    file.write_text(f"{folder}\n")
    try:
        return asked(environment)
    finally:
        file.unlink()


LIBRARY = "False False False 1.5"


def test_a_folder_that_a_pth_file_names_holds_libraries_where_an_installer_says_so(
    environment: Path, tmp_path: Path
) -> None:
    assert by_pth(environment, installed(tmp_path)) == LIBRARY


def test_so_does_one_of_pythonpath(environment: Path, tmp_path: Path) -> None:
    assert asked(environment, installed(tmp_path)) == LIBRARY


def test_dist_packages_are_libraries_with_or_without_a_record(environment: Path, tmp_path: Path) -> None:
    """Debian's python3-ware has an egg-info file alone."""
    folder = package(tmp_path / "python3" / "dist-packages")
    (folder / "ware-1.5.egg-info").write_text("Metadata-Version: 2.1\nName: ware\nVersion: 1.5\n")
    assert by_pth(environment, folder) == LIBRARY


def test_a_project_that_is_installed_as_editable_is_the_users(environment: Path, tmp_path: Path) -> None:
    folder = site(environment)
    record(folder, "other.pth")
    try:
        assert by_pth(environment, package(tmp_path / "src")).startswith("True True True")
    finally:
        subprocess.run(["rm", "-r", folder / "ware-1.5.dist-info"], check=True)


def test_so_is_one_with_the_egg_info_of_its_own_build(environment: Path, tmp_path: Path) -> None:
    info = package(tmp_path) / "ware.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: ware\nVersion: 1.5\n")
    (info / "SOURCES.txt").write_text("ware/__init__.py\nware/part.py\n")
    assert asked(environment, tmp_path).startswith("True True True")


def test_code_beside_libraries_in_one_folder_is_the_users(environment: Path, tmp_path: Path) -> None:
    record(package(tmp_path), "another.py")
    assert asked(environment, tmp_path).startswith("True True True")


def test_this_environment_s_own_libraries_are_libraries() -> None:
    code = (
        "import driftline.declaration_check, json, river.stats;"
        "from driftline.streams.code.provenance import is_users;"
        "print(is_users('river.stats'), is_users('json'), is_users('driftline.declaration_check'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]
