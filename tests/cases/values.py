"""Values of every sort that a declaration may hold."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import logging
import operator
import pathlib
import random
import re
import typing
import uuid
import zoneinfo
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

LOG = logging.getLogger("mine")
FRAME = pd.DataFrame({"a": [1, 2]})
PATTERN = re.compile("a+")


class Pair(typing.NamedTuple):
    x: int = 3


class Flags(enum.Flag):
    A = 1
    B = 2


class Typed(typing.TypedDict):
    a: int


class Slots:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a = 1


class Estimator:
    """Draws from a generator that is part of its state."""

    def __init__(self) -> None:
        self.rng = random.Random(3)

    def learn_one(self, x: Any, y: Any) -> None: ...


class Cyclic:
    def __init__(self) -> None:
        self.me = self
        self.bound = self.method

    def method(self) -> Cyclic:
        return self


@dataclass(frozen=True, slots=True)
class Frozen:
    a: int = 1
    f: object = min


def recursive(n: int) -> int:
    return n and recursive(n - 1)


def enclosing() -> Any:
    def inner(n: int) -> int:
        return inner(n - 1) if n else 0

    return inner


async def coroutine(x: Any) -> Any:
    return x


def using(x: Any) -> Any:
    LOG.warning("%s", pd.concat([FRAME]))
    return PATTERN, Pair, Flags.A | Flags.B, Typed, [y + 1 for y in x]


declared = [
    using,
    Pair(4),
    Flags.A | Flags.B,
    Slots(),
    Estimator(),
    Cyclic(),
    Frozen(),
    recursive,
    enclosing(),
    coroutine,
    operator.attrgetter("a"),
    collections.Counter("aab"),
    collections.defaultdict(list, a=[1]),
    datetime.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
    datetime.timedelta(1),
    decimal.Decimal("1.5"),
    fractions.Fraction(1, 3),
    pathlib.Path("/x"),
    uuid.UUID(int=3),
    range(3),
    frozenset({min, max, str.upper}),
    "a".join,
    np.exp,
    np.dtype("f4"),
    np.array(["a", None], dtype=object),
    functools.partial(min, key=len),
    int | None,
    float("nan"),
    object(),
]
