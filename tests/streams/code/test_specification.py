"""A spec hash changes with whatever a declaration's functions do, and with nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from driftline.streams.code.specification import described
from driftline.streams.errors import Undescribable

HELPERS = "def scaled(x): return x * SCALE\nSCALE = 2.0\nOTHER = 1\n"
LAZY = """\
import helpers
DEPTH = 4
UNUSED = 1

def built(y):
    from lazier import WEIGHT
    return helpers.scaled(y) * DEPTH * WEIGHT
"""
LAZIER = "WEIGHT = 0.5\n"
DECLARED = """\
import enum
import functools
import math
from dataclasses import dataclass, field
import msgspec
import numpy as np
import helpers
from river import compose, linear_model, preprocessing

LIMIT = 3.0
NAMES = {"a", "b", "c"}
UNUSED = 1
TABLE = np.array([1.0, 2.0, 3.0])
CUTOFF = np.float32(0.25)

class Level(enum.Enum):
    LOW = 1
    HIGH = 2
    @property
    def doubled(self): return 2 * self.value

def bounded(x):
    return min(x, LIMIT)

class Base:
    share = 0.75

class Rule(Base):
    factor = 2
    bounds: "float" = 9.5
    def __init__(self, by): self.by = by
    def __repr__(self): return f"Rule({self.by})"
    def __call__(self, x): return self.again(x) * self.factor * self.half
    def again(self, x): return bounded(x) + self.by
    @property
    def half(self): return self.by / 2.0
    @functools.cached_property
    def third(self): return self.by / 3.0
    @classmethod
    def of(cls, by): return cls(by * 1.5)
    @staticmethod
    def zero(): return 0.125

@dataclass
class Setting:
    rate: float = 0.0625
    names: list = field(default_factory=lambda: ["x", "y"])

class Point(msgspec.Struct):
    x: float = 7.25
    def norm(self): return abs(self.x) + 0.375

def louder(by):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args) * by
        return wrapper
    return decorate

@louder(1.25)
def decorated(x): return x - 0.875

@functools.lru_cache
def cached(x): return x + 11

@functools.singledispatch
def kind_of(x): return "any"
@kind_of.register
def _(x: int): return "whole"

def makes():
    import lazy
    from lazy import built as built_anew
    return lambda y: lazy.built(y) + built_anew(y)

def made(by):
    def inner(x): return x + by
    return inner

def value(x, extra=1):
    inner = lambda y: bounded(y) + (0.5 if y in NAMES else 0)
    if x is Level.HIGH or x > TABLE.sum() + CUTOFF: return Setting().rate + Point().norm()
    return math.floor(inner(helpers.scaled(x))) + extra + decorated(x) + cached(x) + len(kind_of(x))

def model():
    selected = compose.SelectType(float, int) | preprocessing.StandardScaler()
    return selected | linear_model.LogisticRegression(l2=0.5)

one, two = (lambda x: x + 21), (lambda x: x + 22)
declared = {
    "function": value, "rule": Rule(4), "names": frozenset(NAMES), "lazy": makes, "closure": made(31),
    "partial": functools.partial(value, extra=41), "method": Rule(5).again, "lambda": one, "model": model(),
}
"""
PROGRAM = """\
import json, sys
from hashlib import sha256
from importlib import import_module, invalidate_caches
from pathlib import Path
from driftline.streams.code.specification import described
folder = Path(sys.argv[1]); sys.path.insert(0, str(folder))
found = []
for sources in json.load(sys.stdin):
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
    invalidate_caches()
    text = described(import_module("declared").declared)
    found.append(sha256(text.encode()).hexdigest())
print(json.dumps(found))
"""
SOURCES = {"helpers": HELPERS, "lazy": LAZY, "lazier": LAZIER, "declared": DECLARED}
USED = [
    ("declared", "LIMIT = 3.0", "LIMIT = 4.0"),
    ("declared", "min(x, LIMIT)", "max(x, LIMIT)"),
    ("declared", '{"a", "b", "c"}', '{"a", "b", "d"}'),
    ("declared", "+ self.by", "- self.by"),
    ("declared", "Rule(4)", "Rule(5.5)"),
    ("declared", "extra=1", "extra=2"),
    ("declared", "0.5 if", "0.6 if"),
    ("declared", "factor = 2", "factor = 3"),
    ("declared", "share = 0.75", "share = 0.8"),
    ("declared", "= 9.5", "= 9.6"),
    ("declared", "self.by / 2.0", "self.by / 2.5"),
    ("declared", "self.by / 3.0", "self.by / 3.5"),
    ("declared", "by * 1.5", "by * 1.6"),
    ("declared", "return 0.125", "return 0.25"),
    ("declared", "HIGH = 2", "HIGH = 3"),
    ("declared", "2 * self.value", "3 * self.value"),
    ("declared", "[1.0, 2.0, 3.0]", "[1.0, 2.0, 3.5]"),
    ("declared", "np.float32(0.25)", "np.float32(0.5)"),
    ("declared", "rate: float = 0.0625", "rate: float = 0.0626"),
    ("declared", '["x", "y"]', '["x", "z"]'),
    ("declared", "x: float = 7.25", "x: float = 7.5"),
    ("declared", "+ 0.375", "+ 0.376"),
    ("declared", "@louder(1.25)", "@louder(1.5)"),
    ("declared", "function(*args) * by", "function(*args) + by"),
    ("declared", "x - 0.875", "x - 0.876"),
    ("declared", "x + 11", "x + 12"),
    ("declared", '"whole"', '"full"'),
    ("declared", "made(31)", "made(32)"),
    ("declared", "extra=41", "extra=42"),
    ("declared", "Rule(5).again", "Rule(6).again"),
    ("declared", '"lambda": one', '"lambda": two'),
    ("declared", "SelectType(float, int)", "SelectType(float)"),
    ("declared", "l2=0.5", "l2=0.25"),
    ("declared", "lazy.built(y) + built_anew(y)", "lazy.built(y) - built_anew(y)"),
    ("helpers", "SCALE = 2.0", "SCALE = 2.5"),
    ("helpers", "x * SCALE", "x + SCALE"),
    ("lazy", "DEPTH = 4", "DEPTH = 5"),
    ("lazier", "WEIGHT = 0.5", "WEIGHT = 0.75"),
]
UNUSED = [
    ("declared", "UNUSED = 1", "UNUSED = 2  # of no interest"),
    ("declared", "import enum", "# moved down\n\nimport enum"),
    ("helpers", "OTHER = 1", ""),
    ("lazy", "UNUSED = 1", "UNUSED = 3"),
]


def hashes(folder: Path, variants: list[dict[str, str]], seed: int) -> list[str]:
    """Of the descriptions in a process of its own, as another worker would make them."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM, str(folder)],
        env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(Path(__file__).parents[3])},
        input=json.dumps(variants),
        capture_output=True,
        check=True,
        text=True,
    )
    found: list[str] = json.loads(done.stdout)
    return found


