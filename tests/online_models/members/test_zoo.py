"""Every estimator of River's works as a member, or is refused with the reason, as docs/estimators.md says."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest

from driftline.bench.models.estimators import PAGE, EstimatorTrial, page

ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]


@pytest.fixture(scope="module")
def runs() -> list[list[EstimatorTrial]]:
    """What two processes found that were started under other hash seeds."""
    command = [sys.executable, "-W", "ignore", "-m", "driftline.bench.models.estimators", "--json"]
    started = [
        subprocess.Popen(command, env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed in ("1", "2")
    ]
    outputs = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    return [msgspec.json.decode(text, type=list[EstimatorTrial]) for text in outputs]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row.split("|")[1:3]))
def test_an_estimator_does_what_its_row_says(row: str, runs: list[list[EstimatorTrial]]) -> None:
    found, again = ({page([one]).splitlines()[-1]: one for one in run} for run in runs)
    assert found[row] == again[row]  # the digest of its answers too
    assert found[row].failures == 0
    assert (found[row].refused is None) == (found[row].digest is not None)


def test_every_estimator_has_its_row(runs: list[list[EstimatorTrial]]) -> None:
    assert page(runs[0]) == PAGE.read_text()
    assert len({one.estimator for one in runs[0]}) >= 57
