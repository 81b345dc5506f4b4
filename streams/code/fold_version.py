"""The version of driftline's own fold, which is part of a case's code.

A release records the version and the hash of its sources in `fold.json`. Two releases whose folds publish the
same bytes and keep the same states have the same version, so no upgrade is needed between them. A copy with
other sources (a patch, a development copy) has their hash in its version: it never continues from the states
of a release or of another copy. `python -m tests.golden` writes the record.
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
"""The modules that make the published bytes, and the estimators that declarations may use. These modules and
everything they import are the fold."""
PACKAGE_FOLDER = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("fold.json")

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|.*)|import[ \t]+(.*))", re.M)
_NAME = re.compile(r"[\w.]+")


class FoldRecord(msgspec.Struct, frozen=True):
    """The record of a release's fold: its version, the hash of its sources, and the digests of its outputs
    and states for each golden case, under the arithmetic named."""

    version: int
    sources: str
    arithmetic: str
    golden: dict[str, dict[str, str]]


def recorded() -> FoldRecord:
    """The record of the release that this copy is, or was made from."""
    return msgspec.json.decode(RECORD.read_bytes(), type=FoldRecord)


@cache
def fold_version() -> str:
    """The version of this fold: `3` as released, `3+0f2a9c41d07b` if the sources differ from the release."""
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
    """The files, by module name, of `FOLD_ROOTS` and all modules that they import, directly or not."""
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
    """The file of one of driftline's modules; None for any other name in an import, and for the root, which
    only says where its names are."""
    root, *parts = name.split(".")
    if root != "driftline" or not parts:
        return None
    path = PACKAGE_FOLDER.joinpath(*parts)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imported(text: str) -> Iterator[str]:
    """All names in import statements that may be modules: modules, their packages, and imported names."""
    for module, names, modules in _IMPORT.findall(text):
        if not module:
            yield from _NAME.findall(modules)
            continue
        parts = module.split(".")
        yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        yield from (f"{module}.{name}" for name in _NAME.findall(names))
