"""A spec hash changes with whatever a declaration's functions do, and with nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import invalidate_caches
from pathlib import Path

import pytest

HELPERS = "def scaled(x): return x * SCALE\nSCALE = 2.0\nOTHER = 1\n"
DECLARED = """\
import math
import helpers
LIMIT = 3.0
NAMES = {"a", "b", "c"}
UNUSED = 1

def bounded(x):
    return min(x, LIMIT)

class Rule:
    factor = 2
    def __init__(self, by): self.by = by
    def __repr__(self): return f"Rule({self.by})"
    def __call__(self, x): return self.again(x)
    def again(self, x): return bounded(x) + self.by

def value(x, extra=1):
    inner = lambda y: bounded(y) + (0.5 if y in NAMES else 0)
    return math.floor(inner(helpers.scaled(x))) + extra

declared = {"function": value, "rule": Rule(4), "names": frozenset(NAMES)}
"""
PROGRAM = """\
import sys; sys.path.insert(0, sys.argv[1])
import declared
from streams.specification import described
print(described(declared.declared))
"""


def told(folder: Path, declared: str = DECLARED, helpers: str = HELPERS, seed: int = 0) -> str:
    """The description in a process of its own, as another worker would make it."""
    (folder / "declared.py").write_text(declared)
    (folder / "helpers.py").write_text(helpers)
    invalidate_caches()
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM, str(folder)],
        env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": root},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout


def test_every_process_says_the_same(tmp_path: Path) -> None:
    assert told(tmp_path, seed=1) == told(tmp_path, seed=2)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 3.0", "LIMIT = 4.0"),
        ("min(x, LIMIT)", "max(x, LIMIT)"),
        ('{"a", "b", "c"}', '{"a", "b", "d"}'),
        ("+ self.by", "- self.by"),
        ("Rule(4)", "Rule(5)"),
        ("extra=1", "extra=2"),
        ("0.5 if", "0.6 if"),
    ],
)
def test_what_a_function_uses_is_told(tmp_path: Path, before: str, after: str) -> None:
    changed = DECLARED.replace(before, after)
    assert changed != DECLARED
    assert told(tmp_path, changed) != told(tmp_path)


@pytest.mark.parametrize(("before", "after"), [("SCALE = 2.0", "SCALE = 2.5"), ("x * SCALE", "x + SCALE")])
def test_what_it_uses_of_another_module_is_told(tmp_path: Path, before: str, after: str) -> None:
    changed = HELPERS.replace(before, after)
    assert changed != HELPERS
    assert told(tmp_path, helpers=changed) != told(tmp_path)


def test_what_it_does_not_use_is_not(tmp_path: Path) -> None:
    others = told(tmp_path, DECLARED.replace("UNUSED = 1", "UNUSED = 2"), HELPERS.replace("OTHER = 1", ""))
    assert others == told(tmp_path)
