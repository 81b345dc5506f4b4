"""driftline's own code is part of what decides every byte: a patched copy is other code, a release that
changes no byte says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from driftline.streams.archive.epochs import Code, CodeEpoch
from driftline.streams.code.fingerprint import Fingerprint, numeric_fingerprint
from driftline.streams.code.fold_version import (
    PACKAGE_FOLDER,
    RECORD,
    FoldRecord,
    fold_version,
    modules_of_the_fold,
    recorded,
    sources_hash,
)

ARITHMETIC = Fingerprint("3.11", "b" * 64, "c" * 64)
IMPORTED = """\
import sys, driftline.online_models.members.reactions
import driftline.streams.fold.processor, driftline.streams.fold.inheritance
print(*(name for name in sys.modules if name.startswith("driftline.")))
"""
TOLD = "from driftline.streams.code.fold_version import fold_version; print(fold_version())"


def run(program: str, home: Path = PACKAGE_FOLDER) -> str:
    """What a process prints whose driftline lies in `home`."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env=os.environ | {"PYTHONPATH": str(home.parent)},
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of driftline, released as it lies here."""
    home = tmp_path / "driftline"
    shutil.copytree(PACKAGE_FOLDER, home)
    record = FoldRecord(7, sources_hash(), "", {})
    (home / RECORD.relative_to(PACKAGE_FOLDER)).write_bytes(msgspec.json.encode(record))
    return home


def test_every_module_that_the_fold_imports_is_part_of_it() -> None:
    assert set(run(IMPORTED).split()) <= modules_of_the_fold().keys()


def test_a_release_says_its_version_wherever_it_is_installed(copy: Path) -> None:
    assert run(TOLD, copy) == "7"


@pytest.mark.parametrize(
    "module",
    [
        "streams/fold/label_join.py",
        "features/state/windows/window.py",
        "online_models/members/reactions.py",
        "object_size.py",
    ],
)
def test_a_patched_copy_is_another_fold(copy: Path, module: str) -> None:
    with (copy / module).open("a") as source:
        source.write("PATCHED = True\n")
    assert run(TOLD, copy).startswith("7+")


def test_code_around_the_fold_is_no_part_of_it(copy: Path) -> None:
    with (copy / "streams" / "archiver.py").open("a") as source:
        source.write("PATCHED = True\n")
    assert run(TOLD, copy) == "7"


def test_another_fold_is_other_code_and_says_so() -> None:
    old, new = Code("a" * 64, ARITHMETIC, "7"), Code("a" * 64, ARITHMETIC, "7+0123456789ab")
    assert new.difference(old) == "another fold of driftline (7+0123456789ab / 7)"
    assert new.difference(new) is None
    assert new.short != old.short


def test_an_epoch_from_before_folds_were_recorded_is_read_and_is_other_code() -> None:
    written = (
        b'{"kind":"code","partition":0,"from_offset":3,"code":{"spec_hash":"%b","fingerprint":'
        b'{"python":"3.11","arithmetic":"%b","packages":"%b"}},"tails":{}}'
    ) % (b"a" * 64, b"b" * 64, b"c" * 64)
    epoch = msgspec.json.decode(written, type=CodeEpoch)
    assert msgspec.json.encode(epoch) == written
    difference = Code("a" * 64, ARITHMETIC, "7").difference(epoch.code)
    assert difference == "another fold of driftline (7 / not recorded)"


def test_what_is_recorded_of_this_fold_is_what_it_does() -> None:
    """Where the sources are those of the record, as they are in a release."""
    record = recorded()
    if "+" in fold_version():
        pytest.skip("the fold is being changed: `make fold` records it for a release")
    if record.arithmetic != str(numeric_fingerprint()):
        pytest.skip(f"recorded under {record.arithmetic}, this is {numeric_fingerprint()}")
    from tests.golden.cases import golden

    assert golden() == record.golden
