"""The numeric fingerprint. Folds with equal fingerprints give the same bits; others cannot be compared.

Four things decide the bits of a prediction besides code and events: Python's minor version (`sum` of floats
changed from 3.11 to 3.12), the machine's libm and BLAS (both pick their routines by CPU: with FMA masked,
`exp` and `log` round differently), the versions of the libraries that a fold runs, and the hash seed.
"""

from __future__ import annotations

import hashlib
import math
import struct
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from driftline.streams.code.hash_seed import SEED, VARIABLE, hashing

_Floats = NDArray[Any]

FOLDED = ("cryptography", "mmh3", "msgspec", "numpy", "river", "scipy", "tzdata")
"""The distributions that a fold runs, together with their requirements: arithmetic and models, the JSON of
records, partitioning, signatures of commands, time zones. The libraries that a user's functions use are in
the declaration's description, with their versions. No other package decides a byte."""

_DTYPES: tuple[type[np.floating[Any]], ...] = (np.float64, np.float32)
_POINTS = 400
_SIDE = 24  # matrices of 24 x 24: below the size at which BLAS shares the work among threads


class Fingerprint(msgspec.Struct, frozen=True, omit_defaults=True):
    """Python's minor version, a hash of results of arithmetic on this machine, a hash of the versions of the
    packages that a fold runs, and a mark of any hash seed other than that of folds
    (`driftline.streams.code.hash_seed`)."""

    python: str
    arithmetic: str
    packages: str
    hashing: str = ""

    @property
    def short(self) -> str:
        """For people and tables: `3.11/1f0c9a2b/77d3e01c`."""
        hashing = f"/hash seed {self.hashing}" if self.hashing else ""
        return f"{self.python}/{self.arithmetic[:8]}/{self.packages[:8]}{hashing}"

    def __str__(self) -> str:
        return self.short

    def difference(self, other: Fingerprint) -> str | None:
        """The differences from `other` in words; None when the bits can be compared."""
        differences = []
        if self.python != other.python:
            differences.append(f"python {self.python} / {other.python}")
        if self.arithmetic != other.arithmetic:
            differences.append("other arithmetic (libm or BLAS)")
        if self.packages != other.packages:
            differences.append("other package versions")
        if self.hashing != other.hashing:
            differences.append(f"another hash seed (set {VARIABLE}={SEED} before Python starts)")
        return ", ".join(differences) or None


@cache
def numeric_fingerprint() -> Fingerprint:
    """This process's fingerprint, from the installed packages and the CPU's results, not from a lock file."""
    return Fingerprint(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        arithmetic=_arithmetic(),
        packages=_packages(FOLDED),
        hashing=hashing(),
    )


def _uniform(count: int) -> list[float]:
    """Fixed numbers in (0, 1) from Knuth's MMIX congruence, so that the probe needs no library's
    generator."""
    state, numbers = 20130101, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        numbers.append(((state >> 11) + 0.5) / 2**53)
    return numbers


def _arithmetic() -> str:
    """sha256 over the bits of some thousands of results of libm, numpy and BLAS."""
    points = _uniform(_POINTS)
    probe = hashlib.sha256()
    results = list(_libm(points))
    probe.update(struct.pack(f"<{len(results)}d", *results))
    for array in _vectorised(points):
        probe.update(array.tobytes())
    for array in _blas(_uniform(2 * _SIDE * _SIDE)):
        probe.update(array.tobytes())
    return probe.hexdigest()


def _libm(points: list[float]) -> Iterator[float]:
    for u in points:
        x = 40.0 * u - 20.0
        yield from (math.exp(x), math.expm1(x), math.tanh(x / 8.0), math.atan(x), math.erf(x / 8.0))
        yield from (math.sin(x), math.cos(x), math.tan(x), math.sinh(x), math.cosh(x))
        yield from (math.log(u), math.log1p(u), math.log2(u), math.log10(u), math.sqrt(u), math.asin(u))
        yield from (math.pow(0.5 + u, x), math.hypot(u, x), math.gamma(1.0 + u), math.lgamma(u))
    yield math.fsum(points)
    yield sum(points)


def _vectorised(points: list[float]) -> Iterator[_Floats]:
    """Results of numpy's own loops; also of float32, which has other loops."""
    for dtype in _DTYPES:
        u: _Floats = np.array(points, dtype)
        x: _Floats = 40.0 * u - 20.0
        yield from (np.exp(x), np.expm1(x), np.tanh(x), np.sin(x), np.cos(x), np.arctan(x))
        yield from (np.log(u), np.log1p(u), np.log2(u), np.sqrt(u), np.power(0.5 + u, x), np.reciprocal(u))
        yield np.stack((u.sum(), x.sum(), u.mean(), u.var(), x.std(), np.hypot(u, x).sum()))


def _blas(numbers: list[float]) -> Iterator[_Floats]:
    for dtype in _DTYPES:
        matrices: _Floats = np.array(numbers, dtype).reshape(2, _SIDE, _SIDE)
        left, right = matrices
        yield from (left @ right, left @ right.T, left @ right[0], right[0] @ left)
        yield np.stack([left[row, : row + 1] @ right[row, : row + 1] for row in range(_SIDE)])
        yield np.atleast_1d(left.ravel() @ right.ravel())
        yield np.linalg.solve(left + _SIDE * np.eye(_SIDE, dtype=dtype), right)


def _packages(roots: Sequence[str]) -> str:
    """sha256 over the sorted `name==version` of the installed roots and of everything they require, directly
    or not."""
    environment = {name: str(value) for name, value in default_environment().items()}
    versions: dict[str, str] = {}
    waiting = [(root, "") for root in roots]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        try:
            versions[name], requirements = _installed(name)
        except PackageNotFoundError:
            versions[name] = "absent"
            continue
        for line in requirements:
            if not extra and "extra ==" in line:
                continue  # most requirements are of extras that are not used, and parsing them is slow
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate(environment | {"extra": extra}):
                continue
            canonical = canonicalize_name(requirement.name)
            wanted = {(canonical, ""), *((canonical, asked) for asked in requirement.extras)} - seen
            seen |= wanted
            waiting.extend(wanted)
    lines = sorted(f"{name}=={version}" for name, version in versions.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _installed(name: str) -> tuple[str, list[str]]:
    """Version and requirements. Only the head of the metadata is read: a full parse of 110 costs 100 ms."""
    installed = distribution(name)
    metadata = installed.read_text("METADATA")
    if metadata is None:  # installed without a wheel
        return installed.version, installed.requires or []
    fields = [line.partition(": ") for line in metadata.partition("\n\n")[0].splitlines()]
    (version,) = (value for field, _, value in fields if field == "Version")
    return version, [value for field, _, value in fields if field == "Requires-Dist"]
