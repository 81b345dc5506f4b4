"""The examples of docstrings run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import driftline

ROOT = Path(__file__).parents[1]
PACKAGES = ("streams", "features", "online_models", "infra", "driftline")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules_with_examples() -> list[str]:
    """The modules of the product in whose text an example begins."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if ">>> " in path.read_text("utf-8"):
                parts = path.relative_to(ROOT).with_suffix("").parts
                found.append(".".join(parts if parts[0] == "driftline" else ("driftline", *parts)))
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_come_out_as_written(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.attempted > 0
    assert result.failed == 0


def test_every_public_name_has_an_example() -> None:
    without = {
        name
        for name in driftline.__all__
        if not isinstance(public := getattr(driftline, name), float)  # HOUR and its like are numbers
        if ">>> " not in (inspect.getdoc(public) or "")
    }
    assert without == set()
