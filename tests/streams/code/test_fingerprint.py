"""The numeric fingerprint: stable here, another one where arithmetic is another."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

from driftline.streams.code.fingerprint import FOLDED, Fingerprint, numeric_fingerprint
from driftline.streams.code.fold_version import modules_of_the_fold

HERE = Fingerprint(python="3.11", arithmetic="aa" * 32, packages="bb" * 32)


def fingerprint_under(**environment: str) -> Fingerprint:
    """The fingerprint of another process, which must not have needed River for it."""
    code = (
        "import sys, msgspec; from driftline.streams.code.fingerprint import numeric_fingerprint;"
        "print(msgspec.json.encode(numeric_fingerprint()).decode());"
        "assert 'river' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return msgspec.json.decode(done.stdout, type=Fingerprint)


def cpu_has_fma() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and " fma " in cpuinfo.read_text()


needs_fma = pytest.mark.skipif(not cpu_has_fma(), reason="this CPU has no FMA, so there is nothing to mask")


def test_every_process_here_has_the_same_fingerprint() -> None:
    assert fingerprint_under() == numeric_fingerprint()


def test_it_names_this_python_and_is_computed_once() -> None:
    assert numeric_fingerprint().python == ".".join(platform.python_version_tuple()[:2])
    assert numeric_fingerprint() is numeric_fingerprint()


@needs_fma
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's libm can be masked")
def test_masking_fma_in_libm_changes_the_arithmetic_and_nothing_else() -> None:
    # the names of the masks changed with glibc 2.33; a name it does not know is ignored
    masked = fingerprint_under(GLIBC_TUNABLES="glibc.cpu.hwcaps=-AVX2,-FMA,-AVX2_Usable,-FMA_Usable")
    assert numeric_fingerprint().difference(masked) == "other arithmetic (libm or BLAS)"


@needs_fma
@pytest.mark.parametrize(
    "mask",
    [{"OPENBLAS_CORETYPE": "Nehalem"}, {"NPY_DISABLE_CPU_FEATURES": "X86_V3 AVX2 FMA3"}],
    ids=["BLAS", "numpy"],
)
def test_masking_fma_in_blas_or_numpy_changes_the_arithmetic_and_nothing_else(mask: dict[str, str]) -> None:
    assert numeric_fingerprint().difference(fingerprint_under(**mask)) == "other arithmetic (libm or BLAS)"


@pytest.mark.parametrize("threads", ["1", "2", "7"])
def test_the_number_of_blas_threads_is_not_part_of_it(threads: str) -> None:
    assert fingerprint_under(OPENBLAS_NUM_THREADS=threads) == numeric_fingerprint()


def test_another_version_of_a_package_required_by_a_requirement_changes_the_packages(tmp_path: Path) -> None:
    """scipy is River's requirement, not ours; its metadata is shadowed by a folder that comes first."""
    shadow = tmp_path / "scipy-0.0.1.dist-info"
    shadow.mkdir()
    (shadow / "METADATA").write_text("Metadata-Version: 2.1\nName: scipy\nVersion: 0.0.1\n\nread me\n")
    assert version("scipy") != "0.0.1"
    shadowed = fingerprint_under(PYTHONPATH=str(tmp_path))
    assert numeric_fingerprint().difference(shadowed) == "other package versions"


@pytest.mark.parametrize("name", ["unrelated", "ruff", "typer", "feast", "kafka-python", "rich"])
def test_a_package_that_no_fold_runs_is_no_part_of_it(tmp_path: Path, name: str) -> None:
    other = tmp_path / f"{name.replace('-', '_')}-0.0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
    assert fingerprint_under(PYTHONPATH=str(tmp_path)) == numeric_fingerprint()


def test_every_library_that_the_fold_imports_is_part_of_it() -> None:
    imported = {
        name.partition(".")[0]
        for path in modules_of_the_fold().values()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    libraries = imported - sys.stdlib_module_names - {"driftline"}
    assert {"msgspec", "river", "cryptography"} <= libraries
    assert libraries <= set(FOLDED)


def test_the_difference_is_said_in_words() -> None:
    assert HERE.difference(HERE) is None
    other = Fingerprint(python="3.12", arithmetic="cc" * 32, packages="dd" * 32)
    assert HERE.difference(other) == (
        "python 3.11 / 3.12, other arithmetic (libm or BLAS), other package versions"
    )


def test_it_is_short_for_people() -> None:
    assert str(HERE) == HERE.short == "3.11/aaaaaaaa/bbbbbbbb"
