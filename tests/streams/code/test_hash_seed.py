"""The hash seed: pinned where driftline's commands run, reported where it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from driftline.streams.code.fingerprint import Fingerprint
from driftline.streams.code.hash_seed import VARIABLE, is_pinned
from tests.streams.code.test_fingerprint import fingerprint_under

CASES = str(Path(__file__).parents[2] / "cases")
LIBRARY = """
import json, warnings
from driftline.streams.simulation.simulate import simulate
from zones import zones
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    simulate(zones, limit=10)
print(json.dumps([str(one.message) for one in caught if one.category.__name__ == "HashSeedWarning"]))
"""


def run(*arguments: str, seed: str) -> str:
    """Standard output of a Python that was started under a hash seed."""
    environment = os.environ | {VARIABLE: seed, "PYTHONPATH": os.pathsep.join([CASES, *sys.path])}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_multiclass_models_put_out_the_same_bytes_under_any_outer_hash_seed() -> None:
    found = [
        json.loads(run("-m", "driftline", "simulate", "zones:zones", "--json", seed=seed))
        for seed in ("1", "2", "random")
    ]
    assert found[0]["labelled"] == 600
    assert len({json.dumps(one["digests"]) for one in found}) == 1


def test_a_command_keeps_its_process_arguments_and_input(tmp_path: Path) -> None:
    code = (
        "import os, sys; from driftline.streams.code.hash_seed import *; pin();"
        "print(os.getpid(), is_pinned(), sys.argv[1:], sys.stdin.read())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "a b", "c"],
        env=os.environ | {VARIABLE: "7"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        output, _ = process.communicate("input")
    assert output == f"{process.pid} True ['a b', 'c'] input\n"


def test_a_python_that_ignores_its_environment_goes_on_and_its_fingerprint_says_so() -> None:
    code = (
        "import sys; sys.path[:0] = " + repr(sys.path) + "; from driftline.streams.code.hash_seed import *;"
        "pin(); print(is_pinned(), bool(hashing()))"
    )
    assert run("-E", "-c", code, seed="0") == "False True\n"


def test_another_hash_seed_is_another_fingerprint() -> None:
    pinned, seven, eight = (fingerprint_under(PYTHONHASHSEED=seed) for seed in ("0", "7", "8"))
    assert pinned.hashing == ""
    assert len({pinned, seven, eight}) == 3
    assert seven == fingerprint_under(PYTHONHASHSEED="7")
    assert pinned.difference(seven) == "another hash seed (set PYTHONHASHSEED=0 before Python starts)"
    assert seven.short.startswith(f"{pinned.short}/hash seed ")


def test_a_fingerprint_that_was_recorded_before_hash_seeds_were_is_that_of_a_pinned_one() -> None:
    assert Fingerprint("3.11", "a", "b") == Fingerprint("3.11", "a", "b", "")


@pytest.mark.parametrize(("seed", "warnings"), [("0", 0), ("5", 1)])
def test_who_simulates_in_a_process_of_her_own_is_warned_of_another_hash_seed(
    seed: str, warnings: int
) -> None:
    messages = json.loads(run("-c", LIBRARY, seed=seed))
    assert len(messages) == warnings
    assert all("Set PYTHONHASHSEED=0 before Python starts" in message for message in messages)


def test_these_tests_fold_under_the_pinned_hash_seed() -> None:
    assert is_pinned()
