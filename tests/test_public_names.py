"""The public package: every name resolves, nothing heavy is imported for it or for help."""

from __future__ import annotations

import subprocess
import sys

import driftline

HEAVY = ("river", "feast", "faust", "pandas", "aiokafka", "pyarrow")


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_every_public_name_resolves() -> None:
    for name in driftline.__all__:
        assert getattr(driftline, name) is not None


def test_declaring_a_case_and_the_clients_import_nothing_heavy() -> None:
    code = "from driftline.examples.flights import flights; from driftline.client import EventProducer"
    assert not modules_after(code).intersection(HEAVY)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['driftline', '--help']\n"
        "import driftline.infra.cli, contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    driftline.infra.cli.main()"
    )
    assert not modules_after(code).intersection((*HEAVY, "kafka", "numpy"))
