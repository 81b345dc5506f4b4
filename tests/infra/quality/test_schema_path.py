"""Where the schema of a case's features is kept, unless --schema names a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from driftline.infra.quality.statistics import schema_path
from driftline.streams.declare.usecase import load_case

CASE = """
import driftline as dl

class Asked(dl.Event, tag="asked"): shop: str
class Answered(dl.Event, tag="answered"): shop: str; yes: bool

case = dl.UseCase(
    "asking", key="shop", events=[Asked, Answered], features={"shop": dl.field("shop")},
    task=dl.Binary("asking", ask=Asked, label=dl.Label(Answered, on="shop", value=lambda a: a.yes, wait=60)),
    models=dl.PerKey(champion=dl.Member("counts", dict)),
)
"""


@pytest.fixture
def current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in; modules imported from it are forgotten afterwards."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return folder


def declared_in(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(CASE)


@pytest.mark.parametrize("path", ["asked_cases.asking:case", "./asked_cases/asking.py:case"])
def test_the_schema_of_a_projects_case_is_beside_its_declaration(current: Path, path: str) -> None:
    declared_in(current / "asked_cases", "asking")
    case = load_case(path)
    assert schema_path(path, case) == current / "asked_cases" / "asking.schema.json"
    for name in ("asked_cases.asking", "asked_cases"):
        del sys.modules[name]


def test_the_schema_of_an_example_is_in_the_current_folder(current: Path) -> None:
    path = "driftline.examples.flights:flights"
    assert schema_path(path, load_case(path)).absolute() == current / "flights.schema.json"


def test_the_schema_of_an_installed_packages_case_is_in_the_current_folder(current: Path) -> None:
    installed = current.parent / "environment" / "site-packages"
    declared_in(installed, "installed_asking")
    sys.path.append(str(installed))
    path = "installed_asking:case"
    assert schema_path(path, load_case(path)).absolute() == current / "asking.schema.json"
    del sys.modules["installed_asking"]