def changed(module: str, before: str, after: str) -> dict[str, str]:
    """The sources with one place changed."""
    text = SOURCES[module].replace(before, after, 1)
    assert text != SOURCES[module]
    return SOURCES | {module: text}


@pytest.fixture(scope="module")
def hash_of(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str] | None, str]:
    """The hash of each variant; that of the sources as they stand under None."""
    changes = [*USED, *UNUSED]
    variants = [SOURCES, *(changed(*change) for change in changes)]
    return dict(zip([None, *changes], hashes(tmp_path_factory.mktemp("variants"), variants, 1), strict=True))


def test_every_process_says_the_same(hash_of: dict[Any, str], tmp_path: Path) -> None:
    assert hashes(tmp_path, [SOURCES], 2) == [hash_of[None]]


def test_values_of_every_sort_are_described_alike_in_every_process(tmp_path: Path) -> None:
    values = {"declared": (Path(__file__).parents[2] / "cases" / "values.py").read_text()}
    assert hashes(tmp_path, [values], 1) == hashes(tmp_path, [values], 2)


@pytest.mark.parametrize("change", USED, ids=" -> ".join)
def test_what_a_function_uses_is_described_also_when_it_is_imported_at_the_call(
    hash_of: dict[Any, str], change: tuple[str, str, str]
) -> None:
    assert hash_of[change] != hash_of[None]


@pytest.mark.parametrize("change", UNUSED, ids=" -> ".join)
def test_what_it_does_not_use_is_not_nor_comments_and_places(
    hash_of: dict[Any, str], change: tuple[str, str, str]
) -> None:
    assert hash_of[change] == hash_of[None]


def test_an_estimator_that_has_learned_before_is_distinguished_from_a_new_one() -> None:
    from river import linear_model

    new, trained = linear_model.LogisticRegression(), linear_model.LogisticRegression()
    trained.learn_one({"x": 1.0}, True)
    assert described(new) == described(linear_model.LogisticRegression())
    assert described(new) != described(trained)


LOCKED = """\
import threading
LOCK = threading.Lock()
def value(x):
    with LOCK: return x
declared = {"rule": value}
"""
RUN = "def value(x): return eval('x + 1')\ndeclared = [value]\n"
CHOSEN = "import importlib\ndef value(x): return importlib.import_module('m').scaled(x)\ndeclared = [value]\n"
DRAWN = "import random\nRNG = random.Random(1)\ndef value(x): return RNG.random()\ndeclared = [value]\n"
DRAWN_BY_PYTHON = "from random import random\ndef value(x): return random()\ndeclared = [value]\n"
STREAM = "declared = {'rows': (n for n in range(3))}\n"


@pytest.mark.parametrize(
    ("source", "where", "what"),
    [
        (LOCKED, "['rule'] > function value > global LOCK", "lock"),
        (RUN, "[0] > function value", "it calls eval"),
        (CHOSEN, "[0] > function value", "what it imports is known when it runs"),
        (DRAWN, "[0] > function value > global RNG", "it would draw other numbers"),
        (DRAWN_BY_PYTHON, "[0] > function value > global random", "it would draw other numbers"),
        (STREAM, "['rows']", "generator"),
    ],
    ids=["lock", "eval", "import_module", "random numbers", "Python's random numbers", "generator"],
)
def test_what_cannot_be_described_is_refused_by_name(source: str, where: str, what: str) -> None:
    module: dict[str, object] = {"__name__": "declared_here"}
    exec(source, module)
    with pytest.raises(Undescribable) as refused:
        described(module["declared"])
    assert str(refused.value).startswith(where)
    assert what in str(refused.value)
    assert "Make it within the function" in str(refused.value)


def test_a_package_of_the_users_is_described_wherever_it_is_installed() -> None:
    import json.scanner  # stands for one that lies among the installed packages

    declared = {"scan": json.scanner.py_make_scanner}
    assert len(described(declared, ["json"])) > len(described(declared))


def test_what_pickling_notes_in_a_class_is_no_part_of_it() -> None:
    class Plain:
        def learn_one(self, x: object) -> None:
            pass

    before = described(Plain, frozenset({__name__.partition(".")[0]}))
    Plain().__reduce_ex__(2)  # as pickle asks: copyreg keeps the names of slots in the class
    assert "__slotnames__" in vars(Plain)
    assert described(Plain, frozenset({__name__.partition(".")[0]})) == before
