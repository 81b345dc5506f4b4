"""Which fold this is: the part of driftline's own code in the published bytes and the stored states.

A release records its version beside the sources it is of, in `fold.json`. Two releases whose fold puts out
the same bytes and keeps the same state share a version, so neither needs an upgrade after the other. A copy
whose sources are others (a patch, a development copy) has their hash in its version: it never goes on from
the states of a release, nor of another copy. `python -m tests.golden` writes the record.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

from driftline.streams.errors import StreamsError

FOLD_ROOTS = (
    "driftline.streams.fold.processor",
    "driftline.streams.fold.inheritance",
    "driftline.streams.records.positions",
    "driftline.online_models.members.reactions",
    "driftline.streams.stages.stage_fold",
)
"""The modules whose functions make the bytes that are put out, and the estimators that a declaration takes
from us; they and all they import are the fold."""
PACKAGES = ("streams", "features", "online_models")
PACKAGE_FOLDER = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("fold.json")

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|.*)|import[ \t]+(.*))", re.M)
_NAME = re.compile(r"[\w.]+")


class FoldRecord(msgspec.Struct, frozen=True):
    """What a release says of its fold: the version, the hash of its sources, and what it makes of the golden
    cases under the arithmetic named (digests by case and kind of output, and of the states)."""

    version: int
    sources: str
    arithmetic: str
    golden: dict[str, dict[str, str]]


def recorded() -> FoldRecord:
    """What the release that this copy is of, or was made from, has recorded."""
    return msgspec.json.decode(RECORD.read_bytes(), type=FoldRecord)


@cache
def fold_version() -> str:
    """The version of this fold: `3` as released, `3+0f2a9c41d07b` where the sources are others."""
    record, sources = recorded(), sources_hash()
    return str(record.version) if sources == record.sources else f"{record.version}+{sources[:12]}"


@cache
def sources_hash() -> str:
    """sha256 over the name and text of every module of the fold."""
    digest = hashlib.sha256()
    for name, path in sorted(modules_of_the_fold().items()):
        text = path.read_bytes().replace(b"\r\n", b"\n")  # as checked out on Windows
        digest.update(b"%s:%d:" % (name.encode(), len(text)))
        digest.update(text)
    return digest.hexdigest()


def modules_of_the_fold() -> dict[str, Path]:
    """File by name of every module that `FOLD_ROOTS` import, directly or not, themselves included."""
    modules: dict[str, Path] = {}
    waiting = list(FOLD_ROOTS)
    while waiting:
        name = waiting.pop()
        path = None if name in modules else _file(name)
        if path is not None:
            modules[name] = path
            waiting.extend(_imported(path.read_text("utf-8")))
    missing = set(FOLD_ROOTS) - modules.keys()
    if missing:
        raise StreamsError(
            f"the sources of driftline's modules {sorted(missing)} are not below {PACKAGE_FOLDER}: without "
            "them it is unknown which code folds. Install driftline from its wheel or sources"
        )
    return modules


def _file(name: str) -> Path | None:
    """The file of a module of ours; None for anything else that an import may name."""
    root, *parts = name.split(".")
    if root != "driftline" or not parts or parts[0] not in PACKAGES:
        return None
    path = PACKAGE_FOLDER.joinpath(*parts)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imported(text: str) -> Iterator[str]:
    """All that import statements may mean: modules, their packages, and names that may be modules too."""
    for module, names, modules in _IMPORT.findall(text):
        if not module:
            yield from _NAME.findall(modules)
            continue
        parts = module.split(".")
        yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        yield from (f"{module}.{name}" for name in _NAME.findall(names))
